"""A PgBouncer in transaction mode before PostgreSQL: each transaction may get another session."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import text

from mlpq.errors import StoreError
from mlpq.store import migrate, queries, sql, worker_queries
from mlpq.store.session import Store
from tests.support.installations import SERVICES, Site
from tests.support.job_steps import claim_one, epoch, finish, heartbeat, row, specs, submit
from tests.support.services import PgBouncer, Postgres, Redis

THREADS, ROUNDS = 6, 12


@pytest.fixture(scope="module")
def elsewhere() -> Iterator[Postgres]:
    """A server whose sessions are not in UTC by themselves."""
    server = Postgres(timezone="Asia/Kolkata")
    try:
        server.start()
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="module")
def pgbouncer(elsewhere: Postgres) -> Iterator[PgBouncer]:
    pooler = PgBouncer(elsewhere)
    try:
        pooler.start()
        yield pooler
    finally:
        pooler.stop()


@pytest.fixture
def url(elsewhere: Postgres, pgbouncer: PgBouncer) -> str:
    """The URL of a migrated database behind the pooler."""
    url = pgbouncer.url(elsewhere.create())
    store = Store(url)
    migrate.upgrade(store)
    store.close()
    return url


def live_through_jobs(url: str, worker: str) -> int:
    """Claim, heartbeat and finish jobs, with every statement often enough to be prepared; how many."""
    store = Store(url)
    for _ in range(ROUNDS):
        job = claim_one(store, worker)
        for number in range(1, 3):
            heartbeat(store, job, [epoch(number)], "a line")
        finish(store, job)
        worker_queries.live_workers(store)
    store.close()
    return ROUNDS


def test_clients_share_the_sessions_of_a_pooler(url: str) -> None:
    store = Store(url)
    ids = submit(store, *specs(seeds=f"0..{THREADS * ROUNDS - 1}"))
    with ThreadPoolExecutor(THREADS) as pool:
        done = pool.map(live_through_jobs, [url] * THREADS, [f"worker {number}" for number in range(THREADS)])
        assert sum(done) == len(ids)
    assert queries.unfinished(store, ids) == []
    store.close()


def test_times_are_in_utc_behind_a_pooler(url: str) -> None:
    store = Store(url)
    (job,) = submit(store, *specs())
    for _ in range(10):
        created = row(store, job).created_at
        assert created.tzinfo is UTC
        assert abs(created - datetime.now(UTC)) < timedelta(hours=1)
    (hours,) = sql.read_only(store, "SELECT EXTRACT(TIMEZONE FROM now()) AS offset_seconds")[1]
    assert float(hours["offset_seconds"]) == 0
    store.close()


def test_worker_trains_behind_a_pooler(url: str, redis_server: Redis, tmp_path: Path) -> None:
    store = Store(url)
    env = {
        "MLPQ_HOME": str(tmp_path / "home"),
        "MLPQ_DATABASE_URL": url,
        "MLPQ_BROKER_URL": redis_server.empty_url(),
    }
    site = Site(SERVICES, tmp_path, store, env)
    with site.worker():
        done = site.mlpq("submit", "--dataset", "digits", "--epochs", 30, "--seeds", "0..9", "--wait")
    assert "[10 of 10]" in done.err
    assert "prepared statement" not in (tmp_path / "worker-1.log").read_text()
    store.close()


@pytest.mark.parametrize(
    ("threshold", "prepared"), [("", 0), ("?prepare_threshold=none", 0), ("?prepare_threshold=0", 1)]
)
def test_url_sets_when_statements_are_prepared(postgres: Postgres, threshold: str, prepared: int) -> None:
    name = postgres.create()
    store = Store(postgres.url(name) + threshold)
    with store.read() as connection:
        for _ in range(10):
            connection.execute(text("SELECT 1"))
        found = connection.execute(text("SELECT count(*) FROM pg_prepared_statements WHERE statement = 'SELECT 1'"))
        assert found.scalar() == prepared
    store.close()
    postgres.drop(name)


@pytest.mark.parametrize("threshold", ["x", "-1", "1.5", "5&prepare_threshold=6", "%D9%A3"])
def test_url_with_a_wrong_threshold_is_refused(threshold: str) -> None:
    with pytest.raises(StoreError, match="prepare_threshold must be a whole number or none"):
        Store(f"postgresql+psycopg://ann@127.0.0.1:1/lab?prepare_threshold={threshold}")
