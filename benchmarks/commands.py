"""How long commands take that people type all day, beside an older revision, in one run.

    python -m benchmarks.commands [--base REVISION] [--rounds N]

Each round runs every command with the code of the base and with this one's, in turns, in the same environment. The base
is checked out into a temporary folder. Printed are the medians of the wall time, with the quartiles, and their ratio.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parents[1]
BASE = "97f35c3"  # before Celery and torch were left out where they are not needed
FOLDERS = ("service", "workers", "migrations")
KERNEL = "workers/mlpq_workers/kernel/libmlpq_kernel.so"
COMMANDS: Mapping[str, Sequence[str]] = {
    "jobs": ["jobs", "first"],
    "results": ["results", "first"],
    "submit, one job": ["submit", "--dataset", "digits", "--experiment", "second", "--again"],
    "doctor": ["doctor"],
}


def run(code: Path, home: Path, arguments: Sequence[str]) -> float:
    """Seconds that a command takes with that code."""
    path = os.pathsep.join(str(code / folder) for folder in FOLDERS)
    environment = {**os.environ, "PYTHONPATH": path, "MLPQ_HOME": str(home)}
    began = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "mlpq.cli", *arguments], env=environment, cwd=home, capture_output=True, text=True
    )
    seconds = time.perf_counter() - began
    if done.returncode:
        raise SystemExit(f"mlpq {' '.join(arguments)} failed: {done.stderr}")
    return seconds


def check_out(revision: str, folder: Path) -> None:
    """The tracked files of a revision, and the kernel that is compiled here."""
    archive = subprocess.run(["git", "archive", revision], cwd=ROOT, capture_output=True, check=True)
    subprocess.run(["tar", "-x", "-C", str(folder)], input=archive.stdout, check=True)
    if (ROOT / KERNEL).exists():
        (folder / KERNEL).write_bytes((ROOT / KERNEL).read_bytes())


def fill(code: Path, home: Path) -> None:
    """Twenty queued jobs; the first run of each command compiles the modules."""
    home.mkdir()
    run(code, home, ["submit", "--dataset", "digits", "--experiment", "first", "--seeds", "0..19"])
    for arguments in COMMANDS.values():
        run(code, home, arguments)


def quartiles(seconds: Sequence[float]) -> str:
    low, middle, high = statistics.quantiles(seconds, n=4)
    return f"{middle:.2f} s ({low:.2f} to {high:.2f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--base", default=BASE, help="the older revision")
    parser.add_argument("--rounds", type=int, default=11)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "code").mkdir()
        check_out(given.base, folder / "code")
        sides = {given.base: (folder / "code", folder / "before"), "now": (ROOT, folder / "after")}
        for side in sides.values():
            fill(*side)
        times: dict[str, dict[str, list[float]]] = {command: {name: [] for name in sides} for command in COMMANDS}
        for _ in range(given.rounds):
            for command, arguments in COMMANDS.items():
                for side, (code, home) in sides.items():
                    times[command][side].append(run(code, home, arguments))
    table = Table("command", given.base, "now", "ratio", title=f"wall time, median (quartiles), n = {given.rounds}")
    for command, found in times.items():
        before, after = found[given.base], found["now"]
        ratio = statistics.median(after) / statistics.median(before)
        table.add_row(command, quartiles(before), quartiles(after), f"{ratio:.2f}")
    Console().print(table)
    print("load average:", *(f"{load:.1f}" for load in os.getloadavg()), "on", os.cpu_count(), "cores")


if __name__ == "__main__":
    main()
