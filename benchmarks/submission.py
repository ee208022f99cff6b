"""How fast jobs are submitted, 10,000 in one command, and how much a full table slows down listing them.

Runs the real `mlpq` over PostgreSQL and Redis; each time includes the startup of the command.

    python -m benchmarks.submission [REPETITIONS]
"""

from __future__ import annotations

import statistics
import sys
import time
from functools import partial

from .overhead import mlpq, site
from .report import machine, repeat, spread, table, versions

JOBS = 10_000


def seconds(env: dict[str, str], *arguments: str) -> float:
    """Wall-clock time of one `mlpq` command, its start included."""
    began = time.perf_counter()
    mlpq(env, *arguments)
    return time.perf_counter() - began


def main(repetitions: int) -> None:
    print(f"{machine()}, {versions('sqlalchemy', 'celery', 'redis')}\n")
    with site(worker=False) as (env, _):
        run = partial(seconds, env)
        took = {"`mlpq jobs`, empty table": repeat(repetitions, partial(run, "jobs"))}
        took["`mlpq submit`, 1 job"] = [run("submit", "--experiment", f"one-{i}") for i in range(repetitions)]
        took[f"`mlpq submit`, {JOBS:,} jobs"] = [
            run("submit", "--experiment", f"many-{i}", "--seeds", f"0..{JOBS - 1}") for i in range(repetitions)
        ]
        took[f"`mlpq jobs`, {repetitions * JOBS:,} jobs in the table"] = repeat(repetitions, partial(run, "jobs"))
    print(table(("", "n", "median s", "range"), [(name, *spread(times)) for name, times in took.items()]))
    empty, one, many, full = (statistics.median(times) for times in took.values())
    print(f"\nRows per second: {JOBS / many:,.0f} with the start of the command, {JOBS / (many - one):,.0f} without.")
    print(f"{JOBS:,} jobs take {many / one:.1f} times as long as one; the list, {full / empty:.2f} times.")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 5)
