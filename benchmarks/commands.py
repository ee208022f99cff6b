"""How long the commands take that people type all day, beside an older revision.

Each round runs every command with the code of the base and with this one's, in turns, and in between Python with
nothing but the libraries that every command imports, and with none: no command can take less than they do. Modules are
compiled before. CPU time is of all processes of a command: other programs on the machine affect it less than the
time by the clock.

    python -m benchmarks.commands [--base REVISION] [--rounds N]
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from mlpq.cli import GARBAGE_THRESHOLD

from .report import machine, table, versions

ROOT = Path(__file__).resolve().parents[1]
BASE = "97f35c3"  # before Celery and torch were left out where they are not needed
FOLDERS = ("service", "workers", "migrations")
KERNEL = "workers/mlpq_workers/kernel/libmlpq_kernel.so"
COMMANDS: Mapping[str, Sequence[str]] = {
    "`jobs`, 20 jobs": ["jobs", "first"],
    "`results`, 20 jobs": ["results", "first"],
    "`submit`, one job": ["submit", "--dataset", "digits", "--experiment", "second", "--again"],
    "`doctor`": ["doctor"],
}
SQL = f"import gc; gc.set_threshold({GARBAGE_THRESHOLD}); import sqlalchemy.dialects.sqlite"
FLOORS = {
    "Python": "pass",
    "Python, SQLAlchemy for SQLite": SQL,
    "Python, SQLAlchemy for SQLite, click, pydantic, rich": f"{SQL}, click, rich.console, rich.table\n"
    "from pydantic import BaseModel\nclass Model(BaseModel): x: int",
}


class Took(NamedTuple):
    """Seconds of the processor and by the clock."""

    cpu: float
    wall: float


def run(arguments: Sequence[str], code: Path, home: Path) -> Took:
    """What Python takes with these arguments and that code."""
    path = os.pathsep.join(str(code / folder) for folder in FOLDERS)
    environment = {**os.environ, "PYTHONPATH": path, "MLPQ_HOME": str(home)}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run([sys.executable, *arguments], env=environment, cwd=home, capture_output=True, text=True)
    wall, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise SystemExit(f"{' '.join(arguments)} failed with the code in {code}: {done.stdout}{done.stderr}")
    return Took(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, wall)


def mlpq(code: Path, home: Path, arguments: Sequence[str]) -> Took:
    return run(["-m", "mlpq.cli", *arguments], code, home)


def check_out(revision: str, folder: Path) -> None:
    """The tracked files of a revision, and the kernel that is compiled here."""
    archive = subprocess.run(["git", "archive", revision], cwd=ROOT, capture_output=True, check=True)
    subprocess.run(["tar", "-x", "-C", str(folder)], input=archive.stdout, check=True)
    if (ROOT / KERNEL).exists():
        (folder / KERNEL).write_bytes((ROOT / KERNEL).read_bytes())


def fill(code: Path, home: Path) -> None:
    """Twenty queued jobs; the first run of each command compiles the modules."""
    home.mkdir()
    mlpq(code, home, ["submit", "--dataset", "digits", "--experiment", "first", "--seeds", "0..19"])
    for arguments in COMMANDS.values():
        mlpq(code, home, arguments)


def cells(seconds: Sequence[float]) -> list[str]:
    """The cells of the median, and of the quartiles."""
    low, middle, high = statistics.quantiles(seconds, n=4)
    return [f"{middle:.2f}", f"{low:.2f} to {high:.2f}"]


def ratio(after: Sequence[float], before: Sequence[float]) -> str:
    return f"{statistics.median(after) / statistics.median(before):.2f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--base", default=BASE, help="the older revision")
    parser.add_argument("--rounds", type=int, default=10)
    given = parser.parse_args()
    print(f"{machine()}, {versions('click', 'pydantic', 'rich', 'sqlalchemy')}; before is {given.base}\n")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        old = folder / "code"
        old.mkdir()
        check_out(given.base, old)
        before, after = folder / "before", folder / "after"
        fill(old, before)
        fill(ROOT, after)
        found: dict[str, tuple[list[Took], list[Took]]] = {command: ([], []) for command in COMMANDS}
        floors: dict[str, list[Took]] = {name: [] for name in FLOORS}
        for _ in range(given.rounds):
            for command, arguments in COMMANDS.items():
                found[command][0].append(mlpq(old, before, arguments))
                found[command][1].append(mlpq(ROOT, after, arguments))
            for name, program in FLOORS.items():
                floors[name].append(run(["-c", program], ROOT, after))
    for title, at in (("CPU seconds", 0), ("seconds by the clock", 1)):
        rows = []
        for command, sides in found.items():
            then, now = ([took[at] for took in side] for side in sides)
            rows.append([command, str(len(now)), *cells(then), *cells(now), f"**{ratio(now, then)}**"])
        for name, times in floors.items():
            rows.append([name, str(len(times)), "–", "–", *cells([took[at] for took in times]), "–"])
        print(table((title, "n", "before", "quartiles", "now", "quartiles", "ratio"), rows) + "\n")


if __name__ == "__main__":
    main()
