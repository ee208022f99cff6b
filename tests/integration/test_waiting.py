"""Snapshots of jobs that are waited for."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from mlpq import waiting
from mlpq.errors import StoreError
from mlpq.jobs import Outcome
from mlpq.store.session import Store
from mlpq.waiting import snapshots
from tests.support.job_steps import claim_one, epoch, fail, finish, heartbeat, specs, submit
from tests.support.simulated_time import Clock


@pytest.fixture(autouse=True)
def no_delay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "POLL_SECONDS", 0)


def test_snapshots_follow_jobs_until_all_are_finished(store: Store) -> None:
    first, second = submit(store, *specs(seeds="0..1"))
    obstacles: Iterator[str] = iter(["no worker", "", ""])
    found = snapshots(store, [first, second], lambda: next(obstacles))

    snapshot = next(found)
    assert (snapshot.unfinished, snapshot.running, snapshot.finished) == ([first, second], [], [])
    assert snapshot.obstacle == "no worker"

    job = claim_one(store)
    heartbeat(store, job, [epoch(1)])
    snapshot = next(found)
    assert [(running.id, running.latest) for running in snapshot.running] == [(job.id, epoch(1))]
    assert snapshot.obstacle == ""

    finish(store, job)
    snapshot = next(found)
    assert [done.id for done in snapshot.finished] == [job.id]
    assert (len(snapshot.unfinished), snapshot.running) == (1, [])

    fail(store, claim_one(store), Outcome.DIVERGED)
    snapshot = next(found)
    assert snapshot.unfinished == []
    assert [done.error for done in snapshot.finished] == ["it broke"]
    assert snapshot.obstacle == ""
    assert next(found, None) is None


def test_jobs_that_are_finished_already_make_one_snapshot(store: Store) -> None:
    (job,) = submit(store, *specs(seeds=0))
    finish(store, claim_one(store))
    (snapshot,) = snapshots(store, [job], lambda: pytest.fail("nothing is left to wait for"))
    assert [done.id for done in snapshot.finished] == [job]
    assert list(snapshots(store, [], lambda: "")) == []


def test_wait_goes_on_for_a_minute_without_the_database(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        tries.append(clock.seconds)
        raise StoreError("the database is away")

    clock, tries = Clock(), list[float]()
    monkeypatch.setattr(waiting, "time", clock)
    with pytest.raises(StoreError):
        waiting.patiently(fail)
    assert [seconds - tries[0] for seconds in tries] == list(range(0, 62, 2))


@pytest.mark.parametrize("store", ["sqlite"], indirect=True)
def test_snapshots_go_on_for_a_minute_without_the_database(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> str:
        raise StoreError("the database is away")

    clock = Clock()
    monkeypatch.setattr(waiting, "time", clock)
    began = clock.seconds
    found = snapshots(store, submit(store, *specs(seeds=0)), fail)
    obstacles = [next(found).obstacle for _ in range(30)]
    assert obstacles == ["the database is away; trying again for 60 s"] * 30
    assert clock.seconds == began + 58
    with pytest.raises(StoreError):
        next(found)
