"""Gangs: several jobs of one shape are claimed, beaten and recorded together, each for itself. On both databases."""

from __future__ import annotations

import itertools
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, select, update

from mlpq.jobs import Outcome
from mlpq.store import execution, queries, submission
from mlpq.store.execution import Able, Held, Progress
from mlpq.store.schema import jobs
from mlpq.store.session import Store
from tests.support.job_steps import (
    TOO_BIG_TO_STACK,
    attempts,
    child_of,
    claim,
    claim_one,
    claim_rest,
    epoch,
    fail,
    failure,
    file,
    finish,
    let_delay_pass,
    let_lease_expire,
    row,
    spec,
    specs,
    status,
    success,
    whole_row,
)


def ids(gang: list[Held]) -> list[str]:
    return [held.id for held in gang]


def gangs(store: Store, limit: int = 8) -> list[list[str]]:
    """What is claimed, claim by claim, until there is nothing left."""
    return list(iter(lambda: ids(claim(store, limit=limit)), []))


def statuses(store: Store, of: list[str]) -> list[str]:
    return [status(store, job) for job in of]


def test_a_gang_is_of_one_key(store: Store) -> None:
    small = file(store, *specs(seeds="0..1", hidden="16"))
    large = file(store, *specs(seeds="0..1", hidden="32"))
    more = file(store, *specs(seeds="2..3", hidden="16"))
    assert gangs(store) == [small + more, large]


def test_a_gang_is_of_one_priority(store: Store) -> None:
    usual = file(store, *specs(seeds="0..1"))
    high = file(store, *specs(seeds="2..3"), priority=5)
    low = file(store, *specs(seeds="4..5"), priority=-5)
    assert gangs(store) == [high, usual, low]


def test_a_gang_mixes_optimizers_epochs_and_experiments(store: Store) -> None:
    one = file(store, *specs(optimizer=["sgd", "adam"], lr="0.1,0.01"), experiment="one")
    other = file(store, spec(epochs=7, l1="0.1", dropout="0.5"), experiment="other")
    assert gangs(store) == [one + other]


def test_a_gang_is_no_larger_than_asked_for(store: Store) -> None:
    filed = file(store, *specs(seeds="0..6"))
    assert gangs(store, limit=3) == [filed[:3], filed[3:6], filed[6:]]


def test_a_gang_is_for_one_device(store: Store) -> None:
    (first,) = file(store, spec(seeds=1))
    file(store, spec(seeds=2), device="cuda")
    (last,) = file(store, spec(seeds=3), device="cpu")
    assert gangs(store) == [[first, last]]


def test_a_model_too_big_to_stack_is_claimed_alone(store: Store) -> None:
    big = specs(seeds="0..2", **TOO_BIG_TO_STACK)
    assert big[0].gang_key is None
    filed = file(store, *big)
    assert gangs(store) == [[job] for job in filed]


def test_a_job_filed_anew_joins_gangs_again(store: Store) -> None:
    filed = file(store, *specs(seeds="0..1"))
    submission.cancel(store, filed)
    renewed = [job.id for job in submission.file_again(store, filed)]
    assert gangs(store) == [renewed]


def test_jobs_of_one_gang_go_on_each_from_its_own_parent(store: Store) -> None:
    parents = specs(seeds="0..2")
    children = file(store, *parents, *(child_of(parent, seeds=parent.seed) for parent in parents))[3:]
    began = claim(store, limit=8)
    execution.record(store, [success(held, weights_file=f"/w/{held.id}") for held in began])
    gang = claim(store, limit=8)
    assert ids(gang) == children
    assert [held.parent_weights for held in gang] == [f"/w/{held.id}" for held in began]


def test_each_job_of_a_gang_has_an_attempt_of_its_own_and_the_same_environment(store: Store) -> None:
    filed = file(store, *specs(seeds="0..2"))
    claim(store, limit=3)
    rows = [attempt for job in filed for attempt in queries.attempts_of(store, job)]
    assert [(found["job_id"], found["attempt"]) for found in rows] == [(job, 1) for job in filed]
    assert len({found["environment_id"] for found in rows}) == 1


