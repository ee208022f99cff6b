"""Claiming: every job goes to one worker, in the right order. On both databases."""

from __future__ import annotations

import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import select, update

from mlpq.jobs import Outcome
from mlpq.records import AttemptEnding, WaitingJobs
from mlpq.store import claiming, execution, queries, worker_queries
from mlpq.store.schema import jobs
from mlpq.store.session import Store
from mlpq.worker_records import TrainingSetup, WorkerCapabilities
from tests.support.job_steps import (
    FACTS,
    TOO_BIG_TO_STACK,
    attempts,
    claim,
    claim_all,
    claim_all_in_processes,
    claim_one,
    fail,
    finish,
    let_delay_pass,
    row,
    spec,
    specs,
    submit,
    success,
    whole_row,
)


def test_racing_threads_claim_every_job_once(store: Store) -> None:
    ids = submit(store, *specs(seeds="0..39"))
    with ThreadPoolExecutor(6) as pool:
        found = pool.map(claim_all, [store.url] * 6, [f"thread {number}" for number in range(6)])
    assert Counter(job for claimed in found for job in claimed) == Counter(ids)
    assert all(attempts(store, job) == [(1, None)] for job in ids)


def test_writers_that_read_first_wait_for_each_other(store: Store) -> None:
    """SQLite rejects a writer whose read precedes another write, unless its transaction began with the lock."""
    (job,) = submit(store, spec(), priority=0)
    mine = jobs.c.id == job

    def add_one(_: int) -> None:
        with store.write() as connection:
            before = connection.execute(select(jobs.c.priority).where(mine).with_for_update()).scalar_one()
            time.sleep(0.002)
            connection.execute(update(jobs).where(mine).values(priority=before + 1))

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(add_one, range(60)))
    assert whole_row(store, job)["priority"] == 60


def test_racing_threads_claim_every_job_of_gangs_once(store: Store) -> None:
    """Gangs with several keys, and jobs that run alone; there are more threads than connections in a pool."""
    arms = [specs(seeds="0..29", batch_size=size) for size in (16, 32, 64)]
    ids = submit(store, *(job for arm in arms for job in arm), *specs(seeds="0..4", **TOO_BIG_TO_STACK))
    with ThreadPoolExecutor(12) as pool:
        found = pool.map(claim_all, [store.url] * 12, [f"thread {number}" for number in range(12)], [4] * 12)
    assert Counter(job for claimed in found for job in claimed) == Counter(ids)
    assert all(attempts(store, job) == [(1, None)] for job in ids)


def test_racing_processes_claim_every_job_once(store: Store) -> None:
    ids = submit(store, *specs(seeds="0..39"))
    assert Counter(claim_all_in_processes(store.url, 3)) == Counter(ids)
    assert all(attempts(store, job) == [(1, None)] for job in ids)


def test_nothing_is_claimed_from_an_empty_queue(store: Store) -> None:
    assert claim(store) == []


def test_running_job_is_not_claimed_again(store: Store) -> None:
    submit(store, spec())
    claim_one(store, "ann:1:a")
    assert claim(store, "bob:2:b") == []


def test_claims_follow_priority_then_order_of_submission(store: Store) -> None:
    low = submit(store, *specs(seeds="0..1"), priority=-5)
    usual = submit(store, *specs(seeds="2..3"))
    high = submit(store, *specs(seeds="4..5"), priority=5)
    assert [claim_one(store).id for _ in range(6)] == [*high, *usual, *low]


def test_gang_of_claims_follows_the_same_order(store: Store) -> None:
    usual = submit(store, *specs(seeds="0..2"))
    high = submit(store, *specs(seeds="3..4"), priority=1)
    assert [claimed.id for claimed in claim(store, limit=2)] == high
    assert [claimed.id for claimed in claim(store, limit=2)] == usual[:2]
    assert [claimed.id for claimed in claim(store, limit=2)] == usual[2:]


@pytest.mark.parametrize(("device", "taken"), [("cpu", ["auto", "cpu"]), ("cuda", ["auto", "cuda"])])
def test_worker_claims_jobs_for_its_device_and_for_any(store: Store, device: str, taken: list[str]) -> None:
    ids = {}
    for number, wanted in enumerate(("auto", "cpu", "cuda", "mps")):
        (ids[wanted],) = submit(store, spec(seeds=number), device=wanted)
    assert [claimed.id for claimed in claim(store, device=device, limit=10)] == [ids[wanted] for wanted in taken]


def test_blocked_and_finished_jobs_are_not_claimed(store: Store) -> None:
    parent = spec()
    submit(store, parent, spec(parent, optimizer="adam"))
    claimed = claim_one(store)
    assert claim(store) == []
    finish(store, claimed)
    assert claim_one(store).spec.optimizer == "adam"
    assert claim(store) == []


def test_claim_records_the_attempt_and_its_environment(store: Store) -> None:
    (job,) = submit(store, spec())
    claimed = claim_one(store, "ann:1:a")
    assert (claimed.id, claimed.attempt, claimed.spec) == (job, 1, spec())
    (attempt,) = queries.attempts_of(store, job)
    assert (attempt.worker, attempt.device, attempt.outcome) == ("ann:1:a", "cpu", None)
    assert attempt.environment == {**FACTS, "data_checksum": spec().data.checksum}
    assert (row(store, job).worker, row(store, job).attempt) == ("ann:1:a", 1)


