"""Claiming: every job goes to one worker, the right one first. On both databases."""

from __future__ import annotations

import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from sqlalchemy import select, update

from mlpq.jobs import LEASE_SECONDS, Outcome
from mlpq.store import execution, queries
from mlpq.store.execution import ELSEWHERE_SECONDS, Able, Ending
from mlpq.store.schema import jobs
from mlpq.store.session import Store, now
from tests.support.job_steps import (
    FACTS,
    TOO_BIG_TO_STACK,
    attempts,
    claim,
    claim_all,
    claim_all_in_processes,
    claim_one,
    fail,
    file,
    finish,
    let_delay_pass,
    row,
    spec,
    specs,
    status,
    whole_row,
)


def test_threads_that_race_claim_every_job_exactly_once(store: Store) -> None:
    ids = file(store, *specs(seeds="0..39"))
    with ThreadPoolExecutor(6) as pool:
        found = pool.map(claim_all, [store.url] * 6, [f"thread {number}" for number in range(6)])
    assert Counter(job for claimed in found for job in claimed) == Counter(ids)
    assert all(attempts(store, job) == [(1, None)] for job in ids)


def test_writers_that_read_first_wait_for_each_other(store: Store) -> None:
    """SQLite turns away at once whoever read before another wrote, unless the transaction began with the lock."""
    (job,) = file(store, spec(), priority=0)
    mine = jobs.c.id == job

    def add_one(_: int) -> None:
        with store.write() as connection:
            before = connection.execute(select(jobs.c.priority).where(mine).with_for_update()).scalar_one()
            time.sleep(0.002)
            connection.execute(update(jobs).where(mine).values(priority=before + 1))

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(add_one, range(60)))
    assert whole_row(store, job)["priority"] == 60


def test_threads_that_race_for_gangs_claim_every_job_exactly_once(store: Store) -> None:
    """Gangs of several keys and jobs that run alone; the threads outnumber the connections that one pool has."""
    arms = [specs(seeds="0..29", batch_size=size) for size in (16, 32, 64)]
    ids = file(store, *(job for arm in arms for job in arm), *specs(seeds="0..4", **TOO_BIG_TO_STACK))
    with ThreadPoolExecutor(12) as pool:
        found = pool.map(claim_all, [store.url] * 12, [f"thread {number}" for number in range(12)], [4] * 12)
    assert Counter(job for claimed in found for job in claimed) == Counter(ids)
    assert all(attempts(store, job) == [(1, None)] for job in ids)


def test_processes_that_race_claim_every_job_exactly_once(store: Store) -> None:
    ids = file(store, *specs(seeds="0..39"))
    assert Counter(claim_all_in_processes(store.url, 3)) == Counter(ids)
    assert all(attempts(store, job) == [(1, None)] for job in ids)


def test_there_is_nothing_to_claim_in_an_empty_queue(store: Store) -> None:
    assert claim(store) == []


def test_a_running_job_is_not_claimed_again(store: Store) -> None:
    file(store, spec())
    claim_one(store, "ann")
    assert claim(store, "bob") == []


def test_higher_priority_goes_first_then_the_order_of_submission(store: Store) -> None:
    low = file(store, *specs(seeds="0..1"), priority=-5)
    usual = file(store, *specs(seeds="2..3"))
    high = file(store, *specs(seeds="4..5"), priority=5)
    assert [claim_one(store).id for _ in range(6)] == [*high, *usual, *low]


def test_several_claimed_at_once_are_the_first_in_that_order(store: Store) -> None:
    usual = file(store, *specs(seeds="0..2"))
    high = file(store, *specs(seeds="3..4"), priority=1)
    assert [held.id for held in claim(store, limit=2)] == high
    assert [held.id for held in claim(store, limit=2)] == usual[:2]
    assert [held.id for held in claim(store, limit=2)] == usual[2:]


@pytest.mark.parametrize(("device", "taken"), [("cpu", ["auto", "cpu"]), ("cuda", ["auto", "cuda"])])
def test_a_worker_takes_jobs_for_its_device_and_for_any(store: Store, device: str, taken: list[str]) -> None:
    ids = {}
    for number, wanted in enumerate(("auto", "cpu", "cuda", "mps")):
        (ids[wanted],) = file(store, spec(seeds=number), device=wanted)
    assert [held.id for held in claim(store, device=device, limit=10)] == [ids[wanted] for wanted in taken]


def test_blocked_and_finished_jobs_are_not_claimed(store: Store) -> None:
    parent = spec()
    file(store, parent, spec(parent, optimizer="adam"))
    held = claim_one(store)
    assert claim(store) == []
    finish(store, held)
    assert claim_one(store).spec.optimizer == "adam"
    assert claim(store) == []


def test_a_claim_records_the_attempt_and_what_it_runs_on(store: Store) -> None:
    (job,) = file(store, spec())
    held = claim_one(store, "ann")
    assert (held.id, held.attempt, held.spec) == (job, 1, spec())
    (attempt,) = queries.attempts_of(store, job)
    assert (attempt["worker"], attempt["device"], attempt["outcome"]) == ("ann", "cpu", None)
    assert attempt["environment"] == {**FACTS, "data_checksum": spec().data.checksum}
    assert (row(store, job)["worker"], row(store, job)["attempt"]) == ("ann", 1)


def test_equal_environments_are_one_row(store: Store) -> None:
    file(store, *specs(seeds="0..2"))
    found = [queries.attempts_of(store, held.id)[0]["environment_id"] for held in claim(store, limit=3)]
    assert len(set(found)) == 1


