"""Every command has help and is documented."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator

import click
import pytest

from mlpq.cli import cli
from tests.support.installations import ROOT, Site

README = ROOT / "README.md"


def commands(group: click.Group, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """All commands without the groups, with their names."""
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands(command, (*path, name))
        else:
            yield (*path, name), command


ALL = dict(commands(cli))


def test_documented_commands_exist() -> None:
    assert {" ".join(names) for names in ALL} >= {
        "submit", "worker", "jobs", "show", "logs", "watch", "cancel", "retry", "results", "db upgrade", "db current",
        "data list", "data fetch", "data import", "doctor", "compare", "plan", "report", "verify", "export",
    }  # fmt: skip


@pytest.mark.parametrize("names", ALL, ids=" ".join)
def test_command_and_its_options_have_help(names: tuple[str, ...]) -> None:
    command = ALL[names]
    assert command.help
    assert command.get_short_help_str(limit=200).endswith(".")
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            assert parameter.help or parameter.name in ("format_", "help"), parameter.name


@pytest.mark.parametrize("names", ALL, ids=" ".join)
def test_command_is_documented(names: tuple[str, ...]) -> None:
    texts = [README, *(ROOT / "docs").rglob("*.md")]
    assert any(f"mlpq {' '.join(names)}" in text.read_text() for text in texts)


def test_every_option_of_submit_is_documented() -> None:
    text = (ROOT / "docs" / "reference" / "spec-file.md").read_text()
    for parameter in ALL[("submit",)].params:
        for option in parameter.opts:
            if option.startswith("--") and option != "--format":
                assert f"`{option}" in text, option


def test_help_lists_every_command(alone: Site) -> None:
    shown = alone.mlpq("--help").out
    for names in ALL:
        assert re.search(rf"^  {names[0]} ", shown, re.MULTILINE), names
    assert alone.mlpq("submit", "--help").out.startswith("Usage: mlpq submit [OPTIONS] [FILE]")
    assert "Usage: mlpq" in alone.mlpq(status=None).out
    assert alone.mlpq("--version").out.startswith("mlpq, version ")


def test_help_loads_nothing_heavy(alone: Site) -> None:
    run = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "mlpq.cli", "--help"],
        capture_output=True, text=True, check=True, env=alone.environ(),
    )  # fmt: skip
    loaded = {line.rpartition("|")[2].strip().split(".")[0] for line in run.stderr.splitlines() if "|" in line}
    assert "click" in loaded
    assert not loaded & {"torch", "sqlalchemy", "celery", "pydantic", "rich", "numpy"}
