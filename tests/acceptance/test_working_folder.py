"""Python files in the folder where a command is started: no child of mlpq imports them."""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.installations import Done, Site

QUICK = ("--dataset", "digits", "--epochs", 1)


@pytest.fixture
def trap(alone: Site) -> Path:
    """A file that any module of the working folder writes to, if it is imported. There is one of each known name."""
    caught = alone.folder / "imported.txt"
    names = {*sys.stdlib_module_names, *importlib.metadata.packages_distributions(), "celeryconfig", "sitecustomize"}
    for name in names:
        if name.isidentifier():
            (alone.folder / f"{name}.py").write_text(f"open({str(caught)!r}, 'a').write({name!r} + ' ')\n")
    return caught


def mlpq(site: Site, *arguments: object) -> Done:
    """As the installed script, which does not import from the working folder either."""
    command = [sys.executable, "-P", "-m", "mlpq.cli", *map(str, arguments)]
    done = subprocess.run(command, cwd=site.folder, env=site.environ(), capture_output=True, text=True, timeout=120)
    return Done(done.returncode, done.stdout, done.stderr)


@pytest.mark.parametrize(
    "arguments",
    [
        ("submit", *QUICK, "--wait"),
        ("submit", *QUICK, "--wait", "--world-size", 2),
        ("doctor",),
        ("data", "fetch", "kmnist"),
    ],
    ids=["worker", "ranks", "doctor", "data"],
)
def test_children_import_nothing_from_the_working_folder(
    alone: Site, trap: Path, arguments: tuple[object, ...]
) -> None:
    done = mlpq(alone, *arguments)
    assert not trap.exists(), trap.read_text()
    assert "Traceback" not in done.err
    if arguments[0] == "submit":
        assert done.status == 0, done.err
