"""The dashboard's caching, and its behavior without a database. On both databases."""

from __future__ import annotations

import html
import os
import sqlite3
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import text, update
from starlette.testclient import TestClient

from mlpq.dashboard.bounded_cache import BoundedCache, BusyError
from mlpq.errors import SpecError
from mlpq.jobs import LEASE_SECONDS, Outcome
from mlpq.store import dashboard_queries, execution, submission
from mlpq.store.change_tokens import ChangeTokens
from mlpq.store.schema import experiments, workers
from mlpq.store.session import Store, now
from mlpq.worker_records import WorkerCapabilities
from tests.support.dashboard_pages import browser, train, words
from tests.support.job_steps import claim, claim_one, epoch, fail, finish, heartbeat, spec, specs, submit
from tests.support.services import Postgres, wait_until

SECRET = "hunter2-very-secret"


def test_pages_are_not_modified_until_a_commit(store: Store, client: TestClient) -> None:
    (first, second) = submit(store, *specs(seeds="0..1"), experiment="sweep")
    pages = ("/", "/experiments/sweep", f"/jobs/{first}", "/workers")

    def statuses_after(change: Callable[[], object]) -> list[int]:
        tags = {page: client.get(page).headers["etag"] for page in pages}
        before = [client.get(page, headers={"If-None-Match": tags[page]}).status_code for page in pages]
        assert before == [304] * len(pages)
        change()
        return [client.get(page, headers={"If-None-Match": tags[page]}).status_code for page in pages]

    claimed = []
    changes: list[Callable[[], object]] = [
        lambda: submit(store, spec(seeds=5), experiment="other"),
        lambda: execution.worker_heartbeat(store, "ann:1:a", WorkerCapabilities("cpu")),
        lambda: claimed.extend(claim(store, limit=2)),
        lambda: heartbeat(store, claimed[0], [epoch(1)], "a line"),
        lambda: finish(store, claimed[0]),
        lambda: fail(store, claimed[1], Outcome.RELEASED),
        lambda: submission.cancel(store, [second]),
        lambda: execution.remove_worker(store, "ann:1:a"),
    ]
    for change in changes:
        assert statuses_after(change) == [200] * len(pages)


def test_token_changes_when_heartbeats_stop(store: Store) -> None:
    """The token has the names of the live workers, by the database's clock: nobody commits when a worker dies."""
    tokens = ChangeTokens(store)
    execution.worker_heartbeat(store, "ann:1:a", WorkerCapabilities("cpu"))
    assert tokens.current().endswith(" ann:1:a")
    with store.write() as connection:
        connection.execute(update(workers).values(beat_at=now(-LEASE_SECONDS - 1)))
    assert tokens.current().endswith(" ")


def test_token_changes_when_a_transaction_commits(store: Store) -> None:
    """A token taken between a write and its commit must differ from the one after the commit."""
    tokens = ChangeTokens(store)
    with store.write() as connection:
        connection.execute(text("INSERT INTO experiments (name, created_at) VALUES ('a', CURRENT_TIMESTAMP)"))
        before = tokens.current()
    assert tokens.current() != before


def test_history_token_changes_with_every_transition(store: Store) -> None:
    submit(store, *specs(seeds="0..1"), experiment="sweep")
    number = dashboard_queries.experiment(store, "sweep").id
    seen = [dashboard_queries.history_token(store, number)]
    for _ in range(3):  # each time the counts by status are the same again
        fail(store, claim_one(store), Outcome.RELEASED)
        seen.append(dashboard_queries.history_token(store, number))
    claim_one(store)
    seen.append(dashboard_queries.history_token(store, number))
    assert len(set(seen)) == len(seen)


def test_health_is_ok_with_a_reachable_database(client: TestClient) -> None:
    assert (client.get("/healthz").status_code, client.get("/healthz").text) == (200, "ok\n")


def test_metrics_have_the_format_of_prometheus(store: Store, client: TestClient) -> None:
    submit(store, spec())
    answer = client.get("/metrics")
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert 'mlpq_jobs{device="auto",status="queued"} 1.0' in answer.text.splitlines()


def test_wrong_schema_is_service_unavailable(empty_url: str) -> None:
    store = Store(empty_url)
    if store.is_sqlite:
        with store.write() as connection:
            connection.execute(text("CREATE TABLE other (id INTEGER)"))
    client = browser(store)
    answer = client.get("/healthz")
    assert answer.status_code == 503
    assert "mlpq db upgrade" in answer.text
    assert client.get("/").status_code == 503
    store.close()


def test_unreachable_database_is_reported_without_its_password() -> None:
    store = Store(f"postgresql+psycopg://ann:{SECRET}@127.0.0.1:9/lab")
    client = browser(store)
    for address in ("/", "/healthz", "/metrics", "/experiments/a", "/jobs/ab", "/workers"):
        answer = client.get(address)
        assert answer.status_code == 503
        assert "can't reach the database" in html.unescape(answer.text)
        assert SECRET not in answer.text
    assert len(client.get("/healthz").text.splitlines()) == 1


