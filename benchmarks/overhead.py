"""What the queue costs: tiny jobs through the real command, Redis, PostgreSQL and a worker; and the time to a first
epoch.

Jobs of one epoch on `digits` train in milliseconds, so nearly all of the time is submission, claims, records and
weights files. The benchmark starts PostgreSQL and Redis; PostgreSQL's commits are durable, as in a deployment.

    python -m benchmarks.overhead [JOBS [REPETITIONS]]
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext

from sqlalchemy import Select, func, select

from mlpq.store.schema import epochs, jobs
from mlpq.store.session import Store
from tests.support.services import Postgres, Redis

from .report import machine, spread, table, versions


@contextmanager
def site(worker: bool = True) -> Iterator[tuple[dict[str, str], Store]]:
    """The environment of a deployment with a migrated database and, by default one worker, warm."""
    postgres, redis = Postgres(durable=True), Redis()
    with tempfile.TemporaryDirectory() as folder:
        try:
            postgres.start()
            redis.start()
            url = postgres.url(postgres.create())
            env = {
                **os.environ,
                "MLPQ_HOME": folder,
                "MLPQ_DATABASE_URL": url,
                "MLPQ_BROKER_URL": redis.empty_url(),
            }
            mlpq(env, "db", "upgrade")
            store = Store(url)
            with warm_worker(env) if worker else nullcontext():
                yield env, store
            store.close()
        finally:
            redis.stop()
            postgres.stop()


@contextmanager
def warm_worker(env: dict[str, str], *options: str) -> Iterator[None]:
    """A worker that has done a job already."""
    started = subprocess.Popen(
        command("worker", *options), env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        mlpq(env, "submit", "--experiment", "warm", "--dataset", "digits", "--epochs", "1", "--again", "--wait")
        yield
    finally:
        started.terminate()
        started.wait()


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "mlpq.cli", *arguments]


def mlpq(env: Mapping[str, str], *arguments: str) -> None:
    subprocess.run(command(*arguments), env=env, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def wait_for(store: Store, query: Select[int], wanted: int) -> float:
    """The time at which the query counts `wanted`."""
    while True:
        with store.read() as connection:
            if connection.execute(query).scalar_one() >= wanted:
                return time.perf_counter()
        time.sleep(0.005)


def throughput(env: dict[str, str], store: Store, name: str, count: int) -> float:
    """Seconds from the start of `mlpq submit` until the last of `count` jobs is recorded."""
    done = select(func.count()).select_from(jobs).where(jobs.c.status == "succeeded")
    with store.read() as connection:
        before = connection.execute(done).scalar_one()
    began = time.perf_counter()
    mlpq(env, "submit", "--experiment", name, "--dataset", "digits", "--epochs", "1", "--seeds", f"0..{count - 1}")
    return wait_for(store, done, before + count) - began


def latency(env: dict[str, str], store: Store, name: str) -> tuple[float, float]:
    """Seconds from the start of `mlpq submit` until its job's first epoch is recorded; from submitted to finished."""
    seen = select(func.count()).select_from(epochs)
    with store.read() as connection:
        before = connection.execute(seen).scalar_one()
    began = time.perf_counter()
    process = subprocess.Popen(
        command("submit", "--experiment", name, "--dataset", "digits", "--epochs", "1"),
        env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    recorded = wait_for(store, seen, before + 1)
    process.wait()
    with store.read() as connection:
        row = connection.execute(
            select(jobs.c.created_at, jobs.c.finished_at).order_by(jobs.c.seq.desc()).limit(1)
        ).one()
    return recorded - began, (row.finished_at - row.created_at).total_seconds()


def main(count: int, repetitions: int) -> None:
    print(
        f"{machine()}, {versions('torch', 'celery', 'redis', 'sqlalchemy')}, PostgreSQL and Redis on the same machine\n"
    )
    with site() as (env, store):
        seconds = [throughput(env, store, f"many-{i}", count) for i in range(repetitions)]
        waits = [latency(env, store, f"one-{i}") for i in range(5 * repetitions)]
    rows = [
        (f"{count} jobs, submitted to recorded, s", *spread(seconds)),
        ("jobs per second", *spread([count / s for s in seconds], ".0f")),
        ("first epoch, from the start of `mlpq submit`, s", *spread([both[0] for both in waits])),
        ("one job, from submitted to recorded, s", *spread([both[1] for both in waits])),
    ]
    print(table(("one worker, warm", "n", "median", "range"), rows))


if __name__ == "__main__":
    given = [int(argument) for argument in sys.argv[1:]]
    main(*given, *(1000, 3)[len(given) :])
