"""Every command has help."""

from __future__ import annotations

import re
import subprocess
import sys

import click
import pytest

from tests.support.command_tree import COMMANDS
from tests.support.installations import Site


def test_commands_exist() -> None:
    assert {" ".join(names) for names in COMMANDS} >= {
        "submit", "worker", "jobs", "show", "logs", "watch", "cancel", "retry", "results", "db upgrade", "db current",
        "data list", "data fetch", "data import", "doctor", "compare", "plan", "report", "verify", "export",
    }  # fmt: skip


@pytest.mark.parametrize("names", COMMANDS, ids=" ".join)
def test_command_and_its_options_have_help(names: tuple[str, ...]) -> None:
    command = COMMANDS[names]
    assert command.help
    assert command.get_short_help_str(limit=200).endswith(".")
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            assert parameter.help or parameter.name in ("format_", "help"), parameter.name


def test_help_lists_every_command(alone: Site) -> None:
    shown = alone.mlpq("--help").out
    for names in COMMANDS:
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