@pytest.fixture
def outage(store: Store, request: pytest.FixtureRequest) -> Iterator[tuple[Callable[[], None], Callable[[], None]]]:
    """Functions that make the store's database unreachable, and reachable again."""
    if store.is_sqlite:
        path = Path(store.url.partition(":///")[2])
        aside = path.with_suffix(".aside")
        yield lambda: os.rename(path, aside), lambda: os.rename(aside, path)
        return
    postgres: Postgres = request.getfixturevalue("postgres")
    name = store.url.rpartition("/")[2]
    address = postgres.url("postgres").replace("+psycopg", "")

    def do(*statements: str) -> None:
        with psycopg.connect(address, autocommit=True) as connection:
            for statement in statements:
                connection.execute(statement)

    cut = f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'"
    allow = f"ALTER DATABASE {name} ALLOW_CONNECTIONS "
    yield lambda: do(f"{allow} false", cut), lambda: do(f"{allow} true")
    do(f"{allow} true")


def test_dashboard_recovers_when_the_database_returns(
    store: Store, client: TestClient, outage: tuple[Callable[[], None], Callable[[], None]]
) -> None:
    submit(store, spec(), experiment="sweep")
    begin, end = outage
    assert client.get("/experiments/sweep").status_code == 200
    begin()
    gone = client.get("/experiments/sweep")
    assert gone.status_code == 503
    assert "data-live" in gone.text
    assert client.get("/healthz").status_code == 503
    end()
    assert client.get("/experiments/sweep").status_code == 200
    assert client.get("/healthz").status_code == 200


@pytest.mark.parametrize("store", ["sqlite"], indirect=True)
def test_replaced_sqlite_file_is_read(store: Store, client: TestClient, tmp_path: Path) -> None:
    path = Path(store.url.partition(":///")[2])
    other = tmp_path / "other.db"
    submit(store, spec(), experiment="before")
    assert "before" in words(client.get("/").text)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"VACUUM INTO '{other}'")
    finish(store, claim_one(store), test_correct=404)
    assert "80.80" in client.get("/experiments/before").text
    restored = Store(f"sqlite:///{other}")
    with restored.write() as connection:
        connection.execute(update(experiments).values(created_at=now(-60)))
    finish(restored, claim_one(restored), test_correct=101)
    submit(restored, spec(), experiment="restored")
    restored.close()
    os.replace(other, path)
    for log in ("-wal", "-shm"):  # of the old file
        Path(f"{path}{log}").unlink(missing_ok=True)
    assert "restored" in words(client.get("/").text)
    page = client.get("/experiments/before").text
    assert "20.20" in page
    assert "80.80" not in page


def test_cached_values_are_returned_while_too_many_requests_wait() -> None:
    cache: BoundedCache[str] = BoundedCache(4)
    cache.get("old", lambda: "first value")
    waiting, go_on = threading.Barrier(9), threading.Event()

    def compute() -> str:
        go_on.wait(30)
        return "computed"

    def request(number: int) -> str:
        waiting.wait(30)
        return cache.get(number, compute)

    with ThreadPoolExecutor(8) as pool:
        requests = [pool.submit(request, number) for number in range(8)]
        waiting.wait(30)
        wait_until("all requests wait", lambda: cache._waiting == 8)
        with pytest.raises(BusyError, match="try again"):
            cache.get("one more", lambda: "computed")
        assert cache.get("old", lambda: "second value") == "first value"
        go_on.set()
        assert [each.result(30) for each in requests] == ["computed"] * 8
    assert cache.get("one more", lambda: "computed") == "computed"


@pytest.mark.parametrize("fails", [False, True])
def test_requests_for_one_value_share_one_computation(fails: bool) -> None:
    cache: BoundedCache[str] = BoundedCache(4)
    go_on, computed = threading.Event(), []

    def compute() -> str:
        go_on.wait(30)
        computed.append(1)
        if fails:
            raise SpecError("no such field")
        return "computed"

    with ThreadPoolExecutor(32) as pool:
        requests = [pool.submit(cache.get, "page", compute) for _ in range(32)]
        wait_until("all requests wait", lambda: cache._waiting == 32)
        with pytest.raises(BusyError, match="try again"):
            cache.get("page", compute)
        go_on.set()
        found = [each.exception(30) or each.result(30) for each in requests]
    assert [str(each) for each in found] == ["no such field" if fails else "computed"] * 32
    assert len(computed) == 1
    assert cache._waiting == 0
    assert cache.get("page", lambda: "again") == ("again" if fails else "computed")


def test_sixteen_first_readers_of_a_page_all_get_it(store: Store) -> None:
    train(store)
    with ThreadPoolExecutor(16) as pool:
        client = browser(store)
        pages = list(pool.map(lambda _: client.get("/experiments/sweep"), range(16)))
    assert {page.status_code for page in pages} == {200}
