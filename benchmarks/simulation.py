"""Simulated workers over PostgreSQL: they claim and record by the statements of real ones, and train nothing."""

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

from mlpq.spec.job import Sweep
from mlpq.store import execution, migrate, queries, submission
from mlpq.store.execution import Able, Ending, Held
from mlpq.store.schema import metadata
from mlpq.store.session import Store
from tests.support import job_steps
from tests.support.services import Postgres

ABLE = Able("cpu")
SWEEP = {"dataset": "digits", "epochs": 2, "seeds": "1,2"}
EXPERIMENT_JOBS = 1000
WARM = 6  # gangs of one, until the statements are compiled here and prepared there
UNCHECKED = text("SET LOCAL session_replication_role = replica")  # foreign keys, which are right
LOG = "\n".join(f"12:00:00 epoch {n}: train loss 0.1234, test 450 of 500, 0.1 s" for n in (1, 2))


@dataclass(frozen=True)
class Rates:
    """What all workers did together: jobs claimed and recorded a second; median milliseconds of each call of theirs,
    for a whole gang; milliseconds that PostgreSQL had statements of theirs under way, for a job."""

    results: float
    claim_ms: float
    record_ms: float
    in_database_ms: float


def success(held: Held) -> Ending:
    figures = {"weights_file": "/artifacts/0123/attempt-1.safetensors", "gang_size": 64, "engine": "gang"}
    return replace(job_steps.success(held, **figures), log_tail=LOG)


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
    """A database that jobs are put into by the thousand: copies, made in SQL, of one that waits and one that ran."""

    def __init__(self, store: Store) -> None:
        self._store, self._made = store, 0
        first, second = Sweep.parse(SWEEP).jobs()
        (done,) = submission.file_jobs(store, "template", [first])
        (held,) = execution.claim(store, "template", ABLE, job_steps.FACTS)
        execution.record(store, [success(held)])
        (waiting,) = submission.file_jobs(store, "template", [second], device="mps")  # which nobody takes
        self.done, self.waiting = done.id, waiting.id

    def add(self, template: str, count: int) -> None:
        """Put `count` copies of the template's rows in, EXPERIMENT_JOBS to an experiment."""
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
            for table in ("jobs", "attempts", "epochs", "job_results"):
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
        """Remove the last `count` jobs, whatever has become of them."""
        with self._store.write() as connection:
            connection.execute(UNCHECKED)
            newest = "SELECT id FROM jobs ORDER BY seq DESC LIMIT :count"
            for table in ("job_results", "epochs", "attempts"):
                connection.execute(text(f"DELETE FROM {table} WHERE job_id IN ({newest})"), {"count": count})
            connection.execute(text(f"DELETE FROM jobs WHERE id IN ({newest})"), {"count": count})

    def settle(self) -> None:
        """As autovacuum leaves it."""
        with psycopg.connect(self._store.url.replace("+psycopg", ""), autocommit=True) as connection:
            connection.execute("VACUUM ANALYZE")
            connection.execute("CHECKPOINT")


def run(url: str, workers: int, gang: int, seconds: float) -> Rates:
    """Let `workers` processes claim and record for so long, gangs of up to `gang` each, from a queue that lasts."""
    _statement_ms(url)
    context = multiprocessing.get_context("fork")  # before any connection is made
    barrier, found = context.Barrier(workers), context.SimpleQueue()
    processes = [
        context.Process(target=_work, args=(url, f"worker-{n}", gang, seconds, barrier, found)) for n in range(workers)
    ]
    for process in processes:
        process.start()
    told = [found.get() for _ in processes]
    for process in processes:
        process.join()
    assert all(told), "a worker failed: its words are above"
    claimed = sum(jobs for jobs, _, _, _ in told)
    length = max(length for _, length, _, _ in told)
    claims, records = ([call for each in told for call in each[part]] for part in (2, 3))
    busy = _statement_ms(url) / (claimed + WARM * workers)
    return Rates(claimed / length, _median_ms(claims), _median_ms(records), busy)


def _statement_ms(url: str) -> float:
    """What pg_stat_statements has summed up since this was asked last."""
    with psycopg.connect(url.replace("+psycopg", ""), autocommit=True) as connection:
        row = connection.execute("SELECT sum(total_exec_time) FROM pg_stat_statements").fetchone()
        connection.execute("SELECT pg_stat_statements_reset()")
    assert row is not None
    return float(row[0])


def _work(url: str, name: str, gang: int, seconds: float, barrier: Barrier, found: Any) -> None:
    try:
        found.put(_take_turns(url, name, gang, seconds, barrier))
    except BaseException:
        barrier.abort()  # or the others would wait for this one
        found.put(None)
        raise


def _take_turns(
    url: str, name: str, gang: int, seconds: float, barrier: Barrier
) -> tuple[int, float, list[float], list[float]]:
    store, able = Store(url), replace(ABLE, model=name)
    execution.worker_beat(store, name, able)
    for _ in range(WARM):
        execution.record(store, [success(each) for each in claim(store, name, able, 1)])
    barrier.wait()
    began = time.perf_counter()
    jobs, claims, records = 0, [], []
    while time.perf_counter() - began < seconds:
        start = time.perf_counter()
        held = claim(store, name, able, gang)
        assert held, "the queue did not last"
        claimed = time.perf_counter()
        execution.record(store, [success(each) for each in held])
        claims.append(claimed - start)
        records.append(time.perf_counter() - claimed)
        jobs += len(held)
    length = time.perf_counter() - began
    execution.worker_gone(store, name)
    store.close()
    return jobs, length, claims, records


def claim(store: Store, name: str, able: Able, gang: int) -> list[Held]:
    """All that a worker asks before it trains: for which world size, how many are its share, and for the jobs."""
    world_size = execution.wanted_world_size(store, name, able)
    share = queries.fair_share(store, able.device, gang, able.most_ranks)
    return execution.claim(store, name, able, job_steps.FACTS, share, world_size)


def _median_ms(seconds: Sequence[float]) -> float:
    return 1000 * sorted(seconds)[len(seconds) // 2]