def test_a_lease_is_counted_by_the_databases_clock(store: Store) -> None:
    (job,) = file(store, spec())
    claim_one(store)
    with store.read() as connection:
        clock = connection.execute(select(now())).scalar_one()
    left = whole_row(store, job)["lease_until"] - clock
    assert timedelta(seconds=LEASE_SECONDS - 20) < left <= timedelta(seconds=LEASE_SECONDS)
    assert status(store, job) == "running"


def test_what_failed_on_a_worker_is_left_to_the_others_for_a_while(store: Store) -> None:
    """It may be the worker that is broken; where it is the only one of its kind, it tries again."""
    (job,) = file(store, spec())
    for name, device in (("ann", "cpu"), ("dora", "cuda")):
        execution.worker_beat(store, name, Able(device))
    fail(store, claim_one(store, "ann"))
    let_delay_pass(store, job)
    fail(store, claim_one(store, "ann"))
    let_delay_pass(store, job)
    execution.worker_beat(store, "bob", Able("cpu"))
    assert claim(store, "ann") == []
    assert claim_one(store, "bob").attempt == 3


def test_the_last_attempt_is_not_for_the_worker_on_which_the_one_before_failed(store: Store) -> None:
    """Or a broken worker would use up a sweep's attempts while the others are busy."""
    (job,) = file(store, spec())
    for name in ("ann", "bob"):
        execution.worker_beat(store, name, Able("cpu"))
    fail(store, claim_one(store, "ann"))
    let_delay_pass(store, job, ago=ELSEWHERE_SECONDS + 1)
    fail(store, claim_one(store, "ann"))
    let_delay_pass(store, job, ago=3600)
    assert claim(store, "ann") == []
    assert claim_one(store, "bob").attempt == 3


def test_a_job_goes_to_a_worker_that_can_have_its_world_size(store: Store) -> None:
    (usual,) = file(store, spec(seeds=1))
    (two,) = file(store, spec(seeds=2), world_size=2)
    (four,) = file(store, spec(seeds=3), world_size=4)
    small, large = Able("cuda", most_ranks=2, world_size=2), Able("cuda", most_ranks=4, world_size=4)
    assert execution.wanted_world_size(store, "ann", Able("cpu")) == 1
    assert execution.wanted_world_size(store, "ann", small) == 2
    assert [held.id for held in execution.claim(store, "ann", small, FACTS, 9)] == [usual]
    assert [held.id for held in execution.claim(store, "ann", small, FACTS, 9, 2)] == [two]
    assert execution.wanted_world_size(store, "ann", small) is None
    assert execution.claim(store, "ann", small, FACTS, 9, 4) == []
    assert [held.id for held in execution.claim(store, "bob", large, FACTS, 9)] == [four]


def test_jobs_that_ask_for_a_world_size_are_one_gang_with_their_like_only(store: Store) -> None:
    file(store, *specs(seeds="1,2"))
    asked = file(store, *specs(seeds="3,4"), world_size=2)
    able = Able("cpu", most_ranks=2, world_size=2)
    assert len(execution.claim(store, "ann", able, FACTS, 9)) == 2
    assert [held.id for held in execution.claim(store, "ann", able, FACTS, 9)] == asked


def test_the_last_attempt_is_not_left_to_a_worker_that_cannot_make_it(store: Store) -> None:
    """The other one is of the same kind, but has fewer GPUs."""
    (job,) = file(store, spec(), world_size=4, attempts=2)
    large, small = Able("cuda", most_ranks=4, world_size=4), Able("cuda", most_ranks=1)
    for name, able in (("ann", large), ("bob", small)):
        execution.worker_beat(store, name, able)
    (held,) = execution.claim(store, "ann", large, FACTS)
    execution.record(store, [Ending(held, Outcome.FAILED, None, "broken", "")])
    let_delay_pass(store, job)
    assert [again.id for again in execution.claim(store, "ann", large, FACTS)] == [job]


def test_jobs_that_no_live_worker_can_run_are_found(store: Store) -> None:
    file(store, *specs(seeds="1,2"), device="cuda")
    file(store, spec(seeds=3), device="cuda", world_size=4)
    file(store, spec(seeds=4))
    cuda, four = {"device": "cuda", "world_size": None, "jobs": 2}, {"device": "cuda", "world_size": 4, "jobs": 1}
    assert queries.stranded(store) == [{"device": "auto", "world_size": None, "jobs": 1}, cuda, four]
    execution.worker_beat(store, "ann", Able("cpu"))
    assert queries.stranded(store) == [cuda, four]
    execution.worker_beat(store, "bob", Able("cuda", most_ranks=2))
    assert queries.stranded(store) == queries.stranded(store, "lab") == [four]
    execution.worker_beat(store, "cora", Able("cuda", most_ranks=4))
    assert queries.stranded(store) == []


def test_a_worker_is_listed_with_what_it_has_runs_and_has_done(store: Store) -> None:
    execution.worker_beat(store, "ann", Able("cuda", "2 x H100", 2, 2))
    file(store, *specs(seeds="1..3"))
    for held in execution.claim(store, "ann", Able("cuda"), FACTS, 2):
        finish(store, held)
    execution.claim(store, "ann", Able("cuda"), FACTS)
    (ann,) = queries.live_workers(store)
    assert (ann["model"], ann["most_ranks"], ann["world_size"]) == ("2 x H100", 2, 2)
    assert (ann["jobs_running"], ann["jobs_done"]) == (1, 2)