def test_a_spec_that_cannot_be_read_fails_and_the_rest_of_its_gang_runs(store: Store) -> None:
    filed = file(store, *specs(seeds="0..2"))
    with store.write() as connection:
        connection.execute(update(jobs).where(jobs.c.id == filed[1]).values(spec={"dataset": "emnist"}))
    assert gangs(store) == [[filed[0], filed[2]]]
    assert "can't read the spec" in whole_row(store, filed[1])["error"]


def test_what_another_worker_is_claiming_is_passed_over(both_stores: tuple[Store, Store]) -> None:
    """On PostgreSQL, where workers claim side by side: the second gets the next jobs at once, and all that it asked."""
    _, store = both_stores
    filed = file(store, *specs(seeds="0..5"))
    with store.read() as connection:
        being_claimed = select(jobs.c.id).where(jobs.c.id.in_([filed[0], filed[3]])).with_for_update()
        assert len(connection.execute(being_claimed).all()) == 2
        assert ids(claim(store, limit=3)) == [filed[1], filed[2], filed[4]]
    assert gangs(store) == [[filed[0], filed[3], filed[5]]]


@pytest.mark.parametrize("alone", [True, False])
def test_a_job_that_may_have_ended_its_process_is_tried_again_alone(store: Store, alone: bool) -> None:
    """One that kills its process takes a gang with it once and never twice; a full disk is no job's fault.

    The last attempt is each one's own in any case.
    """
    filed = file(store, *specs(seeds="0..2"))
    execution.record(store, [replace(failure(held), alone=alone) for held in claim(store, limit=8)])
    for job in filed:
        let_delay_pass(store, job)
    second = claim(store, limit=8)
    assert ids(second) == (filed[:1] if alone else filed)
    if not alone:
        execution.record(store, [failure(held) for held in second])
        for job in filed:
            let_delay_pass(store, job)
        assert gangs(store) == [[job] for job in filed]


def test_jobs_whose_worker_fell_silent_run_together_again_but_alone_on_their_last_attempt(store: Store) -> None:
    filed = file(store, *specs(seeds="0..2"))
    for claimed in ([filed], [filed], [[job] for job in filed]):
        assert gangs(store) == claimed
        for job in filed:
            let_lease_expire(store, job)
        execution.reap(store)
    assert {status(store, job) for job in filed} == {"failed"}


def test_a_job_that_was_given_back_joins_a_gang_again(store: Store) -> None:
    filed = file(store, *specs(seeds="0..2"))
    gang = claim(store, limit=8)
    execution.record(store, [failure(held, Outcome.RELEASED) for held in gang])
    assert gangs(store) == [filed]


def test_a_gang_is_recorded_each_job_by_its_own_end(store: Store) -> None:
    filed = file(store, *specs(seeds="0..4"))
    good, diverged, failed, released, cancelled = claim(store, limit=8)
    answer = execution.record(
        store,
        [
            success(good, engine="gang", gang_size=5),
            failure(diverged, Outcome.DIVERGED, "the loss became nan in epoch 1"),
            failure(failed),
            failure(released, Outcome.RELEASED),
            failure(cancelled, Outcome.CANCELLED),
        ],
    )
    expected = ["succeeded", "failed", "queued", "queued", "cancelled"]
    assert list(answer.items()) == list(zip(filed, expected, strict=True))
    assert statuses(store, filed) == expected
    found = row(store, good.id)
    assert (found["engine"], found["gang_size"]) == ("gang", 5)
    assert len(queries.curve(store, good.id)) == 2


