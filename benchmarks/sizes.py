"""Seconds per job and memory against the gang's size, and tiny jobs through the whole queue.

Training is one epoch on Fashion-MNIST in a fresh process; memory is what its peak adds to the process with the data
loaded. The queue is PostgreSQL and Redis with one worker, `mlpq worker --gang N`, and jobs of one epoch on `digits`.

    python -m benchmarks.sizes [REPETITIONS]
"""

from __future__ import annotations

import json
import resource
import statistics
import subprocess
import sys
from pathlib import Path

from .gangs import gang
from .overhead import site, throughput, warm_worker
from .report import machine, spread, table, versions
from .workload import RATES, data, specs

SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
CLAIMS = (1, 4, 16, 64, 256)
JOBS = 500


def one_gang(optimizer: str, size: int) -> tuple[float, float]:
    """Seconds per job, and the megabytes that training adds, in this process."""
    data()
    gang(specs(optimizer, RATES[optimizer], 1, [0]))  # what is imported and made once
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    run = gang(specs(optimizer, RATES[optimizer], 1, range(size)))
    return run.seconds, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024


def fresh(optimizer: str, size: int) -> tuple[float, float]:
    command = [sys.executable, "-m", "benchmarks.sizes", optimizer, str(size)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, cwd=Path(__file__).parents[1])
    seconds, megabytes = json.loads(done.stdout)
    return seconds, megabytes


def training(repetitions: int) -> str:
    rows = []
    for size in SIZES:
        cells = [str(size)]
        for optimizer in RATES:
            runs = [fresh(optimizer, size) for _ in range(repetitions)]
            cells += [*spread([seconds for seconds, _ in runs], ".3f"), f"{max(memory for _, memory in runs):.0f}"]
        rows.append(cells)
    heads = [head.format(name) for name in RATES for head in ("n", "{}, s per job", "range", "MB added")]
    return table(("jobs in the gang", *heads), rows)


def queue(repetitions: int) -> str:
    rows = []
    with site(worker=False) as (env, store):
        for size in CLAIMS:
            with warm_worker(env, "--gang", str(size)):
                seconds = [throughput(env, store, f"gang-{size}-{i}", JOBS) for i in range(repetitions)]
            rates = [JOBS / each for each in seconds]
            rows.append((str(size), *spread(rates, ".0f"), f"{1e3 * statistics.median(seconds) / JOBS:.1f}"))
    return table(("--gang", "n", "jobs per second", "range", "ms per job"), rows)


def main(repetitions: int) -> None:
    print(f"{machine()}, {versions('torch', 'celery', 'redis', 'sqlalchemy')}\n")
    print(training(repetitions) + "\n")
    print(queue(repetitions))


if __name__ == "__main__":
    if sys.argv[1:2] and sys.argv[1] in RATES:
        print(json.dumps(one_gang(sys.argv[1], int(sys.argv[2]))))
    else:
        main(int(sys.argv[1]) if len(sys.argv) > 1 else 3)
