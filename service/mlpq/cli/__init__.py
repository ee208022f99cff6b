"""The command `mlpq`. Each command is a module, imported when it is used; heavy imports are inside their functions."""

from __future__ import annotations

import gc
import sys
from collections import Counter
from collections.abc import Sequence
from importlib import import_module
from typing import Any

import click

from mlpq import terminal
from mlpq.cli import completion, streams
from mlpq.errors import MlpqError, reason_of
from mlpq.settings import without_pydantic_plugins
from mlpq.version import VERSION

GARBAGE_THRESHOLD = 100_000  # objects
COMMANDS = (
    "cancel", "compare", "dashboard", "data", "db", "decide", "doctor", "errors", "experiments", "export", "jobs",
    "logs", "plan", "report", "results", "retry", "show", "sql", "submit", "verify", "watch", "worker", "workers",
)  # fmt: skip


class OneLineErrors(click.Group):
    """A group that prints errors of the user as one line on standard error, with exit status 2."""

    def main(self, *args: Any, **extra: Any) -> Any:
        terminal.guard()
        try:
            status = self._run(*args, **extra)
            streams.flush()
        except streams.OutputError as error:
            streams.discard()
            status = streams.CLOSED_PIPE if error.is_closed_pipe else _fail(str(error))
        sys.exit(status)

    def _run(self, *args: Any, **extra: Any) -> int:
        """The exit status of the command; raises OutputError where its output can't be written."""
        try:
            status = super().main(*args, **{**extra, "standalone_mode": False})
        except click.exceptions.NoArgsIsHelpError as error:
            click.echo(error.format_message())
            return 0
        except click.ClickException as error:
            context = getattr(error, "ctx", None)
            command = context.command_path if context else "mlpq"
            return _fail(f"{_text(error)} See {command} --help.")
        except streams.OutputError:
            raise
        except MlpqError as error:
            return _fail(str(error))
        except OSError as error:  # of a file that the command didn't expect to fail, as on a full disk
            return _fail(f"can't use {error.filename}: {reason_of(error)}" if error.filename else reason_of(error))
        except (click.Abort, KeyboardInterrupt):
            click.echo("stopped", err=True)
            return 130
        except SystemExit as done:
            return done.code if isinstance(done.code, int) else 0
        return status if isinstance(status, int) else 0

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        used = (cmd_name,) if cmd_name in COMMANDS else COMMANDS  # click suggests one that is similar
        for name in used:
            if name not in self.commands:
                command: click.Command = import_module(f"mlpq.cli.{name}").command
                completion.attach(command)
                self.add_command(command)
        return super().get_command(ctx, cmd_name)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        for argument in args:
            if not argument.isascii() and any("\ud800" <= character <= "\udfff" for character in argument):
                raise click.UsageError(f"The argument '{argument}' is not UTF-8 text.", ctx)
        return super().parse_args(ctx, args)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name, command, rest = super().resolve_command(ctx, args)
        if command is not None:
            _refuse_repeats(click.Context(command, ctx, command.name), rest)
        return name, command, rest


def _refuse_repeats(ctx: click.Context, args: Sequence[str]) -> None:
    """Raise UsageError for an option that takes one value and is given twice: click would take the last."""
    if isinstance(ctx.command, click.Group) and args and (inner := ctx.command.commands.get(args[0])) is not None:
        _refuse_repeats(click.Context(inner, ctx, inner.name), args[1:])
        return
    takers = {
        name: option
        for option in ctx.command.params
        if isinstance(option, click.Option) and not option.is_flag and not option.count
        for name in option.opts
    }
    given: Counter[str] = Counter()
    remaining = iter(args)
    for argument in remaining:
        if argument == "--":
            break
        name, equals, _ = argument.partition("=") if argument.startswith("--") else (argument[:2], argument[2:], "")
        option = takers.get(name)
        if option is None:
            continue
        if not equals:
            next(remaining, None)  # its value, which may look like an option
        given[name] += 1
        if given[name] > 1 and not option.multiple:
            raise click.UsageError(f"Option '{name}' is given twice and takes one value.", ctx)


def _text(error: click.ClickException) -> str:
    """Click's message in one line; for an option with another name elsewhere, as --learning-rate, with ours."""
    if isinstance(error, click.NoSuchOption):
        from mlpq.spec.sweep import OTHER_NAMES, option

        key = OTHER_NAMES.get(error.option_name.lstrip("-").replace("-", "_").lower())
        if key:
            return f"No such option '{error.option_name}'. Did you mean '{option(key)}'?"
    return " ".join(error.format_message().split())


def _fail(message: str) -> int:
    click.echo(f"mlpq: {' '.join(message.split())}", err=True)
    return 2


@click.group(cls=OneLineErrors, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(VERSION, prog_name="mlpq")
def cli() -> None:
    """Train multilayer perceptrons through a job queue, and compare optimizers fairly.

    Without configuration mlpq uses SQLite and an embedded queue on this machine. With MLPQ_DATABASE_URL and
    MLPQ_BROKER_URL the same commands use PostgreSQL and Redis.
    """


def main() -> None:
    """The entry point of the command `mlpq`."""
    # Imports make many objects and hardly any garbage, for which Python by default looks again and again meanwhile.
    gc.set_threshold(GARBAGE_THRESHOLD)
    without_pydantic_plugins()
    streams.set_up()
    cli(prog_name="mlpq")