def test_a_lost_lease_does_not_disturb_the_others_that_are_recorded(store: Store) -> None:
    filed = file(store, *specs(seeds="0..3"))
    gang = claim(store, limit=8)
    let_lease_expire(store, filed[1])
    execution.reap(store)
    let_lease_expire(store, filed[2])
    execution.reap(store)
    again = claim_one(store, "bob")
    before = [whole_row(store, job) for job in filed[1:3]]
    answer = execution.record(store, [success(gang[0]), success(gang[1]), failure(gang[2]), success(gang[3])])
    assert answer == {filed[0]: "succeeded", filed[3]: "succeeded"}
    assert [whole_row(store, job) for job in filed[1:3]] == before
    assert attempts(store, filed[1]) == [(1, "lost"), (2, None)]
    assert queries.curve(store, filed[2]) == []
    assert finish(store, again) == "succeeded"


def test_recording_a_gang_again_changes_nothing_and_answers_the_same(store: Store) -> None:
    """The answer to the first commit may get lost, and the second call be about more jobs than the first."""
    filed = file(store, *specs(seeds="0..2"))
    gang = claim(store, limit=8)
    first = [success(gang[0]), failure(gang[1])]
    answer = execution.record(store, first)
    before = [whole_row(store, job) for job in filed[:2]]
    assert execution.record(store, [*first, success(gang[2])]) == {**answer, filed[2]: "succeeded"}
    assert [whole_row(store, job) for job in filed[:2]] == before


def test_children_of_a_gang_are_queued_or_end_with_their_own_parent(store: Store) -> None:
    good, bad = specs(seeds="0..1")
    children = file(store, good, bad, child_of(good, seeds=0), child_of(bad, seeds=1))[2:]
    gang = claim(store, limit=8)
    execution.record(store, [success(gang[0]), failure(gang[1], Outcome.DIVERGED)])
    assert statuses(store, children) == ["queued", "failed"]


def test_one_job_of_a_gang_is_cancelled_and_the_others_go_on(store: Store) -> None:
    filed = file(store, *specs(seeds="0..2"))
    gang = claim(store, limit=8)
    submission.cancel(store, [filed[1]])
    assert queries.cancel_requested(store, filed) == {filed[1]}
    told = [Progress(held, [epoch(1)], "a line") for held in gang]
    assert execution.beat(store, told) == {filed[0]: False, filed[1]: True, filed[2]: False}
    assert fail(store, gang[1], Outcome.CANCELLED) == "cancelled"
    assert execution.beat(store, told) == {filed[0]: False, filed[2]: False}
    execution.record(store, [success(gang[0]), success(gang[2])])
    assert statuses(store, filed) == ["succeeded", "cancelled", "succeeded"]


WRITES = {
    "beat": lambda store, gang: execution.beat(store, [Progress(held, [], None) for held in gang]),
    "record": lambda store, gang: execution.record(store, [success(held) for held in gang]),
}


@pytest.mark.parametrize(("write", "awaited"), [("beat", 0), ("record", 0), ("record", 1)])
def test_rows_are_locked_in_the_order_of_submission(both_stores: tuple[Store, Store], write: str, awaited: int) -> None:
    """On PostgreSQL. `cancel` does so too, else each could wait for what the other has; a child counts with its parent.

    Whoever waits for the first row, or for its child, must not have the last one.
    """
    _, store = both_stores
    family = [job for parent in specs(seeds="0..1") for job in (parent, child_of(parent, seeds=parent.seed))]
    filed = file(store, *family)
    gang = claim(store, limit=2)[::-1]
    with ThreadPoolExecutor(1) as pool:
        with store.write() as connection:
            connection.execute(select(jobs.c.id).where(jobs.c.id == filed[awaited]).with_for_update())
            written = pool.submit(WRITES[write], store, gang)
            wait_for_a_waiter(connection)
            last = select(jobs.c.id).where(jobs.c.id == gang[0].id).with_for_update(skip_locked=True)
            assert connection.execute(last).all()
        assert set(written.result()) == set(ids(gang))


def wait_for_a_waiter(connection: Connection) -> None:
    """Until another transaction waits for a lock."""
    waiting = "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    until = time.monotonic() + 10
    while not connection.exec_driver_sql(waiting).all():
        assert time.monotonic() < until, "nobody waits"
        connection.exec_driver_sql("SELECT pg_stat_clear_snapshot(), pg_sleep(0.02)")


