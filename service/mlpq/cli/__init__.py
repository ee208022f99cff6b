"""The command `mlpq`. Each command is a module; heavy imports are inside the functions, so that --help is fast."""

from __future__ import annotations

import sys
from typing import Any

import click

from mlpq import __version__
from mlpq.cli import (
    cancel,
    compare,
    dashboard,
    data,
    db,
    doctor,
    export,
    jobs,
    logs,
    plan,
    report,
    results,
    retry,
    show,
    sql,
    submit,
    verify,
    watch,
    worker,
    workers,
)
from mlpq.errors import MlpqError


class OneLineErrors(click.Group):
    """A group that prints errors of the user as one line on standard error, with exit status 2."""

    def main(self, *args: Any, **extra: Any) -> Any:
        try:
            status = super().main(*args, **{**extra, "standalone_mode": False})
        except click.exceptions.NoArgsIsHelpError as error:
            click.echo(error.format_message())
            sys.exit(0)
        except click.ClickException as error:
            context = getattr(error, "ctx", None)
            command = context.command_path if context else "mlpq"
            _fail(f"{' '.join(error.format_message().split())} See {command} --help.")
        except MlpqError as error:
            _fail(str(error))
        except (click.Abort, KeyboardInterrupt):
            click.echo("stopped", err=True)
            sys.exit(130)
        except BrokenPipeError:  # the reader of the output, such as head, has exited
            sys.stderr.close()
            sys.exit(141)
        sys.exit(status if isinstance(status, int) else 0)


def _fail(message: str) -> None:
    click.echo(f"mlpq: {' '.join(message.split())}", err=True)
    sys.exit(2)


@click.group(cls=OneLineErrors, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="mlpq")
def cli() -> None:
    """Train multilayer perceptrons through a job queue, and compare optimizers fairly.

    Without configuration mlpq uses SQLite and an embedded queue on this machine. With MLPQ_DATABASE_URL and
    MLPQ_BROKER_URL the same commands use PostgreSQL and Redis.
    """


for module in (
    submit,
    watch,
    jobs,
    show,
    logs,
    results,
    compare,
    plan,
    report,
    verify,
    export,
    sql,
    cancel,
    retry,
    worker,
    workers,
    dashboard,
    data,
    db,
    doctor,
):
    cli.add_command(module.command)


def main() -> None:
    """The entry point of the command `mlpq`."""
    cli(prog_name="mlpq")
