"""All benchmarks, one after another, into docs/benchmarks.md: `make bench`. Takes about half an hour.

    python -m benchmarks [NAME…]

With names, only those run, and what the file says of the others stays.
"""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
REPORT = ROOT / "docs" / "benchmarks.md"
SECTIONS = {
    "gangs": "Gangs",
    "sizes": "How large a gang",
    "tuners": "A sweep, beside Ray Tune and Optuna",
    "overhead": "The queue",
    "submission": "Filing jobs",
    "gpu": "On a GPU",
}
INTRODUCTION = """# Benchmarks

Each claim has a script in `benchmarks/` that runs all sides in turn, in one run; `make bench` runs them all and writes
this page. Shared virtual machines are noisy: the ratios count, not the seconds, and each row says its range.
"""


def section(name: str) -> str:
    """Run one script, shown while it runs; its part of the page."""
    print(f"# {SECTIONS[name]}", file=sys.stderr, flush=True)
    done = subprocess.run(
        [sys.executable, "-m", f"benchmarks.{name}"], cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True
    )
    print(done.stdout, file=sys.stderr, flush=True)
    return f"## {SECTIONS[name]}\n\n{about(name)}\n\n{datetime.now(UTC):%Y-%m-%d}, {done.stdout.strip()}\n"


def about(name: str) -> str:
    """What the script's own text says, but for how to call it."""
    spec = importlib.util.find_spec(f"benchmarks.{name}")
    assert spec is not None
    assert spec.origin is not None
    text = re.search(r'"""(.*?)"""', Path(spec.origin).read_text(), flags=re.DOTALL)
    assert text is not None
    words = text[1].partition("    python -m")[0].strip()
    return f"`python -m benchmarks.{name}`. {words}"


def main(names: list[str]) -> None:
    old = re.split(r"^## ", REPORT.read_text(), flags=re.MULTILINE)[1:] if REPORT.exists() else []
    kept = {part.partition("\n")[0]: f"## {part.rstrip()}\n" for part in old}
    for name in names or SECTIONS:
        kept[SECTIONS[name]] = section(name)
    parts = [kept[title] for title in SECTIONS.values() if title in kept]
    REPORT.write_text("\n".join([INTRODUCTION, *parts]))


if __name__ == "__main__":
    main(sys.argv[1:])
