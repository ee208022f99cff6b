"""Simulated workers over PostgreSQL: they run the SQL of real workers and train nothing."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from multiprocessing.synchronize import Barrier
from typing import Any

import psycopg
from sqlalchemy import text

from mlpq.jobs import Engine
from mlpq.records import AttemptEnding, ClaimedJob, Placement
from mlpq.spec.sweep import Sweep
from mlpq.store import claiming, execution, migrate, submission, worker_queries
from mlpq.store.schema import metadata
from mlpq.store.session import Store
from mlpq.worker_records import WorkerCapabilities
from tests.support import job_steps
from tests.support.services import Postgres

CAPABILITIES = WorkerCapabilities("cpu")
SWEEP = {"dataset": "digits", "epochs": 2, "seeds": "1,2"}
EXPERIMENT_JOBS = 1000
WARM = 6  # gangs of one job, until statements are compiled by SQLAlchemy and prepared by PostgreSQL
UNCHECKED = text(
    "SET LOCAL session_replication_role = replica"
)  # skips the checks of foreign keys: the copies are right
LOG = "\n".join(f"12:00:00 epoch {n}: train loss 0.1234, test 450 of 500, 0.1 s" for n in (1, 2))


@dataclass(frozen=True)
class Rates:
    """Of all workers together: jobs claimed and recorded per second, the median milliseconds of each call for a whole
    gang, and the milliseconds that PostgreSQL spends on a job."""

    results: float
    claim_ms: float
    record_ms: float
    in_database_ms: float


def success(job: ClaimedJob) -> AttemptEnding:
    figures = {"weights_file": "/artifacts/0123/attempt-1.safetensors", "gang_size": 64, "engine": Engine.GANG}
    return replace(job_steps.success(job, **figures), log_tail=LOG)


@contextmanager
def database() -> Iterator[str]:
    postgres = Postgres(durable=True, shared_preload_libraries="pg_stat_statements")
    try:
        postgres.start()
        url = postgres.url(postgres.create())
        store = Store(url)
        migrate.upgrade(store)
        with store.write() as connection:
            connection.execute(text("CREATE EXTENSION pg_stat_statements"))
        store.close()
        yield url
    finally:
        postgres.stop()


class Filled:
    """A database filled with thousands of jobs: copies, made in SQL, of one that waits and one that ran."""

    def __init__(self, store: Store) -> None:
        self._store, self._made = store, 0
        first, second = Sweep.parse(SWEEP).jobs()
        (done,) = submission.submit_jobs(store, "template", [first])
        (job,) = claiming.claim(store, "template", CAPABILITIES, job_steps.FACTS)
        execution.record(store, [success(job)])
        no_worker = Placement(device="mps")
        (waiting,) = submission.submit_jobs(store, "template", [second], no_worker)
        self.done, self.waiting = done.id, waiting.id

    def add(self, template: str, count: int) -> None:
        """Insert `count` copies of the template's rows, EXPERIMENT_JOBS in each experiment."""
        first, self._made = self._made + 1, self._made + count
        names = {"template": template, "first": first, "last": self._made, "size": EXPERIMENT_JOBS}
        of_copy = {
            "device": "'cpu'",
            "id": "copy.id",
            "job_id": "copy.id",
            "spec_hash": "copy.hash",
            "seed": "copy.number",
        }
        with self._store.write() as connection:
            connection.execute(UNCHECKED)
            connection.execute(
                text(
                    "CREATE TEMPORARY TABLE copy ON COMMIT DROP AS SELECT n AS number, md5('hash' || n) || md5(n::text)"
                    " AS hash, md5(n::text)::uuid::text AS id, 'copies ' || n / :size AS experiment"
                    " FROM generate_series(CAST(:first AS bigint), CAST(:last AS bigint)) AS n"
                ),
                names,
            )
            connection.execute(
                text(
                    "INSERT INTO experiments (name, created_at) SELECT DISTINCT experiment, now() FROM copy"
                    " ON CONFLICT DO NOTHING"
                )
            )
            for table in ("jobs", "attempts", "epochs", "job_results", "result_images"):
                columns = [column.name for column in metadata.tables[table].columns if column.name != "seq"]
                values = [of_copy.get(name, f"row.{name}") for name in columns]
                if table == "jobs":
                    values[columns.index("experiment_id")] = "experiments.id"
                connection.execute(
                    text(
                        f"INSERT INTO {table} ({', '.join(columns)}) SELECT {', '.join(values)} FROM copy"
                        " JOIN experiments ON experiments.name = copy.experiment"
                        f" CROSS JOIN {table} AS row WHERE row.{'id' if table == 'jobs' else 'job_id'} = :template"
                        " ORDER BY copy.number"
                    ),
                    names,
                )

    def remove_added(self, count: int) -> None:
        """Remove the last `count` jobs, whatever their status."""
        with self._store.write() as connection:
            connection.execute(UNCHECKED)
            newest = "SELECT id FROM jobs ORDER BY seq DESC LIMIT :count"
            for table in ("result_images", "job_results", "epochs", "attempts"):
                connection.execute(text(f"DELETE FROM {table} WHERE job_id IN ({newest})"), {"count": count})
            connection.execute(text(f"DELETE FROM jobs WHERE id IN ({newest})"), {"count": count})

    def settle(self) -> None:
        """Vacuum and analyze, as autovacuum does in time."""
        with psycopg.connect(self._store.url.replace("+psycopg", ""), autocommit=True) as connection:
            connection.execute("VACUUM ANALYZE")
            connection.execute("CHECKPOINT")


