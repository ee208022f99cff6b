"""Gangs: jobs of one shape are claimed, kept alive and recorded together, each for itself. On both databases."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import update

from mlpq.jobs import Engine, Outcome, Status
from mlpq.records import AttemptProgress
from mlpq.store import execution, queries, submission, worker_queries
from mlpq.store.schema import jobs
from mlpq.store.session import Store
from mlpq.worker_records import WorkerCapabilities
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
    finish,
    ids,
    let_delay_pass,
    let_lease_expire,
    result,
    spec,
    specs,
    status,
    submit,
    success,
    whole_row,
)


def gangs(store: Store, limit: int = 8) -> list[list[str]]:
    """The ids of each claim, until nothing is left."""
    return list(iter(lambda: ids(claim(store, limit=limit)), []))


def statuses(store: Store, of: list[str]) -> list[Status]:
    return [status(store, job) for job in of]


def test_gang_has_one_key(store: Store) -> None:
    small = submit(store, *specs(seeds="0..1", hidden="16"))
    large = submit(store, *specs(seeds="0..1", hidden="32"))
    more = submit(store, *specs(seeds="2..3", hidden="16"))
    assert gangs(store) == [small + more, large]


def test_gang_has_one_priority(store: Store) -> None:
    usual = submit(store, *specs(seeds="0..1"))
    high = submit(store, *specs(seeds="2..3"), priority=5)
    low = submit(store, *specs(seeds="4..5"), priority=-5)
    assert gangs(store) == [high, usual, low]


def test_gang_mixes_optimizers_epochs_and_experiments(store: Store) -> None:
    one = submit(store, *specs(optimizer=["sgd", "adam"], lr="0.1,0.01"), experiment="one")
    other = submit(store, spec(epochs=7, l1="0.1", dropout="0.5"), experiment="other")
    assert gangs(store) == [one + other]


def test_gang_is_not_larger_than_the_limit(store: Store) -> None:
    submitted = submit(store, *specs(seeds="0..6"))
    assert gangs(store, limit=3) == [submitted[:3], submitted[3:6], submitted[6:]]


def test_gang_is_for_one_device(store: Store) -> None:
    (first,) = submit(store, spec(seeds=1))
    submit(store, spec(seeds=2), device="cuda")
    (last,) = submit(store, spec(seeds=3), device="cpu")
    assert gangs(store) == [[first, last]]


def test_network_too_big_to_stack_is_claimed_alone(store: Store) -> None:
    big = specs(seeds="0..2", **TOO_BIG_TO_STACK)
    assert big[0].gang_key is None
    submitted = submit(store, *big)
    assert gangs(store) == [[job] for job in submitted]


def test_retried_job_joins_gangs_again(store: Store) -> None:
    submitted = submit(store, *specs(seeds="0..1"))
    submission.cancel(store, submitted)
    renewed = [job.id for job in submission.retry_jobs(store, submitted)]
    assert gangs(store) == [renewed]


def test_submittedof_one_gang_continue_each_from_its_own_parent(store: Store) -> None:
    parents = specs(seeds="0..2")
    children = submit(store, *parents, *(child_of(parent, seeds=parent.seed) for parent in parents))[3:]
    began = claim(store, limit=8)
    execution.record(store, [success(job, weights_file=f"/w/{job.id}") for job in began])
    gang = claim(store, limit=8)
    assert ids(gang) == children
    assert [job.parent_weights for job in gang] == [f"/w/{job.id}" for job in began]


def test_submittedof_a_gang_have_their_own_attempts_and_one_environment(store: Store) -> None:
    submitted = submit(store, *specs(seeds="0..2"))
    claim(store, limit=3)
    found = [queries.attempts_of(store, job) for job in submitted]
    assert [[attempt.attempt for attempt in each] for each in found] == [[1]] * 3
    assert len({str(each[0].environment) for each in found}) == 1


def test_unreadable_spec_fails_and_the_rest_of_its_gang_runs(store: Store) -> None:
    submitted = submit(store, *specs(seeds="0..2"))
    with store.write() as connection:
        document = {**spec().model_dump(mode="json"), "dataset": "emnist"}
        connection.execute(update(jobs).where(jobs.c.id == submitted[1]).values(spec=document))
    assert gangs(store) == [[submitted[0], submitted[2]]]
    assert "can't read the job: spec: unknown data set 'emnist'" in whole_row(store, submitted[1])["error"]


@pytest.mark.parametrize("alone", [True, False])
def test_job_that_may_have_killed_its_process_is_retried_alone(store: Store, alone: bool) -> None:
    """A job that kills its process takes a gang down only once; a full disk is no job's fault.

    The last attempt runs alone in any case.
    """
    submitted = submit(store, *specs(seeds="0..2"))
    execution.record(store, [replace(failure(job), alone=alone) for job in claim(store, limit=8)])
    for job in submitted:
        let_delay_pass(store, job)
    second = claim(store, limit=8)
    assert ids(second) == (submitted[:1] if alone else submitted)
    if not alone:
        execution.record(store, [failure(job) for job in second])
        for job in submitted:
            let_delay_pass(store, job)
        assert gangs(store) == [[job] for job in submitted]


def test_jobs_with_expired_leases_run_as_a_gang_but_alone_on_their_last_attempt(store: Store) -> None:
    submitted = submit(store, *specs(seeds="0..2"))
    for claimed in ([submitted], [submitted], [[job] for job in submitted]):
        assert gangs(store) == claimed
        for job in submitted:
            let_lease_expire(store, job)
        execution.requeue_expired(store)
    assert {status(store, job) for job in submitted} == {"failed"}


def test_released_job_joins_a_gang_again(store: Store) -> None:
    submitted = submit(store, *specs(seeds="0..2"))
    gang = claim(store, limit=8)
    execution.record(store, [failure(job, Outcome.RELEASED) for job in gang])
    assert gangs(store) == [submitted]


def test_each_job_of_a_gang_is_recorded_with_its_own_ending(store: Store) -> None:
    submitted = submit(store, *specs(seeds="0..4"))
    good, diverged, failed, released, cancelled = claim(store, limit=8)
    answer = execution.record(
        store,
        [
            success(good, engine=Engine.GANG, gang_size=5),
            failure(diverged, Outcome.DIVERGED, "the loss became nan in epoch 1"),
            failure(failed),
            failure(released, Outcome.RELEASED),
            failure(cancelled, Outcome.CANCELLED),
        ],
    )
    expected = ["succeeded", "failed", "queued", "queued", "cancelled"]
    assert list(answer.items()) == list(zip(submitted, expected, strict=True))
    assert statuses(store, submitted) == expected
    found = result(store, good.id)
    assert (found.engine, found.gang_size) == (Engine.GANG, 5)
    assert len(queries.curve(store, good.id)) == 2


def test_lost_lease_does_not_affect_the_others_that_are_recorded(store: Store) -> None:
    submitted = submit(store, *specs(seeds="0..3"))
    gang = claim(store, limit=8)
    let_lease_expire(store, submitted[1])
    execution.requeue_expired(store)
    let_lease_expire(store, submitted[2])
    execution.requeue_expired(store)
    again = claim_one(store, "bob:2:b")
    before = [whole_row(store, job) for job in submitted[1:3]]
    answer = execution.record(store, [success(gang[0]), success(gang[1]), failure(gang[2]), success(gang[3])])
    assert answer == {submitted[0]: "succeeded", submitted[3]: "succeeded"}
    assert [whole_row(store, job) for job in submitted[1:3]] == before
    assert attempts(store, submitted[1]) == [(1, "lost"), (2, None)]
    assert queries.curve(store, submitted[2]) == []
    assert finish(store, again) == "succeeded"


def test_repeated_record_changes_nothing_and_answers_the_same(store: Store) -> None:
    """The answer to the first commit may be lost, and the second call may include more jobs."""
    submitted = submit(store, *specs(seeds="0..2"))
    gang = claim(store, limit=8)
    first = [success(gang[0]), failure(gang[1])]
    answer = execution.record(store, first)
    before = [whole_row(store, job) for job in submitted[:2]]
    assert execution.record(store, [*first, success(gang[2])]) == {**answer, submitted[2]: "succeeded"}
    assert [whole_row(store, job) for job in submitted[:2]] == before


def test_children_of_a_gang_are_queued_or_end_with_their_own_parent(store: Store) -> None:
    good, bad = specs(seeds="0..1")
    children = submit(store, good, bad, child_of(good, seeds=0), child_of(bad, seeds=1))[2:]
    gang = claim(store, limit=8)
    execution.record(store, [success(gang[0]), failure(gang[1], Outcome.DIVERGED)])
    assert statuses(store, children) == ["queued", "failed"]


def test_one_job_of_a_gang_is_cancelled_and_the_others_continue(store: Store) -> None:
    submitted = submit(store, *specs(seeds="0..2"))
    gang = claim(store, limit=8)
    submission.cancel(store, [submitted[1]])
    assert worker_queries.cancel_requested(store, submitted) == {submitted[1]}
    progress = [AttemptProgress(job, [epoch(1)], "a line") for job in gang]
    assert execution.heartbeat(store, progress) == {submitted[0]: False, submitted[1]: True, submitted[2]: False}
    assert fail(store, gang[1], Outcome.CANCELLED) == "cancelled"
    assert execution.heartbeat(store, progress) == {submitted[0]: False, submitted[2]: False}
    execution.record(store, [success(gang[0]), success(gang[2])])
    assert statuses(store, submitted) == ["succeeded", "cancelled", "succeeded"]


def test_heartbeat_of_a_gang_renews_every_lease_and_records_each_curve(store: Store) -> None:
    submitted = submit(store, *specs(seeds="0..2"))
    gang = claim(store, limit=8)
    for job in submitted:
        let_lease_expire(store, job)
    curves = [[epoch(1, 100)], [epoch(1, 200), epoch(2, 210)], []]
    logs = ("one", "two", None)
    progress = [AttemptProgress(job, curve, log) for job, curve, log in zip(gang, curves, logs, strict=True)]
    assert execution.heartbeat(store, progress) == dict.fromkeys(submitted, False)
    assert execution.requeue_expired(store) == []
    found = [[metrics.test_correct for metrics in queries.curve(store, job)] for job in submitted]
    assert found == [[100], [200, 210], []]
    assert [queries.attempts_of(store, job)[0].log_tail for job in submitted] == ["one", "two", None]


def test_lost_lease_is_missing_from_the_answer_to_a_heartbeat(store: Store) -> None:
    submitted = submit(store, *specs(seeds="0..2"))
    gang = claim(store, limit=8)
    let_lease_expire(store, submitted[1])
    execution.requeue_expired(store)
    (lost,) = queries.attempts_of(store, submitted[1])
    before = whole_row(store, submitted[1]), [replace(lost, fence_rejections=1)]
    answer = execution.heartbeat(store, [AttemptProgress(job, [epoch(1)], "a line") for job in gang])
    assert answer == {submitted[0]: False, submitted[2]: False}
    assert (whole_row(store, submitted[1]), queries.attempts_of(store, submitted[1])) == before
    assert queries.curve(store, submitted[1]) == []
    assert [len(queries.curve(store, job)) for job in (submitted[0], submitted[2])] == [1, 1]


def test_empty_heartbeat_and_record_do_nothing(store: Store) -> None:
    assert execution.heartbeat(store, []) == {}
    assert execution.record(store, []) == {}


SHAPES = ({"batch_size": 16}, {"batch_size": 32}, TOO_BIG_TO_STACK)
EXPERIMENTS = itertools.count()


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    queue=st.lists(st.tuples(st.sampled_from(SHAPES), st.integers(-1, 1)), max_size=12),
    limits=st.lists(st.integers(1, 5), min_size=12, max_size=12),
)
def test_claim_takes_the_first_job_and_the_next_ones_that_may_join_it(
    store: Store, queue: list[tuple[dict[str, object], int]], limits: list[int]
) -> None:
    """Compared with the rule in a few lines of Python; together the claims take everything."""
    claim_rest(store, limit=8)  # what a failed example left behind
    experiment, waiting = str(next(EXPERIMENTS)), []
    for seed, (shape, priority) in enumerate(queue):
        job = spec(seeds=seed, **shape)
        (id_,) = submit(store, job, experiment=experiment, priority=priority)
        waiting.append((id_, job.gang_key, priority))
    waiting.sort(key=lambda one: -one[2])
    for limit in limits:
        first = waiting[:1]
        joining = [one for one in waiting[1:] if one[1] is not None and one[1:] == first[0][1:]]
        expected = first + joining[: limit - 1]
        assert ids(claim(store, limit=limit)) == [one[0] for one in expected]
        waiting = [one for one in waiting if one not in expected]
    assert claim_rest(store) == []


def test_live_workers_share_the_queue(store: Store) -> None:
    submit(store, *specs(seeds="0..39"))
    assert worker_queries.fair_share(store, "cpu", 32) == 32
    for worker in ("ann:1:a", "bob:2:b", "cy:3:c"):
        execution.worker_heartbeat(store, worker, WorkerCapabilities("cpu"))
    shares = []
    for worker in ("ann:1:a", "bob:2:b", "cy:3:c"):
        shares.append(len(claim(store, worker, limit=worker_queries.fair_share(store, "cpu", 32))))
    assert shares == [14, 14, 12]
    assert worker_queries.fair_share(store, "cpu", 8) == 8
    execution.worker_heartbeat(store, "dora:4:d", WorkerCapabilities("cuda"))
    assert worker_queries.fair_share(store, "cuda", 32) == 32


def test_fair_share_is_at_least_one(store: Store) -> None:
    for worker in ("ann:1:a", "bob:2:b"):
        execution.worker_heartbeat(store, worker, WorkerCapabilities("cpu"))
    assert worker_queries.fair_share(store, "cpu", 32) == 1
