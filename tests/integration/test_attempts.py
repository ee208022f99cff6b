"""Attempts: one writer at a time, one result a job, and every end has its reason. On both databases."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import func, select, update
from sqlalchemy.exc import IntegrityError

from mlpq.jobs import MAX_ATTEMPTS, Outcome
from mlpq.store import execution, queries, submission
from mlpq.store.execution import Able, Held
from mlpq.store.schema import epochs, job_results, jobs
from mlpq.store.session import Store
from tests.support.job_steps import (
    RESULT,
    attempts,
    beat,
    child_of,
    claim,
    claim_one,
    epoch,
    fail,
    file,
    finish,
    let_delay_pass,
    let_lease_expire,
    row,
    spec,
    status,
    whole_row,
)

WRITES = {
    "beat": lambda store, held: beat(store, held, [epoch(1)], "a line"),
    "finish": finish,
    "fail": fail,
    "release": lambda store, held: fail(store, held, Outcome.RELEASED),
    "diverge": lambda store, held: fail(store, held, Outcome.DIVERGED),
}


def everything(store: Store, job: str) -> Any:
    with store.read() as connection:
        curve = connection.execute(select(epochs).order_by(epochs.c.attempt, epochs.c.epoch)).all()
        results = connection.execute(select(job_results)).all()
    told = [{**attempt, "fence_rejections": None} for attempt in queries.attempts_of(store, job)]
    return whole_row(store, job), told, curve, results


def taken_away(store: Store) -> Held:
    """An attempt whose job was taken back and given to another worker."""
    held = claim_one(store, "ann")
    let_lease_expire(store, held.id)
    assert execution.reap(store) == [held.id]
    claim_one(store, "bob")
    return held


@pytest.mark.parametrize("write", WRITES)
def test_an_attempt_that_lost_its_job_can_write_nothing(store: Store, write: str) -> None:
    (job,) = file(store, spec())
    stale = taken_away(store)
    before = everything(store, job)
    assert WRITES[write](store, stale) is None
    assert everything(store, job) == before
    assert [attempt["fence_rejections"] for attempt in queries.attempts_of(store, job)] == [1, 0]


@pytest.mark.parametrize("write", WRITES)
def test_an_attempt_whose_job_was_taken_back_can_write_nothing(store: Store, write: str) -> None:
    """Nobody holds the job now: the fence is the state too, not only the number."""
    (job,) = file(store, spec())
    held = claim_one(store)
    let_lease_expire(store, job)
    execution.reap(store)
    before = everything(store, job)
    assert WRITES[write](store, held) is None
    assert everything(store, job) == before


@pytest.mark.parametrize("write", WRITES)
def test_a_finished_job_never_changes(store: Store, write: str) -> None:
    (job,) = file(store, spec())
    held = claim_one(store)
    finish(store, held)
    before = everything(store, job)
    assert WRITES[write](store, held) == (None if write == "beat" else "succeeded")
    assert everything(store, job) == before
    assert [attempt["fence_rejections"] for attempt in queries.attempts_of(store, job)] == [0]


def test_finishing_twice_records_once_and_keeps_the_first_figures(store: Store) -> None:
    """The answer to the first commit may get lost; the worker then asks again."""
    (job,) = file(store, spec())
    held = claim_one(store)
    finish(store, held)
    before = everything(store, job)
    assert finish(store, held, test_correct=1) == "succeeded"
    assert everything(store, job) == before
    assert row(store, job)["test_correct"] == RESULT["test_correct"]


@pytest.mark.parametrize("outcome", [Outcome.FAILED, Outcome.RELEASED, Outcome.DIVERGED, Outcome.CANCELLED])
def test_an_end_without_a_result_is_recorded_once_too(store: Store, outcome: Outcome) -> None:
    """Else an attempt given back would be counted off twice, and one asked again would be taken for lost."""
    (job,) = file(store, spec())
    held = claim_one(store)
    ended = fail(store, held, outcome)
    before = everything(store, job)
    assert fail(store, held, outcome, "another error") == ended
    assert everything(store, job) == before


def test_an_end_told_again_says_what_the_job_is_by_then(store: Store) -> None:
    (job,) = file(store, spec())
    held = claim_one(store, "ann")
    assert fail(store, held, Outcome.RELEASED) == "queued"
    claim_one(store, "bob")
    before = everything(store, job)
    assert fail(store, held, Outcome.RELEASED) == "running"
    assert everything(store, job) == before


def test_the_winner_records_after_the_loser_was_turned_away(store: Store) -> None:
    (job,) = file(store, spec())
    stale = claim_one(store, "ann")
    let_lease_expire(store, job)
    execution.reap(store)
    held = claim_one(store, "bob")
    assert finish(store, stale, test_correct=1) is None
    finish(store, held, test_correct=2)
    assert (row(store, job)["test_correct"], row(store, job)["attempt"], row(store, job)["worker"]) == (2, 2, "bob")
    assert attempts(store, job) == [(1, "lost"), (2, "succeeded")]


def test_a_beat_renews_the_lease(store: Store) -> None:
    (job,) = file(store, spec())
    held = claim_one(store)
    let_lease_expire(store, job)
    beat(store, held)
    assert execution.reap(store) == []
    assert status(store, job) == "running"


def test_epochs_are_recorded_once_even_if_sent_twice(store: Store) -> None:
    (job,) = file(store, spec())
    held = claim_one(store)
    beat(store, held, [epoch(1, 300)], "epoch 1")
    beat(store, held, [epoch(1, 300), epoch(2, 310)], "epoch 2")
    assert [(found["epoch"], found["test_correct"]) for found in queries.curve(store, job)] == [(1, 300), (2, 310)]
    assert queries.attempts_of(store, job)[0]["log_tail"] == "epoch 2"


def test_the_curve_shown_is_the_current_attempts(store: Store) -> None:
    (job,) = file(store, spec())
    beat(store, claim_one(store), [epoch(1, 111)])
    let_lease_expire(store, job)
    execution.reap(store)
    held = claim_one(store)
    assert queries.curve(store, job) == []
    beat(store, held, [epoch(1, 222)])
    assert [found["test_correct"] for found in queries.curve(store, job)] == [222]
    with store.read() as connection:
        first = select(epochs.c.test_correct).where(epochs.c.job_id == job, epochs.c.attempt == 1)
        assert connection.execute(first).scalars().all() == [111]


def test_a_live_lease_is_not_reaped(store: Store) -> None:
    file(store, spec())
    claim_one(store)
    assert execution.reap(store) == []


def test_a_job_of_a_silent_worker_fails_when_its_attempts_are_used_up(store: Store) -> None:
    job, child = file(store, spec(), child_of(spec()))
    for _ in range(MAX_ATTEMPTS):
        assert status(store, job) == "queued"
        claim_one(store)
        let_lease_expire(store, job)
        assert execution.reap(store) == [job]
    assert (status(store, job), status(store, child)) == ("failed", "failed")
    assert "lease ran out" in row(store, job)["error"]
    assert attempts(store, job) == [(number, "lost") for number in range(1, MAX_ATTEMPTS + 1)]
    assert all("fell silent" in attempt["error"] for attempt in queries.attempts_of(store, job))
    assert claim(store) == []


def test_a_job_that_was_asked_to_stop_ends_when_its_worker_falls_silent(store: Store) -> None:
    (job,) = file(store, spec())
    claim_one(store)
    submission.cancel(store, [job])
    let_lease_expire(store, job)
    execution.reap(store)
    assert status(store, job) == "cancelled"


def test_a_failed_attempt_is_tried_again_after_a_delay_and_at_last_fails(store: Store) -> None:
    job, child = file(store, spec(), child_of(spec()))
    for attempt in range(1, MAX_ATTEMPTS):
        assert fail(store, claim_one(store), error=f"error {attempt}") == "queued"
        assert claim(store) == []
        assert row(store, job)["error"] is None
        let_delay_pass(store, job)
    assert fail(store, claim_one(store), error="the last error") == "failed"
    assert (row(store, job)["error"], status(store, child)) == ("the last error", "failed")
    assert [attempt["error"] for attempt in queries.attempts_of(store, job)] == ["error 1", "error 2", "the last error"]
    assert claim(store) == []


def test_a_job_that_diverged_is_never_tried_again(store: Store) -> None:
    (job,) = file(store, spec())
    assert fail(store, claim_one(store), Outcome.DIVERGED, "the loss became nan in epoch 1") == "failed"
    assert (row(store, job)["outcome"], row(store, job)["error"]) == ("diverged", "the loss became nan in epoch 1")
    assert claim(store) == []


def test_a_released_attempt_is_not_counted(store: Store) -> None:
    (job,) = file(store, spec())
    for _ in range(MAX_ATTEMPTS + 1):
        assert fail(store, claim_one(store), Outcome.RELEASED) == "queued"
    for _ in range(MAX_ATTEMPTS - 1):
        assert fail(store, claim_one(store)) == "queued"
        let_delay_pass(store, job)
    assert fail(store, claim_one(store)) == "failed"


@pytest.mark.parametrize("outcome", Outcome)
def test_every_ended_attempt_has_an_end_and_its_last_lines(store: Store, outcome: Outcome) -> None:
    (job,) = file(store, spec())
    held = claim_one(store)
    if outcome is Outcome.SUCCEEDED:
        finish(store, held)
    elif outcome is Outcome.LOST:
        beat(store, held, log_tail="the last line")
        let_lease_expire(store, job)
        execution.reap(store)
    else:
        fail(store, held, outcome)
    (attempt,) = queries.attempts_of(store, job)
    assert (attempt["outcome"], attempt["log_tail"]) == (outcome, "the last line")
    assert attempt["ended_at"] >= attempt["started_at"]
    assert (attempt["error"] is None) == (outcome is Outcome.SUCCEEDED)


def test_a_failure_within_finish_leaves_the_job_running(store: Store) -> None:
    """All of a result or nothing: figures that can't be, so the insert fails after the fenced update."""
    (job,) = file(store, spec())
    held = claim_one(store)
    with pytest.raises(IntegrityError):
        finish(store, held, test_correct=501)
    assert status(store, job) == "running"
    finish(store, held)
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
def test_the_database_itself_refuses_an_impossible_state(store: Store, values: dict[str, Any]) -> None:
    """A queued job has neither a lease nor an end; running and finished ones have theirs."""
    (job,) = file(store, spec())
    with pytest.raises(IntegrityError), store.write() as connection:
        connection.execute(update(jobs).where(jobs.c.id == job).values(values))


def test_a_worker_is_alive_from_its_beat_until_it_leaves(store: Store) -> None:
    execution.worker_beat(store, "ann", Able("cpu"))
    execution.worker_beat(store, "ann", Able("cpu"))
    execution.worker_beat(store, "bob", Able("cuda"))
    assert [(worker["name"], worker["device"]) for worker in queries.live_workers(store)] == [
        ("ann", "cpu"),
        ("bob", "cuda"),
    ]
    execution.worker_gone(store, "ann")
    assert [worker["name"] for worker in queries.live_workers(store)] == ["bob"]