def test_equal_environments_are_one_row(store: Store) -> None:
    submit(store, *specs(seeds="0..2"))
    found = [queries.attempts_of(store, claimed.id)[0].environment_id for claimed in claim(store, limit=3)]
    assert len(set(found)) == 1


def test_job_that_failed_on_a_worker_is_left_to_others_for_a_while(store: Store) -> None:
    """The worker may be broken; where it is the only one with that device, it tries again."""
    (job,) = submit(store, spec())
    for name, device in (("ann:1:a", "cpu"), ("dora:4:d", "cuda")):
        execution.worker_heartbeat(store, name, WorkerCapabilities(device))
    fail(store, claim_one(store, "ann:1:a"))
    let_delay_pass(store, job)
    fail(store, claim_one(store, "ann:1:a"))
    let_delay_pass(store, job)
    execution.worker_heartbeat(store, "bob:2:b", WorkerCapabilities("cpu"))
    assert claim(store, "ann:1:a") == []
    assert claim_one(store, "bob:2:b").attempt == 3


def test_job_goes_to_a_worker_with_enough_ranks(store: Store) -> None:
    (usual,) = submit(store, spec(seeds=1))
    (two,) = submit(store, spec(seeds=2), world_size=2)
    (four,) = submit(store, spec(seeds=3), world_size=4)
    small, large = (
        WorkerCapabilities("cuda", most_ranks=2, world_size=2),
        WorkerCapabilities("cuda", most_ranks=4, world_size=4),
    )
    assert claiming.next_setup(store, "ann:1:a", WorkerCapabilities("cpu")) == TrainingSetup(1)
    assert claiming.next_setup(store, "ann:1:a", small) == TrainingSetup(2)
    assert claiming.claim(store, "ann:1:a", small, FACTS, 9, TrainingSetup(1)) == []
    assert [claimed.id for claimed in claiming.claim(store, "ann:1:a", small, FACTS, 9)] == [usual]
    assert [claimed.id for claimed in claiming.claim(store, "ann:1:a", small, FACTS, 9, TrainingSetup(2))] == [two]
    assert claiming.next_setup(store, "ann:1:a", small) is None
    assert claiming.claim(store, "ann:1:a", small, FACTS, 9, TrainingSetup(4)) == []
    assert [claimed.id for claimed in claiming.claim(store, "bob:2:b", large, FACTS, 9)] == [four]


def test_jobs_with_different_requested_world_sizes_are_different_gangs(store: Store) -> None:
    submit(store, *specs(seeds="1,2"))
    requested = submit(store, *specs(seeds="3,4"), world_size=2)
    able = WorkerCapabilities("cpu", most_ranks=2, world_size=2)
    assert len(claiming.claim(store, "ann:1:a", able, FACTS, 9)) == 2
    assert [claimed.id for claimed in claiming.claim(store, "ann:1:a", able, FACTS, 9)] == requested


def test_last_attempt_is_not_left_to_a_worker_without_enough_ranks(store: Store) -> None:
    """The other worker has the same device, but fewer GPUs."""
    (job,) = submit(store, spec(), world_size=4, attempts=2)
    large, small = WorkerCapabilities("cuda", most_ranks=4, world_size=4), WorkerCapabilities("cuda", most_ranks=1)
    for name, able in (("ann:1:a", large), ("bob:2:b", small)):
        execution.worker_heartbeat(store, name, able)
    (claimed,) = claiming.claim(store, "ann:1:a", large, FACTS)
    execution.record(store, [AttemptEnding(claimed, Outcome.FAILED, None, "broken", "")])
    let_delay_pass(store, job)
    assert [again.id for again in claiming.claim(store, "ann:1:a", large, FACTS)] == [job]


def test_jobs_without_a_worker_are_found(store: Store) -> None:
    submit(store, *specs(seeds="1,2"), device="cuda")
    submit(store, spec(seeds=3), device="cuda", world_size=4)
    submit(store, spec(seeds=4))
    cuda, four = WaitingJobs("cuda", None, 2), WaitingJobs("cuda", 4, 1)
    assert worker_queries.jobs_without_worker(store) == [WaitingJobs("auto", None, 1), cuda, four]
    execution.worker_heartbeat(store, "ann:1:a", WorkerCapabilities("cpu"))
    assert worker_queries.jobs_without_worker(store) == [cuda, four]
    execution.worker_heartbeat(store, "bob:2:b", WorkerCapabilities("cuda", most_ranks=2))
    assert worker_queries.jobs_without_worker(store) == worker_queries.jobs_without_worker(store, "lab") == [four]
    execution.worker_heartbeat(store, "cora:5:c", WorkerCapabilities("cuda", most_ranks=4))
    assert worker_queries.jobs_without_worker(store) == []


def test_live_worker_has_capabilities_and_job_counts(store: Store) -> None:
    execution.worker_heartbeat(store, "ann:1:a", WorkerCapabilities("cuda", "2 x H100", 2, 2))
    submit(store, *specs(seeds="1..3"))
    gang = claiming.claim(store, "ann:1:a", WorkerCapabilities("cuda"), FACTS, 2)
    execution.record(store, [success(claimed) for claimed in gang])
    claiming.claim(store, "ann:1:a", WorkerCapabilities("cuda"), FACTS)
    (ann,) = worker_queries.live_workers(store)
    assert (ann.device_name, ann.most_ranks, ann.world_size) == ("2 x H100", 2, 2)
    assert (ann.jobs_running, ann.jobs_done) == (1, 2)
