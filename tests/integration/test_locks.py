"""What a transaction may wait for on PostgreSQL, where several write at once; SQLite has one writer at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import insert, select, update

from mlpq.jobs import Status, fingerprint, job_id
from mlpq.records import AttemptProgress, ClaimedJob, Placement, SubmittedJob
from mlpq.store import execution, submission
from mlpq.store.schema import environments, experiments, jobs
from mlpq.store.session import Store, now
from tests.support.job_steps import (
    FACTS,
    attempts,
    child_of,
    claim,
    claim_one,
    finish,
    heartbeat,
    ids,
    let_lease_expire,
    spec,
    specs,
    status,
    submit,
    success,
    whole_row,
)
from tests.support.transactions import wait_for_a_waiter

ANSWER_SECONDS = 5.0  # a statement that waits for another transaction fails after this, rather than hang


@pytest.fixture
def postgresql(both_stores: tuple[Store, Store]) -> Iterator[Store]:
    _, store = both_stores
    store.answer_seconds = ANSWER_SECONDS
    yield store
    store.answer_seconds = None


WRITES: dict[str, Callable[[Store, list[ClaimedJob]], object]] = {
    "heartbeat": lambda store, gang: execution.heartbeat(store, [AttemptProgress(job, [], None) for job in gang]),
    "record": lambda store, gang: execution.record(store, [success(job) for job in gang]),
    "cancel": lambda store, gang: submission.cancel(store, ids(gang)),
}


@pytest.mark.parametrize(("write", "awaited"), [("heartbeat", 0), ("record", 0), ("record", 1), ("cancel", 0)])
def test_rows_are_locked_in_the_order_of_submission(postgresql: Store, write: str, awaited: int) -> None:
    """Two transactions that lock rows in different orders would deadlock.

    While a transaction waits for the first row, or for its child, it must not hold the last one.
    """
    family = [job for parent in specs(seeds="0..1") for job in (parent, child_of(parent, seeds=parent.seed))]
    submitted = submit(postgresql, *family)
    gang = claim(postgresql, limit=2)[::-1]
    with ThreadPoolExecutor(1) as pool:
        with postgresql.write() as connection:
            connection.execute(select(jobs.c.id).where(jobs.c.id == submitted[awaited]).with_for_update())
            written = pool.submit(WRITES[write], postgresql, gang)
            wait_for_a_waiter(connection)
            last = select(jobs.c.id).where(jobs.c.id == gang[0].id).with_for_update(skip_locked=True)
            assert connection.execute(last).all()
        assert written.result()


def test_jobs_that_another_worker_is_claiming_are_skipped(postgresql: Store) -> None:
    """The second worker gets the next jobs at once, up to its limit."""
    submitted = submit(postgresql, *specs(seeds="0..5"))
    with postgresql.read() as connection:
        being_claimed = select(jobs.c.id).where(jobs.c.id.in_([submitted[0], submitted[3]])).with_for_update()
        assert len(connection.execute(being_claimed).all()) == 2
        assert ids(claim(postgresql, limit=3)) == [submitted[1], submitted[2], submitted[4]]
    assert ids(claim(postgresql, limit=8)) == [submitted[0], submitted[3], submitted[5]]


def test_expired_lease_that_is_being_renewed_is_not_waited_for(postgresql: Store) -> None:
    """Nor is it taken: the heartbeat came first. The other one is requeued."""
    submit(postgresql, *specs(seeds="1..2"))
    renewed, other = claim(postgresql, limit=2)
    for job in (renewed, other):
        let_lease_expire(postgresql, job.id)
    with postgresql.write() as connection:
        connection.execute(update(jobs).where(jobs.c.id == renewed.id).values(lease_until=now(60)))
        assert execution.requeue_expired(postgresql) == [other.id]
    assert status(postgresql, renewed.id) is Status.RUNNING
    assert heartbeat(postgresql, renewed) is False


def test_heartbeat_does_not_wait_for_a_submission_that_continues_from_its_job(postgresql: Store) -> None:
    """It would deadlock with a submission that continues from several jobs of a gang."""
    parent, child = submit(postgresql, spec(), child_of(spec()))
    claimed = claim_one(postgresql)
    row = {name: value for name, value in whole_row(postgresql, child).items() if name not in ("seq", "id", "repeat")}
    another = job_id("lab", row["spec_hash"], 1)
    with postgresql.write() as connection:
        connection.execute(insert(jobs).values(**row, id=another, repeat=1))  # locks the parent's key
        assert heartbeat(postgresql, claimed) is False
    assert finish(postgresql, claimed) is Status.SUCCEEDED
    assert status(postgresql, another) is Status.QUEUED
    assert attempts(postgresql, parent) == [(1, "succeeded")]


def test_claims_record_an_environment_that_another_claim_is_recording(postgresql: Store) -> None:
    submit(postgresql, spec())
    facts = {**FACTS, "data_checksum": spec().data.checksum}
    with ThreadPoolExecutor(1) as pool:
        with postgresql.write() as connection:
            connection.execute(insert(environments).values(fingerprint=fingerprint(facts), facts=facts))
            claimed = pool.submit(claim_one, postgresql)
            wait_for_a_waiter(connection)
        assert claimed.result().attempt == 1


@contextmanager
def as_soon_as(store: Store, job: str, action: Callable[[], object], **values: Any) -> Iterator[Future[Any]]:
    """Begin `action` while a transaction that sets these values of the job is about to be committed."""
    with ThreadPoolExecutor(1) as pool:
        with store.write() as connection:
            connection.execute(update(jobs).where(jobs.c.id == job).values(**values))
            begun = pool.submit(action)
            wait_for_a_waiter(connection)
        yield begun


def test_placement_of_a_job_that_is_being_claimed_stays(postgresql: Store) -> None:
    (waiting,) = submit(postgresql, spec())
    job = SubmittedJob(waiting, spec(), is_new=False)

    def change() -> tuple[int, int]:
        return submission.change_placement(postgresql, [job], Placement(device="cuda"), ["device"])

    with as_soon_as(postgresql, job.id, change, status=Status.RUNNING, lease_until=now(60)) as changed:
        assert changed.result() == (0, 1)
    assert whole_row(postgresql, job.id)["device"] == "auto"


def test_child_of_a_parent_that_is_about_to_succeed_is_queued(postgresql: Store) -> None:
    (parent,) = submit(postgresql, spec())
    claim_one(postgresql)

    def submit_child() -> list[str]:
        return submit(postgresql, child_of(spec()), parent_id=parent)

    done = {"status": Status.SUCCEEDED, "lease_until": None, "finished_at": now()}
    with as_soon_as(postgresql, parent, submit_child, **done) as submitted:
        (child,) = submitted.result()
    assert status(postgresql, child) is Status.QUEUED


def test_submissions_to_one_experiment_wait_for_each_other(postgresql: Store) -> None:
    submit(postgresql, spec())
    with ThreadPoolExecutor(1) as pool:
        with postgresql.write() as connection:
            connection.execute(select(experiments.c.id).with_for_update(key_share=True))  # foreign keys do not wait
            submitted = pool.submit(submit, postgresql, spec(seeds=2))
            wait_for_a_waiter(connection)
        assert len(submitted.result()) == 1
