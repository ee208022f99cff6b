"""The benchmarks of docs/explanation/benchmarks.md, one after another, into that page: `make bench`.

Takes about half an hour.

    python -m benchmarks [NAME…]

With names, only those run; the other sections of the page stay.
"""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
REPORT = ROOT / "docs" / "explanation" / "benchmarks.md"
SECTIONS = {
    "gangs": "Gangs",
    "kernel": "The kernel",
    "formula": "Formulas",
    "sizes": "How large a gang",
    "tuners": "A sweep, compared with other tools and libraries",
    "overhead": "The queue",
    "submission": "Submitting jobs",
    "commands": "Commands",
    "gpu": "On a GPU",
}
INTRODUCTION = """# Benchmarks

Each section has a script in `benchmarks/` that measures all alternatives in one run; `make bench` runs these scripts
and writes this page. [Scale](scale.md) and [Statistics](statistics.md#measured) name theirs, which `make bench` does
not run. Shared virtual machines are noisy: rely on the ratios, not on the seconds. Each row gives its range.
"""


def section(name: str) -> str:
    """Run one script and print its output; returns its section of the page."""
    print(f"# {SECTIONS[name]}", file=sys.stderr, flush=True)
    done = subprocess.run(
        [sys.executable, "-m", f"benchmarks.{name}"], cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True
    )
    print(done.stdout, file=sys.stderr, flush=True)
    return f"## {SECTIONS[name]}\n\n{about(name)}\n\n{datetime.now(UTC):%Y-%m-%d}, {done.stdout.strip()}\n"


def about(name: str) -> str:
    """The script's docstring without its usage."""
    spec = importlib.util.find_spec(f"benchmarks.{name}")
    assert spec is not None
    assert spec.origin is not None
    text = re.search(r'"""(.*?)"""', Path(spec.origin).read_text(), flags=re.DOTALL)
    assert text is not None
    description = text[1].partition("    python -m")[0].strip()
    return f"`python -m benchmarks.{name}`. {description}"


def main(names: list[str]) -> None:
    old = re.split(r"^## ", REPORT.read_text(), flags=re.MULTILINE)[1:] if REPORT.exists() else []
    kept = {part.partition("\n")[0]: f"## {part.rstrip()}\n" for part in old}
    for name in names or SECTIONS:
        found = section(name)
        if "Not run:" not in found or SECTIONS[name] not in kept:  # figures of another machine stay
            kept[SECTIONS[name]] = found
    parts = [kept[title] for title in SECTIONS.values() if title in kept]
    REPORT.write_text("\n".join([INTRODUCTION, *parts]))


if __name__ == "__main__":
    main(sys.argv[1:])
