"""What every benchmark prints: the machine, the versions, and Markdown tables of medians with their range and n."""

from __future__ import annotations

import os
import platform
import statistics
from collections.abc import Callable, Iterable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")


def machine() -> str:
    """One line: processor, cores, how busy it is now, Python."""
    cores, load = os.cpu_count(), os.getloadavg()[0]
    return f"{_processor()}, {cores} cores (load {load:.1f} at the start), Python {platform.python_version()}"


def versions(*packages: str) -> str:
    """One line: the installed versions of the packages."""
    return ", ".join(f"{package} {version(package)}" for package in packages)


def repeat(n: int, run: Callable[[], T]) -> list[T]:
    return [run() for _ in range(n)]


def spread(values: Sequence[float], form: str = ".2f") -> tuple[str, str, str]:
    """The cells n, median, and least to most."""
    low, high = min(values), max(values)
    return str(len(values)), f"{statistics.median(values):{form}}", f"{low:{form}} to {high:{form}}"


def cpu(seconds: Sequence[float | None], form: str) -> str:
    """The cell of the median of the CPU seconds, where they are known."""
    known = [each for each in seconds if each is not None]
    return f"{statistics.median(known):{form}}" if known else "–"


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())
