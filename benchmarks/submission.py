"""How fast jobs are filed, and how much a full table slows the list: 10,000 jobs in one command.

Runs the real `mlpq` over whatever MLPQ_DATABASE_URL and MLPQ_BROKER_URL name (the embedded default without them), in an
experiment of its own, and prints medians and ratios over the repetitions:

    python benchmarks/submission.py [REPETITIONS]
"""

from __future__ import annotations

import os
import platform
import statistics
import subprocess
import sys
import time
import uuid

JOBS = 10_000


def seconds(*arguments: str) -> float:
    """Wall-clock time of one `mlpq` command, its start included."""
    began = time.perf_counter()
    subprocess.run([sys.executable, "-m", "mlpq.cli", *arguments], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began


def line(name: str, times: list[float]) -> float:
    """Print median and range; answers the median."""
    median = statistics.median(times)
    print(f"{name:34} {median:6.2f} s   ({min(times):.2f} to {max(times):.2f}, n = {len(times)})")
    return median


def main(repetitions: int) -> None:
    experiments = [f"benchmark-{uuid.uuid4().hex[:8]}" for _ in range(repetitions)]
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}")
    listed_before = line("mlpq jobs, before", [seconds("jobs") for _ in experiments])
    one = line("submit 1 job", [seconds("submit", "--experiment", f"{name}-one") for name in experiments])
    many = line(
        f"submit {JOBS:,} jobs",
        [seconds("submit", "--experiment", name, "--seeds", f"0..{JOBS - 1}") for name in experiments],
    )
    listed_after = line("mlpq jobs, after", [seconds("jobs") for _ in experiments])
    for name in experiments:
        seconds("cancel", name)
        seconds("cancel", f"{name}-one")
    print(f"rows a second, command start included: {JOBS / many:,.0f}; without it: {JOBS / (many - one):,.0f}")
    print(
        f"ratio of 10,000 jobs to 1: {many / one:.1f}; of the list after to before: {listed_after / listed_before:.2f}"
    )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 5)
