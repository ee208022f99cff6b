"""Attempts: one writer at a time, one result per job, and a reason for every ending. On both databases."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import func, select, update
from sqlalchemy.exc import IntegrityError

from mlpq.jobs import Outcome
from mlpq.records import ClaimedJob
from mlpq.store import execution, queries, submission, worker_queries
from mlpq.store.schema import epochs, job_results, jobs
from mlpq.store.session import Store
from mlpq.worker_records import WorkerCapabilities
from tests.support.job_steps import (
    RESULT,
    attempts,
    child_of,
    claim,
    claim_one,
    epoch,
    fail,
    finish,
    heartbeat,
    let_delay_pass,
    let_lease_expire,
    result,
    row,
    spec,
    status,
    submit,
    whole_row,
)

WRITES: dict[str, Callable[[Store, ClaimedJob], object]] = {
    "heartbeat": lambda store, claimed: heartbeat(store, claimed, [epoch(1)], "a line"),
    "finish": finish,
    "fail": fail,
    "release": lambda store, claimed: fail(store, claimed, Outcome.RELEASED),
    "diverge": lambda store, claimed: fail(store, claimed, Outcome.DIVERGED),
}


def everything(store: Store, job: str) -> Any:
    with store.read() as connection:
        curve = connection.execute(select(epochs).order_by(epochs.c.attempt, epochs.c.epoch)).all()
        results = connection.execute(select(job_results)).all()
    recorded = [replace(attempt, fence_rejections=0) for attempt in queries.attempts_of(store, job)]
    return whole_row(store, job), recorded, curve, results


def stale_attempt(store: Store) -> ClaimedJob:
    """An attempt whose lease expired, and whose job another worker claimed."""
    claimed = claim_one(store, "ann:1:a")
    let_lease_expire(store, claimed.id)
    assert execution.requeue_expired(store) == [claimed.id]
    claim_one(store, "bob:2:b")
    return claimed


@pytest.mark.parametrize("write", WRITES)
def test_attempt_that_lost_its_lease_to_another_worker_writes_nothing(store: Store, write: str) -> None:
    (job,) = submit(store, spec())
    stale = stale_attempt(store)
    before = everything(store, job)
    assert WRITES[write](store, stale) is None
    assert everything(store, job) == before
    assert [attempt.fence_rejections for attempt in queries.attempts_of(store, job)] == [1, 0]


@pytest.mark.parametrize("write", WRITES)
def test_attempt_whose_job_was_requeued_writes_nothing(store: Store, write: str) -> None:
    """No worker has the job: the fence checks the status too, not only the attempt."""
    (job,) = submit(store, spec())
    claimed = claim_one(store)
    let_lease_expire(store, job)
    execution.requeue_expired(store)
    before = everything(store, job)
    assert WRITES[write](store, claimed) is None
    assert everything(store, job) == before


@pytest.mark.parametrize("write", WRITES)
def test_finished_job_never_changes(store: Store, write: str) -> None:
    (job,) = submit(store, spec())
    claimed = claim_one(store)
    finish(store, claimed)
    before = everything(store, job)
    assert WRITES[write](store, claimed) == (None if write == "heartbeat" else "succeeded")
    assert everything(store, job) == before
    assert [attempt.fence_rejections for attempt in queries.attempts_of(store, job)] == [0]


def test_repeated_success_keeps_the_first_figures(store: Store) -> None:
    """The response to the first commit may get lost; the worker then repeats the write."""
    (job,) = submit(store, spec())
    claimed = claim_one(store)
    finish(store, claimed)
    before = everything(store, job)
    assert finish(store, claimed, test_correct=1) == "succeeded"
    assert everything(store, job) == before
    assert result(store, job).test_correct == RESULT.test_correct


@pytest.mark.parametrize("outcome", [Outcome.FAILED, Outcome.RELEASED, Outcome.DIVERGED, Outcome.CANCELLED])
def test_repeated_ending_without_a_result_is_recorded_once(store: Store, outcome: Outcome) -> None:
    """Otherwise a repeated release would count twice, and a repeated write would look like a lost lease."""
    (job,) = submit(store, spec())
    claimed = claim_one(store)
    ended = fail(store, claimed, outcome)
    before = everything(store, job)
    assert fail(store, claimed, outcome, "another error") == ended
    assert everything(store, job) == before


def test_repeated_ending_returns_the_current_status(store: Store) -> None:
    (job,) = submit(store, spec())
    claimed = claim_one(store, "ann:1:a")
    assert fail(store, claimed, Outcome.RELEASED) == "queued"
    claim_one(store, "bob:2:b")
    before = everything(store, job)
    assert fail(store, claimed, Outcome.RELEASED) == "running"
    assert everything(store, job) == before


def test_new_attempt_records_after_the_old_one_was_rejected(store: Store) -> None:
    (job,) = submit(store, spec())
    stale = claim_one(store, "ann:1:a")
    let_lease_expire(store, job)
    execution.requeue_expired(store)
    claimed = claim_one(store, "bob:2:b")
    assert finish(store, stale, test_correct=1) is None
    finish(store, claimed, test_correct=2)
    assert (result(store, job).test_correct, row(store, job).attempt, row(store, job).worker) == (2, 2, "bob:2:b")
    assert attempts(store, job) == [(1, "lost"), (2, "succeeded")]


def test_heartbeat_renews_the_lease(store: Store) -> None:
    (job,) = submit(store, spec())
    claimed = claim_one(store)
    let_lease_expire(store, job)
    heartbeat(store, claimed)
    assert execution.requeue_expired(store) == []
    assert status(store, job) == "running"


def test_epochs_sent_twice_are_recorded_once(store: Store) -> None:
    (job,) = submit(store, spec())
    claimed = claim_one(store)
    heartbeat(store, claimed, [epoch(1, 300)], "epoch 1")
    heartbeat(store, claimed, [epoch(1, 300), epoch(2, 310)], "epoch 2")
    assert [(found.epoch, found.test_correct) for found in queries.curve(store, job)] == [(1, 300), (2, 310)]
    assert queries.attempts_of(store, job)[0].log_tail == "epoch 2"


def test_curve_is_that_of_the_current_attempt(store: Store) -> None:
    (job,) = submit(store, spec())
    heartbeat(store, claim_one(store), [epoch(1, 111)])
    let_lease_expire(store, job)
    execution.requeue_expired(store)
    claimed = claim_one(store)
    assert queries.curve(store, job) == []
    heartbeat(store, claimed, [epoch(1, 222)])
    assert [found.test_correct for found in queries.curve(store, job)] == [222]
    with store.read() as connection:
        first = select(epochs.c.test_correct).where(epochs.c.job_id == job, epochs.c.attempt == 1)
        assert connection.execute(first).scalars().all() == [111]


def test_job_with_a_live_lease_is_not_requeued(store: Store) -> None:
    submit(store, spec())
    claim_one(store)
    assert execution.requeue_expired(store) == []


def test_job_with_expired_leases_fails_after_its_last_attempt(store: Store) -> None:
    job, child = submit(store, spec(), child_of(spec()))
    for _ in range(3):
        assert status(store, job) == "queued"
        claim_one(store)
        let_lease_expire(store, job)
        assert execution.requeue_expired(store) == [job]
    assert (status(store, job), status(store, child)) == ("failed", "failed")
    assert "lease expired" in (row(store, job).error or "")
    assert attempts(store, job) == [(number, "lost") for number in (1, 2, 3)]
    assert all("lease expired" in (attempt.error or "") for attempt in queries.attempts_of(store, job))
    assert claim(store) == []


def test_job_with_a_cancel_request_is_cancelled_when_its_lease_expires(store: Store) -> None:
    (job,) = submit(store, spec())
    claim_one(store)
    submission.cancel(store, [job])
    let_lease_expire(store, job)
    execution.requeue_expired(store)
    assert status(store, job) == "cancelled"


def test_failed_attempt_is_retried_after_a_delay_until_attempts_are_used_up(store: Store) -> None:
    job, child = submit(store, spec(), child_of(spec()))
    for attempt in (1, 2):
        assert fail(store, claim_one(store), error=f"error {attempt}") == "queued"
        assert claim(store) == []
        assert row(store, job).error is None
        let_delay_pass(store, job)
    assert fail(store, claim_one(store), error="the last error") == "failed"
    assert (row(store, job).error, status(store, child)) == ("the last error", "failed")
    assert [attempt.error for attempt in queries.attempts_of(store, job)] == ["error 1", "error 2", "the last error"]
    assert claim(store) == []


def test_diverged_job_is_never_retried(store: Store) -> None:
    (job,) = submit(store, spec())
    assert fail(store, claim_one(store), Outcome.DIVERGED, "the loss became nan in epoch 1") == "failed"
    assert (row(store, job).outcome, row(store, job).error) == ("diverged", "the loss became nan in epoch 1")
    assert claim(store) == []


def test_released_attempt_does_not_count(store: Store) -> None:
    (job,) = submit(store, spec())
    for _ in range(4):
        assert fail(store, claim_one(store), Outcome.RELEASED) == "queued"
    for _ in range(2):
        assert fail(store, claim_one(store)) == "queued"
        let_delay_pass(store, job)
    assert fail(store, claim_one(store)) == "failed"


@pytest.mark.parametrize("outcome", Outcome)
def test_ended_attempt_has_its_outcome_end_and_log(store: Store, outcome: Outcome) -> None:
    (job,) = submit(store, spec())
    claimed = claim_one(store)
    if outcome is Outcome.SUCCEEDED:
        finish(store, claimed)
    elif outcome is Outcome.LOST:
        heartbeat(store, claimed, log_tail="the last line")
        let_lease_expire(store, job)
        execution.requeue_expired(store)
    else:
        fail(store, claimed, outcome)
    (attempt,) = queries.attempts_of(store, job)
    assert (attempt.outcome, attempt.log_tail) == (outcome, "the last line")
    assert attempt.started_at is not None
    assert attempt.ended_at is not None
    assert attempt.ended_at >= attempt.started_at
    assert (attempt.error is None) == (outcome is Outcome.SUCCEEDED)


def test_failed_write_of_a_result_leaves_the_job_running(store: Store) -> None:
    """All of a result or nothing: impossible figures make the insert fail, after the fenced update."""
    (job,) = submit(store, spec())
    claimed = claim_one(store)
    with pytest.raises(IntegrityError, match="test_count"):
        finish(store, claimed, test_correct=501)
    assert status(store, job) == "running"
    finish(store, claimed)
    assert status(store, job) == "succeeded"


@pytest.mark.parametrize(
    "values",
    [
        {"status": "running"},
        {"lease_until": func.current_timestamp()},
        {"status": "succeeded"},
        {"finished_at": func.current_timestamp()},
        {"status": "asleep"},
    ],
    ids=lambda values: " ".join(values),
)
def test_database_rejects_an_impossible_state(store: Store, values: dict[str, Any]) -> None:
    """A queued job has neither a lease nor an end; a running one has a lease, a finished one an end."""
    (job,) = submit(store, spec())
    with pytest.raises(IntegrityError), store.write() as connection:
        connection.execute(update(jobs).where(jobs.c.id == job).values(values))


def test_worker_is_alive_from_its_heartbeat_until_it_shuts_down(store: Store) -> None:
    execution.worker_heartbeat(store, "ann:1:a", WorkerCapabilities("cpu"))
    execution.worker_heartbeat(store, "ann:1:a", WorkerCapabilities("cpu"))
    execution.worker_heartbeat(store, "bob:2:b", WorkerCapabilities("cuda"))
    assert [(worker.name, worker.device) for worker in worker_queries.live_workers(store)] == [
        ("ann:1:a", "cpu"),
        ("bob:2:b", "cuda"),
    ]
    execution.remove_worker(store, "ann:1:a")
    assert [worker.name for worker in worker_queries.live_workers(store)] == ["bob:2:b"]