def test_a_beat_of_many_renews_every_lease_and_records_each_curve(store: Store) -> None:
    filed = file(store, *specs(seeds="0..2"))
    gang = claim(store, limit=8)
    for job in filed:
        let_lease_expire(store, job)
    curves = [[epoch(1, 100)], [epoch(1, 200), epoch(2, 210)], []]
    told = [Progress(held, *rest) for held, *rest in zip(gang, curves, ("one", "two", None), strict=True)]
    assert execution.beat(store, told) == dict.fromkeys(filed, False)
    assert execution.reap(store) == []
    found = [[one["test_correct"] for one in queries.curve(store, job)] for job in filed]
    assert found == [[100], [200, 210], []]
    assert [queries.attempts_of(store, job)[0]["log_tail"] for job in filed] == ["one", "two", None]


def test_a_lost_lease_is_missing_from_the_answer_to_a_beat_of_many(store: Store) -> None:
    filed = file(store, *specs(seeds="0..2"))
    gang = claim(store, limit=8)
    let_lease_expire(store, filed[1])
    execution.reap(store)
    (lost,) = queries.attempts_of(store, filed[1])
    before = whole_row(store, filed[1]), [{**lost, "fence_rejections": 1}]
    answer = execution.beat(store, [Progress(held, [epoch(1)], "a line") for held in gang])
    assert answer == {filed[0]: False, filed[2]: False}
    assert (whole_row(store, filed[1]), queries.attempts_of(store, filed[1])) == before
    assert queries.curve(store, filed[1]) == []
    assert [len(queries.curve(store, job)) for job in (filed[0], filed[2])] == [1, 1]


def test_nothing_to_beat_or_to_record_is_no_error(store: Store) -> None:
    assert execution.beat(store, []) == {}
    assert execution.record(store, []) == {}


SHAPES = ({"batch_size": 16}, {"batch_size": 32}, TOO_BIG_TO_STACK)
EXPERIMENTS = itertools.count()


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    queue=st.lists(st.tuples(st.sampled_from(SHAPES), st.integers(-1, 1)), max_size=12),
    limits=st.lists(st.integers(1, 5), min_size=12, max_size=12),
)
def test_a_claim_takes_the_first_job_and_the_next_ones_that_may_join_it(
    store: Store, queue: list[tuple[dict[str, object], int]], limits: list[int]
) -> None:
    """Against the rule in a few lines of Python; and between them the claims take everything."""
    claim_rest(store, limit=8)  # what a failed example left
    experiment, waiting = str(next(EXPERIMENTS)), []
    for seed, (shape, priority) in enumerate(queue):
        job = spec(seeds=seed, **shape)
        (id_,) = file(store, job, experiment=experiment, priority=priority)
        waiting.append((id_, job.gang_key, priority))
    waiting.sort(key=lambda one: -one[2])
    for limit in limits:
        first = waiting[:1]
        joining = [one for one in waiting[1:] if one[1] is not None and one[1:] == first[0][1:]]
        expected = first + joining[: limit - 1]
        assert ids(claim(store, limit=limit)) == [one[0] for one in expected]
        waiting = [one for one in waiting if one not in expected]
    assert claim_rest(store) == []


def test_workers_alive_share_what_there_is(store: Store) -> None:
    file(store, *specs(seeds="0..39"))
    assert queries.fair_share(store, "cpu", 32) == 32
    for worker in ("ann", "bob", "cy"):
        execution.worker_beat(store, worker, Able("cpu"))
    shares = []
    for worker in ("ann", "bob", "cy"):
        shares.append(len(claim(store, worker, limit=queries.fair_share(store, "cpu", 32))))
    assert shares == [14, 14, 12]
    assert queries.fair_share(store, "cpu", 8) == 8
    execution.worker_beat(store, "dora", Able("cuda"))
    assert queries.fair_share(store, "cuda", 32) == 32


def test_a_share_is_never_nothing(store: Store) -> None:
    for worker in ("ann", "bob"):
        execution.worker_beat(store, worker, Able("cpu"))
    assert queries.fair_share(store, "cpu", 32) == 1