def run(url: str, workers: int, gang: int, seconds: float) -> Rates:
    """Let `workers` processes claim and record for that many seconds, in gangs of up to `gang` jobs."""
    _statement_ms(url)
    context = multiprocessing.get_context("fork")  # before any connection is made
    barrier, found = context.Barrier(workers), context.SimpleQueue()
    processes = [
        context.Process(target=_work, args=(url, f"worker-{n}:1:a", gang, seconds, barrier, found))
        for n in range(workers)
    ]
    for process in processes:
        process.start()
    reports = [found.get() for _ in processes]
    for process in processes:
        process.join()
    assert all(reports), "a worker failed: its traceback is above"
    claimed = sum(jobs for jobs, _, _, _ in reports)
    length = max(length for _, length, _, _ in reports)
    claims, records = ([call for each in reports for call in each[part]] for part in (2, 3))
    busy = _statement_ms(url) / (claimed + WARM * workers)
    return Rates(claimed / length, _median_ms(claims), _median_ms(records), busy)


def _statement_ms(url: str) -> float:
    """The total of pg_stat_statements since the last call."""
    with psycopg.connect(url.replace("+psycopg", ""), autocommit=True) as connection:
        row = connection.execute("SELECT sum(total_exec_time) FROM pg_stat_statements").fetchone()
        connection.execute("SELECT pg_stat_statements_reset()")
    assert row is not None
    return float(row[0])


def _work(url: str, name: str, gang: int, seconds: float, barrier: Barrier, found: Any) -> None:
    try:
        found.put(_take_turns(url, name, gang, seconds, barrier))
    except BaseException:
        barrier.abort()  # so that the others don't wait for this one
        found.put(None)
        raise


def _take_turns(
    url: str, name: str, gang: int, seconds: float, barrier: Barrier
) -> tuple[int, float, list[float], list[float]]:
    store, capabilities = Store(url), replace(CAPABILITIES, device_name=name)
    execution.worker_heartbeat(store, name, capabilities)
    for _ in range(WARM):
        execution.record(store, [success(each) for each in claim(store, name, capabilities, 1)])
    barrier.wait()
    began = time.perf_counter()
    count, claims, records = 0, [], []
    while time.perf_counter() - began < seconds:
        start = time.perf_counter()
        jobs = claim(store, name, capabilities, gang)
        assert jobs, "the queue did not last"
        claimed = time.perf_counter()
        execution.record(store, [success(each) for each in jobs])
        claims.append(claimed - start)
        records.append(time.perf_counter() - claimed)
        count += len(jobs)
    length = time.perf_counter() - began
    execution.remove_worker(store, name)
    store.close()
    return count, length, claims, records


def claim(store: Store, name: str, capabilities: WorkerCapabilities, gang: int) -> list[ClaimedJob]:
    """All that a worker queries before it trains: what the next job needs, its fair share, and the jobs."""
    setup = claiming.next_setup(store, name, capabilities)
    share = worker_queries.fair_share(store, capabilities.device, gang, capabilities.most_ranks)
    return claiming.claim(store, name, capabilities, job_steps.FACTS, share, setup)


def _median_ms(seconds: Sequence[float]) -> float:
    return 1000 * sorted(seconds)[len(seconds) // 2]
