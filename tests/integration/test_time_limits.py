"""How long leases, delays and rows of workers last, and what times are recorded. On both databases.

The lengths are written out: taken from the code, they would be right whatever they are. What is written is compared
with the database's clock before and after; what is read is set far enough from a limit for a slow machine.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Column, select

from mlpq.jobs import Outcome
from mlpq.records import ClaimedJob
from mlpq.store import execution, queries, worker_queries
from mlpq.store.schema import experiments, workers
from mlpq.store.session import Store, now
from mlpq.worker_records import WorkerCapabilities
from tests.support.job_steps import (
    claim,
    claim_one,
    fail,
    finish,
    heartbeat,
    let_delay_pass,
    let_lease_expire,
    set_beat,
    set_lease,
    spec,
    specs,
    submit,
    whole_row,
)

CPU = WorkerCapabilities("cpu")
ANN, BOB = "ann:1:a", "bob:2:b"
HOUR, DAY = 3600, 24 * 3600


def clock(store: Store) -> datetime:
    with store.read() as connection:
        found: datetime = connection.execute(select(now())).scalar_one()
    return found


@contextmanager
def written(store: Store, time: Callable[[], Any], ahead: float = 0) -> Iterator[None]:
    """Check that the block sets `time` to the present plus `ahead` seconds."""
    before = clock(store)
    yield
    assert before <= time() - timedelta(seconds=ahead) <= clock(store)


def column(store: Store, job: str, name: str) -> Callable[[], Any]:
    return lambda: whole_row(store, job)[name]


def attempt_time(store: Store, job: str, name: str) -> Callable[[], Any]:
    return lambda: getattr(queries.attempts_of(store, job)[0], name)


def of_workers(store: Store, what: Column[Any]) -> dict[str, Any]:
    """A column of the workers that have a row, dead or alive, by name."""
    with store.read() as connection:
        return {row[0]: row[1] for row in connection.execute(select(workers.c.name, what))}


def beat(store: Store, *names: str) -> None:
    """Let these workers send a heartbeat."""
    for name in names:
        execution.worker_heartbeat(store, name, CPU)


def live(store: Store) -> list[str]:
    return [worker.name for worker in worker_queries.live_workers(store)]


def claimed_by(store: Store, worker: str) -> list[str]:
    return [job.id for job in claim(store, worker)]


# --- leases


def test_lease_lasts_a_minute_from_the_claim(store: Store) -> None:
    (job,) = submit(store, spec())
    with written(store, column(store, job, "lease_until"), ahead=60):
        claim_one(store)


def test_heartbeat_renews_the_lease_for_a_minute(store: Store) -> None:
    (job,) = submit(store, spec())
    claimed = claim_one(store)
    set_lease(store, job, -HOUR)
    with written(store, column(store, job, "lease_until"), ahead=60):
        heartbeat(store, claimed)


def test_heartbeat_leaves_the_leases_of_other_jobs(store: Store) -> None:
    submit(store, *specs(seeds="1..2"))
    ours, other = claim(store, limit=2)
    before = whole_row(store, other.id)
    heartbeat(store, ours)
    assert whole_row(store, other.id) == before


def test_lease_is_kept_until_it_ends(store: Store) -> None:
    (job,) = submit(store, spec())
    claim_one(store)
    set_lease(store, job, 25)
    assert execution.requeue_expired(store) == []
    set_lease(store, job, -0.1)
    assert execution.requeue_expired(store) == [job]


def test_lease_may_be_a_second_longer_than_any_that_is_given(store: Store) -> None:
    """Clocks are set back by milliseconds all the time; further ahead, it was given before the clock was set back."""
    (job,) = submit(store, spec())
    claim_one(store)
    set_lease(store, job, 60.9)
    assert execution.requeue_expired(store) == []
    set_lease(store, job, 150)
    assert execution.requeue_expired(store) == [job]


# --- workers


def test_heartbeat_of_a_worker_is_recorded_each_time(store: Store) -> None:
    beat(store, BOB)
    others = of_workers(store, workers.c.beat_at)
    for _ in range(2):
        with written(store, lambda: of_workers(store, workers.c.beat_at)[ANN]):
            beat(store, ANN)
        set_beat(store, ANN, -HOUR)
    assert of_workers(store, workers.c.beat_at)[BOB] == others[BOB]


def test_worker_is_alive_for_a_minute_after_its_heartbeat(store: Store) -> None:
    beat(store, ANN)
    for ago, expected in ((35, [ANN]), (60.1, []), (-0.9, [ANN]), (-90, [])):
        set_beat(store, ANN, -ago)
        assert live(store) == expected


def test_worker_is_forgotten_after_a_day_without_a_heartbeat(store: Store) -> None:
    beat(store, ANN, BOB)
    set_beat(store, ANN, 600 - DAY)
    beat(store, BOB)
    assert of_workers(store, workers.c.name).keys() == {ANN, BOB}
    set_beat(store, ANN, -DAY - 1)
    beat(store, BOB)
    assert of_workers(store, workers.c.name).keys() == {BOB}


@pytest.mark.parametrize("away", [600, 2 * DAY])
def test_worker_that_returns_keeps_its_row(store: Store, away: float) -> None:
    """It may have been suspended: what it has done still counts."""
    beat(store, ANN, BOB)
    submit(store, spec())
    finish(store, claim_one(store, ANN))
    started = of_workers(store, workers.c.started_at)
    set_beat(store, ANN, -away)
    beat(store, ANN)
    assert of_workers(store, workers.c.jobs_done) == {ANN: 1, BOB: 0}
    assert of_workers(store, workers.c.started_at) == started


# --- retries


def test_job_that_failed_is_delayed_by_five_seconds_for_each_attempt_up_to_a_minute(store: Store) -> None:
    (job,) = submit(store, spec(), attempts=20)
    for number in range(1, 15):
        claimed = claim_one(store)
        assert claimed.attempt == number
        with written(store, column(store, job, "not_before"), ahead=min(5 * number, 60)):
            fail(store, claimed)
        let_delay_pass(store, job, HOUR)


def test_delayed_job_is_claimed_when_its_delay_is_over(store: Store) -> None:
    """A delay that is a second longer than any is one, as the clock may have been set back by so much."""
    (job,) = submit(store, spec())
    fail(store, claim_one(store))
    for left in (60.9, 25):
        let_delay_pass(store, job, -left)
        assert claim(store) == []
    let_delay_pass(store, job, 0.1)
    assert claimed_by(store, ANN) == [job]


def test_delay_that_is_much_longer_than_any_is_over(store: Store) -> None:
    (job,) = submit(store, spec())
    fail(store, claim_one(store))
    let_delay_pass(store, job, -150)
    assert claimed_by(store, ANN) == [job]


def test_job_that_failed_is_left_to_others_for_half_a_minute(store: Store) -> None:
    (job,) = submit(store, spec())
    fail(store, claim_one(store, ANN))
    beat(store, ANN, BOB)
    let_delay_pass(store, job, 1)
    assert claimed_by(store, ANN) == []
    let_delay_pass(store, job, 30.1)
    assert claimed_by(store, ANN) == [job]


def test_others_claim_a_job_that_failed_when_its_delay_is_over(store: Store) -> None:
    (job,) = submit(store, spec())
    fail(store, claim_one(store, ANN))
    beat(store, ANN, BOB)
    let_delay_pass(store, job, 0.1)
    assert claimed_by(store, BOB) == [job]


@pytest.mark.parametrize("attempts", [2, 3])
def test_last_attempt_is_left_to_others_while_they_are_alive(store: Store, attempts: int) -> None:
    (job,) = submit(store, spec(), attempts=attempts)
    for _ in range(attempts - 1):
        fail(store, claim_one(store, ANN))
        let_delay_pass(store, job, HOUR)
    beat(store, ANN, BOB)
    assert claimed_by(store, ANN) == []
    set_beat(store, BOB, -60.1)
    assert claimed_by(store, ANN) == [job]


def test_delay_ends_with_the_claim(store: Store) -> None:
    """The job did not fail on the worker that releases it, which may claim it again."""
    (job,) = submit(store, spec(), attempts=2)
    fail(store, claim_one(store, ANN))
    beat(store, ANN, BOB)
    let_delay_pass(store, job)
    claimed = claim_one(store, BOB)
    assert whole_row(store, job)["not_before"] is None
    fail(store, claimed, Outcome.RELEASED)
    assert claimed_by(store, BOB) == [job]


@pytest.mark.parametrize("outcome", [Outcome.RELEASED, Outcome.LOST])
def test_job_that_did_not_fail_is_not_delayed(store: Store, outcome: Outcome) -> None:
    (job,) = submit(store, spec())
    beat(store, ANN, BOB)
    claimed = claim_one(store, ANN)
    if outcome is Outcome.LOST:
        let_lease_expire(store, job)
        execution.requeue_expired(store)
    else:
        fail(store, claimed, outcome)
    assert claimed_by(store, ANN) == [job]


# --- recorded times


@pytest.mark.parametrize("end", [finish, fail])
def test_recorded_times_are_those_of_the_databases_clock(
    store: Store, end: Callable[[Store, ClaimedJob], object]
) -> None:
    def experiment_time() -> Any:
        with store.read() as connection:
            return connection.execute(select(experiments.c.created_at)).scalar_one()

    ids: list[str] = []
    with written(store, experiment_time), written(store, lambda: whole_row(store, ids[0])["created_at"]):
        ids += submit(store, spec(), attempts=1)
    (job,) = ids
    with written(store, attempt_time(store, job, "started_at")):
        claimed = claim_one(store)
    with written(store, column(store, job, "finished_at")), written(store, attempt_time(store, job, "ended_at")):
        end(store, claimed)
