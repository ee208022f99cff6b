"""A PostgreSQL that doesn't answer, and waits for jobs during an outage."""

from __future__ import annotations

import pytest
from sqlalchemy import text

from mlpq import waiting
from mlpq.errors import StoreError
from mlpq.store import queries
from mlpq.store.session import Store
from mlpq.waiting import snapshots
from tests.support.job_steps import claim_one, finish, specs, submit
from tests.support.services import Postgres


@pytest.mark.parametrize("store", ["postgresql"], indirect=True)
def test_database_that_does_not_answer_is_unreachable(store: Store) -> None:
    store.answer_seconds = 0.5
    with pytest.raises(StoreError, match="no answer within"), store.read() as connection:
        connection.execute(text("SELECT pg_sleep(60)"))
    with store.read() as connection:
        assert connection.execute(text("SELECT 1")).scalar() == 1
    store.answer_seconds = None
    with store.read() as connection:
        assert connection.execute(text("SELECT 1 FROM pg_sleep(1)")).scalar() == 1


def test_database_that_answers_is_in_time(postgres: Postgres) -> None:
    store = Store(postgres.url(postgres.create()))
    store.answer_seconds = 20
    with pytest.raises(StoreError, match="mlpq db upgrade"):
        queries.unfinished(store, ["a"])
    store.close()


@pytest.fixture
def outage(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Each read of unfinished jobs fails while the list holds True; no delays."""
    away = [False]
    read = queries.unfinished

    def unfinished(store: Store, ids: list[str]) -> list[str]:
        if away[0]:
            raise StoreError("can't reach the database")
        return read(store, ids)

    monkeypatch.setattr(queries, "unfinished", unfinished)
    monkeypatch.setattr(waiting, "POLL_SECONDS", 0)
    monkeypatch.setattr(waiting, "RETRY_SECONDS", 0)
    return away


def test_wait_repeats_what_it_knew_while_the_database_is_away(store: Store, outage: list[bool]) -> None:
    (job,) = submit(store, *specs())
    found = snapshots(store, [job], lambda: "")
    claimed = claim_one(store)
    before = next(found)
    outage[0] = True
    for _ in range(3):
        during = next(found)
        assert (during.unfinished, during.running, during.finished) == ([job], before.running, [])
        assert during.obstacle == "can't reach the database; trying again for 60 s"
    finish(store, claimed)
    outage[0] = False
    last = next(found)
    assert ([done.id for done in last.finished], last.unfinished, last.obstacle) == ([job], [], "")
    assert next(found, None) is None


def test_wait_ends_after_an_outage_of_a_minute(
    store: Store, outage: list[bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    (job,) = submit(store, *specs())
    found = snapshots(store, [job], lambda: "")
    next(found)
    outage[0] = True
    next(found)
    monkeypatch.setattr(waiting, "OUTAGE_SECONDS", 0)
    with pytest.raises(StoreError, match="can't reach the database"):
        next(found)


def test_error_that_is_not_of_the_database_ends_a_wait(store: Store) -> None:
    (job,) = submit(store, *specs())

    def tend() -> str:
        raise RuntimeError("the worker exited")

    with pytest.raises(RuntimeError, match="the worker exited"):
        next(snapshots(store, [job], tend))
