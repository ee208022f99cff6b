"""A database's clock that is set back: what was given before it must not last longer than what is given now."""

from __future__ import annotations

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import update

from mlpq.jobs import LEASE_SECONDS, Outcome, Status
from mlpq.store import change_tokens, execution, submission, worker_queries
from mlpq.store.liveness import TOLERANCE_SECONDS
from mlpq.store.schema import jobs
from mlpq.store.session import Store, now
from mlpq.worker_records import WorkerCapabilities
from tests.support.job_steps import (
    attempts,
    claim,
    claim_one,
    fail,
    finish,
    heartbeat,
    set_beat,
    set_lease,
    specs,
    status,
    submit,
)

CPU = WorkerCapabilities("cpu")
HOURS = 2 * 3600
MARGIN = 30  # seconds that a step of a test may take

STRANGE_CLOCKS = settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
AHEAD = st.integers(LEASE_SECONDS + TOLERANCE_SECONDS + MARGIN, 10 * 365 * 86_400)


@STRANGE_CLOCKS
@given(ahead=AHEAD)
def test_lease_that_is_longer_than_any_is_requeued(store: Store, ahead: int) -> None:
    (job,) = submit(store, *specs(), again=True)
    claimed = claim_one(store)
    set_lease(store, job, ahead)
    assert execution.requeue_expired(store) == [job]
    assert (status(store, job), attempts(store, job)) == (Status.QUEUED, [(1, Outcome.LOST)])
    assert heartbeat(store, claimed) is None
    assert finish(store, claim_one(store, "bob:2:b")) is Status.SUCCEEDED


@STRANGE_CLOCKS
@given(left=st.integers(MARGIN, LEASE_SECONDS))
def test_lease_within_its_length_is_kept(store: Store, left: int) -> None:
    (job,) = submit(store, *specs(), again=True)
    claimed = claim_one(store)
    set_lease(store, job, left)
    assert execution.requeue_expired(store) == []
    assert finish(store, claimed) is Status.SUCCEEDED


def test_heartbeat_replaces_a_lease_from_before_the_clock_was_set_back(store: Store) -> None:
    (job,) = submit(store, *specs())
    claimed = claim_one(store)
    set_lease(store, job, HOURS)
    assert heartbeat(store, claimed) is False
    assert execution.requeue_expired(store) == []


def test_cancelled_job_with_a_lease_in_the_future_is_cancelled_when_it_is_taken_back(store: Store) -> None:
    (job,) = submit(store, *specs())
    claim(store)
    set_lease(store, job, HOURS)
    assert submission.cancel(store, [job])["asked to stop"] == 1
    execution.requeue_expired(store)
    assert status(store, job) is Status.CANCELLED
    (again,) = submission.retry_jobs(store, [job])
    assert status(store, again.id) is Status.QUEUED


@STRANGE_CLOCKS
@given(ahead=st.integers(TOLERANCE_SECONDS + MARGIN, 10 * 365 * 86_400))
def test_worker_with_a_heartbeat_in_the_future_is_dead(store: Store, ahead: int) -> None:
    execution.worker_heartbeat(store, "ann:1:a", CPU)
    execution.worker_heartbeat(store, "bob:2:b", CPU)
    set_beat(store, "ann:1:a", ahead)
    assert [worker.name for worker in worker_queries.live_workers(store)] == ["bob:2:b"]
    assert " ann" not in change_tokens.ChangeTokens(store).current()
    submit(store, *specs(seeds="0..3"))
    assert worker_queries.fair_share(store, "cpu", 64) == 64
    execution.worker_heartbeat(store, "ann:1:a", CPU)
    assert {worker.name for worker in worker_queries.live_workers(store)} == {"ann:1:a", "bob:2:b"}


def test_job_that_failed_is_not_left_to_a_peer_with_a_heartbeat_in_the_future(store: Store) -> None:
    (job,) = submit(store, *specs())
    execution.worker_heartbeat(store, "bob:2:b", CPU)
    fail(store, claim_one(store, "ann:1:a"))
    with store.write() as connection:
        connection.execute(update(jobs).where(jobs.c.id == job).values(not_before=now(-1)))
    assert claim(store, "ann:1:a") == []
    set_beat(store, "bob:2:b", HOURS)
    assert [claimed.id for claimed in claim(store, "ann:1:a")] == [job]
