"""How fast jobs are claimed and results recorded, as the table and the number of workers grow.

Simulated workers over PostgreSQL run the SQL of real ones, gang after gang, and train nothing: only the database and
its clients are measured, both on this machine. A long queue comes on top of the finished jobs. What PostgreSQL commits
is durable, as in a deployment.

    python -m benchmarks.scale [REPETITIONS]
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import astuple

from sqlalchemy import text

from mlpq.dashboard.metrics import metrics
from mlpq.store import claiming, execution, worker_queries
from mlpq.store.session import Store

from .report import machine, spread, table, versions
from .simulation import CAPABILITIES, Filled, Rates, database, run

SIZES = (1_000, 10_000, 100_000, 1_000_000)  # finished jobs
WORKERS = (1, 4, 16, 64)
GANGS = (1, 64)
SECONDS = 2.0
QUEUE = 15_000
LONG_QUEUE = 1_000_000


def rates(url: str, filled: Filled, gang: int, workers: int, repetitions: int) -> list[Rates]:
    """Each repetition starts from the same queue: the jobs of the run before are removed."""
    found = []
    for _ in range(repetitions):
        filled.add(filled.waiting, QUEUE)
        filled.settle()
        found.append(run(url, workers, gang, SECONDS))
        filled.remove_added(QUEUE)
    return found


def line(jobs: int, gang: int, workers: int, found: list[Rates]) -> tuple[str, ...]:
    results = spread([each.results for each in found], ",.0f")
    _, *calls, in_database = (statistics.median(times) for times in zip(*map(astuple, found), strict=True))
    return (f"{jobs:,}", str(gang), str(workers), *results, *(f"{ms:,.0f}" for ms in calls), f"{in_database:.2f}")


def calls(store: Store) -> dict[str, Callable[[], object]]:
    """Calls that idle workers, waiting users and a Prometheus server repeat."""
    return {
        "an idle worker looks for a job": lambda: claiming.next_setup(store, "idle:1:a", CAPABILITIES),
        "a worker's heartbeat": lambda: execution.worker_heartbeat(store, "idle:1:a", CAPABILITIES),
        "a worker looks for expired leases": lambda: execution.requeue_expired(store),
        "jobs without a worker": lambda: worker_queries.jobs_without_worker(store),
        "`/metrics`": lambda: metrics(store),
    }


def shares(store: Store) -> Iterator[tuple[str, ...]]:
    """Milliseconds of a worker's query for its fair share, by the number of live workers."""
    alive = 0
    for workers in (10, 100, 1000):
        for number in range(alive, workers):
            execution.worker_heartbeat(store, f"idle-{number}:1:a", CAPABILITIES)
        alive = workers
        times = milliseconds(lambda: worker_queries.fair_share(store, "cpu", 64))
        yield (f"{workers:,}", *spread(times, ".1f"))


def sizes(store: Store, jobs: int) -> Iterator[tuple[str, str, str]]:
    """Bytes a finished job of two epochs takes, by table, without and with the indexes."""
    for name in ("jobs", "attempts", "epochs", "job_results", "result_images"):
        with store.read() as connection:
            query = text("SELECT pg_table_size(:name), pg_indexes_size(:name)")
            rows, indexes = connection.execute(query, {"name": name}).one()
        yield name, f"{rows / jobs:,.0f}", f"{(rows + indexes) / jobs:,.0f}"


def milliseconds(call: Callable[[], object], n: int = 15) -> list[float]:
    found = []
    for _ in range(n):
        began = time.perf_counter()
        call()
        found.append(1000 * (time.perf_counter() - began))
    return found


def main(repetitions: int) -> None:
    print(f"{machine()}, {versions('sqlalchemy', 'psycopg')}, PostgreSQL on the same machine\n")
    rows, asked, size = [], [], 0
    with database() as url:
        store = Store(url)
        filled = Filled(store)
        for jobs in SIZES:
            filled.add(filled.done, jobs - size)
            size = jobs
            store.close()  # the simulated workers are forks, and must not share its connections
            for gang in GANGS:
                for workers in WORKERS:
                    rows.append(line(jobs, gang, workers, rates(url, filled, gang, workers, repetitions)))
                    print(rows[-1], file=sys.stderr, flush=True)
            filled.settle()
            asked += [(f"{jobs:,}", name, *spread(milliseconds(call), ".1f")) for name, call in calls(store).items()]
        bytes_each = list(sizes(store, size))
        filled.add(filled.waiting, LONG_QUEUE)
        filled.settle()
        store.close()
        long = [run(url, workers, 64, SECONDS) for workers in WORKERS for _ in range(repetitions)]
        shared = list(shares(store))
    header = (
        "finished jobs", "gang", "workers", "n", "results per second", "range", "claim, ms", "record, ms",
        "in the database, ms per job",
    )  # fmt: skip
    print(table(header, rows))
    print("\nA queue of a million jobs behind a million finished ones:\n")
    each = [long[i : i + repetitions] for i in range(0, len(long), repetitions)]
    print(table(header, [line(size, 64, w, found) for w, found in zip(WORKERS, each, strict=True)]))
    print("\nOne call, in milliseconds:\n")
    print(table(("finished jobs", "call", "n", "median", "range"), asked))
    print("\nA worker's query for its fair share of the long queue, in milliseconds:\n")
    print(table(("live workers", "n", "median", "range"), shared))
    print(f"\nBytes a finished job, of {size:,} with two epochs each:\n")
    print(table(("table", "rows", "with indexes"), bytes_each))


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 3)
