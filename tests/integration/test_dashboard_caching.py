"""The dashboard's application over both databases: when there is news, and when it can't be had."""

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

from mlpq.dashboard import comparing
from mlpq.dashboard.comparing import BusyError, Kept
from mlpq.jobs import LEASE_SECONDS, Outcome
from mlpq.store import dashboard_queries, execution, submission
from mlpq.store.change_tokens import Changes
from mlpq.store.execution import Able
from mlpq.store.schema import experiments, workers
from mlpq.store.session import Store, now
from tests.support.dashboard_pages import browser, words
from tests.support.job_steps import beat, claim, claim_one, epoch, fail, file, finish, spec, specs
from tests.support.services import Postgres, wait_until

SECRET = "hunter2-very-secret"


def test_nothing_is_made_again_until_something_was_committed(store: Store, client: TestClient) -> None:
    (first, second) = file(store, *specs(seeds="0..1"), experiment="sweep")
    pages = ("/", "/experiments/sweep", f"/jobs/{first}", "/workers")

    def news(change: Callable[[], object]) -> list[int]:
        tags = {page: client.get(page).headers["etag"] for page in pages}
        before = [client.get(page, headers={"If-None-Match": tags[page]}).status_code for page in pages]
        assert before == [304] * len(pages)
        change()
        return [client.get(page, headers={"If-None-Match": tags[page]}).status_code for page in pages]

    held = []
    changes: list[Callable[[], object]] = [
        lambda: file(store, spec(seeds=5), experiment="other"),
        lambda: execution.worker_beat(store, "ann", Able("cpu")),
        lambda: held.extend(claim(store, limit=2)),
        lambda: beat(store, held[0], [epoch(1)], "a line"),
        lambda: finish(store, held[0]),
        lambda: fail(store, held[1], Outcome.RELEASED),
        lambda: submission.cancel(store, [second]),
        lambda: execution.worker_gone(store, "ann"),
    ]
    for change in changes:
        assert news(change) == [200] * len(pages)


def test_a_worker_that_falls_silent_is_news_though_nobody_commits(store: Store) -> None:
    """The word has the names of those alive; that a name leaves it is what the database's clock says."""
    changes = Changes(store)
    execution.worker_beat(store, "ann", Able("cpu"))
    assert changes.state().endswith(" ann")
    with store.write() as connection:
        connection.execute(update(workers).values(beat_at=now(-LEASE_SECONDS - 1)))
    assert changes.state().endswith(" ")


def test_what_is_not_committed_yet_is_news_later(store: Store) -> None:
    """A reader who looks between a change and its commit must not take the new state for the one that it has seen."""
    changes = Changes(store)
    with store.write() as connection:
        connection.execute(text("INSERT INTO experiments (name, created_at) VALUES ('a', CURRENT_TIMESTAMP)"))
        before = changes.state()
    assert changes.state() != before


def test_a_comparison_is_news_after_each_change_of_a_job(store: Store) -> None:
    file(store, *specs(seeds="0..1"), experiment="sweep")
    number = dashboard_queries.experiment(store, "sweep")["id"]
    seen = [dashboard_queries.history(store, number)]
    for _ in range(3):  # which is back at the same counts each time
        fail(store, claim_one(store), Outcome.RELEASED)
        seen.append(dashboard_queries.history(store, number))
    claim_one(store)
    seen.append(dashboard_queries.history(store, number))
    assert len(set(seen)) == len(seen)


def test_health_is_ok_where_the_database_answers(client: TestClient) -> None:
    assert (client.get("/healthz").status_code, client.get("/healthz").text) == (200, "ok\n")


def test_prometheus_is_answered_in_its_format(store: Store, client: TestClient) -> None:
    file(store, spec())
    answer = client.get("/metrics")
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert 'mlpq_jobs{device="auto",status="queued"} 1.0' in answer.text.splitlines()


def test_a_database_without_the_right_schema_is_not_well(empty_url: str) -> None:
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


def test_a_database_that_cannot_be_reached_is_told_without_its_password() -> None:
    store = Store(f"postgresql+psycopg://ann:{SECRET}@127.0.0.1:9/lab")
    client = browser(store)
    for address in ("/", "/healthz", "/metrics", "/experiments/a", "/jobs/ab", "/workers"):
        answer = client.get(address)
        assert answer.status_code == 503
        assert "can't reach the database" in html.unescape(answer.text)
        assert SECRET not in answer.text
    assert len(client.get("/healthz").text.splitlines()) == 1


@pytest.fixture
def leaving(store: Store, request: pytest.FixtureRequest) -> Iterator[tuple[Callable[[], None], Callable[[], None]]]:
    """What makes the store's database unreachable, and what brings it back."""
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


def test_a_database_that_goes_away_is_told_and_comes_back(
    store: Store, client: TestClient, leaving: tuple[Callable[[], None], Callable[[], None]]
) -> None:
    file(store, spec(), experiment="sweep")
    leave, come_back = leaving
    assert client.get("/experiments/sweep").status_code == 200
    leave()
    gone = client.get("/experiments/sweep")
    assert gone.status_code == 503
    assert "data-live" in gone.text
    assert client.get("/healthz").status_code == 503
    come_back()
    assert client.get("/experiments/sweep").status_code == 200
    assert client.get("/healthz").status_code == 200


@pytest.mark.parametrize("store", ["sqlite"], indirect=True)
def test_a_file_that_was_put_in_place_of_the_old_one_is_read(store: Store, client: TestClient, tmp_path: Path) -> None:
    path = Path(store.url.partition(":///")[2])
    other = tmp_path / "other.db"
    file(store, spec(), experiment="before")
    assert "before" in words(client.get("/").text)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"VACUUM INTO '{other}'")
    finish(store, claim_one(store), test_correct=404)
    assert "80.80" in client.get("/experiments/before").text
    restored = Store(f"sqlite:///{other}")
    with restored.write() as connection:
        connection.execute(update(experiments).values(created_at=now(-60)))
    finish(restored, claim_one(restored), test_correct=101)
    file(restored, spec(), experiment="restored")
    restored.close()
    os.replace(other, path)
    for log in ("-wal", "-shm"):  # of the old one
        Path(f"{path}{log}").unlink(missing_ok=True)
    assert "restored" in words(client.get("/").text)
    page = client.get("/experiments/before").text
    assert "20.20" in page
    assert "80.80" not in page


def test_what_is_there_is_shown_while_too_many_wait_for_something_new() -> None:
    kept: Kept[str] = Kept(4)
    kept.get("old", lambda: "made before")
    waiting, go_on = threading.Barrier(comparing.WAITING_AT_MOST + 1), threading.Event()

    def make() -> str:
        go_on.wait(30)
        return "made"

    def ask(number: int) -> str:
        waiting.wait(30)
        return kept.get(number, make)

    with ThreadPoolExecutor(comparing.WAITING_AT_MOST) as pool:
        asked = [pool.submit(ask, number) for number in range(comparing.WAITING_AT_MOST)]
        waiting.wait(30)
        wait_until("all have a place", lambda: kept._places._value == 0)
        with pytest.raises(BusyError, match="try again"):
            kept.get("one more", lambda: "made")
        assert kept.get("old", lambda: "made anew") == "made before"
        go_on.set()
        assert [each.result(30) for each in asked] == ["made"] * comparing.WAITING_AT_MOST
    assert kept.get("one more", lambda: "made") == "made"
