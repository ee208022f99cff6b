"""Which training process claims which job: by the kernel or by torch, as a rerun requests. On both databases."""

from __future__ import annotations

import pytest

from mlpq.jobs import VERIFY, Engine
from mlpq.records import Rerun
from mlpq.store import claiming, submission
from mlpq.store.session import Store
from mlpq.worker_records import TrainingSetup, WorkerCapabilities
from tests.support.job_steps import FACTS, TOO_BIG_TO_STACK, ids, spec, specs, submit

KERNEL = WorkerCapabilities("cpu", kernel=True)


def test_worker_with_the_kernel_claims_large_networks_together(store: Store) -> None:
    large = submit(store, *specs(seeds="0..2", **TOO_BIG_TO_STACK))
    small = submit(store, *specs(seeds="0..1"))
    assert claiming.next_setup(store, "ann", KERNEL) == TrainingSetup(1, kernel=True, is_large=True)
    assert ids(claiming.claim(store, "ann", KERNEL, FACTS, 2)) == large[:2]
    assert ids(claiming.claim(store, "ann", KERNEL, FACTS, 8)) == large[2:]
    assert claiming.next_setup(store, "ann", KERNEL) == TrainingSetup(1, kernel=True)
    assert ids(claiming.claim(store, "ann", KERNEL, FACTS, 8)) == small


def test_next_setup_is_that_of_the_job_with_the_highest_priority(store: Store) -> None:
    submit(store, spec())
    submit(store, spec(seeds=2), world_size=2, priority=1)
    submit(store, spec(seeds=3), world_size=3, priority=1)
    able = WorkerCapabilities("cpu", most_ranks=4, world_size=1)
    assert claiming.next_setup(store, "ann", able) == TrainingSetup(2)


def test_job_that_requests_one_process_gets_one_where_others_get_two(store: Store) -> None:
    submit(store, spec(), world_size=1)
    assert claiming.next_setup(store, "ann", WorkerCapabilities("cpu", most_ranks=2, world_size=2)) == TrainingSetup(1)


def test_rerun_that_requests_torch_has_a_setup_of_its_own(store: Store) -> None:
    (job,) = submit(store, spec())
    requests = (None, Engine.GANG, Engine.KERNEL, Engine.PLAIN, Engine.GANG)
    reruns = [Rerun(spec(), None, "cpu", 1, engine) for engine in requests]
    usual, first, same, plain, second = (each.id for each in submission.submit_reruns(store, VERIFY, reruns))
    assert ids(claiming.claim(store, "ann", KERNEL, FACTS, 8)) == [job]  # it requests nothing
    assert ids(claiming.claim(store, "ann", KERNEL, FACTS, 8)) == [usual]
    assert claiming.next_setup(store, "ann", KERNEL) == TrainingSetup(1, kernel=False)
    torch, kernel = TrainingSetup(1, kernel=False), TrainingSetup(1, kernel=True)
    assert ids(claiming.claim(store, "ann", KERNEL, FACTS, 8, torch)) == [first, second]
    assert ids(claiming.claim(store, "ann", KERNEL, FACTS, 8, torch)) == [plain]
    assert ids(claiming.claim(store, "ann", KERNEL, FACTS, 8, torch)) == []
    assert ids(claiming.claim(store, "ann", KERNEL, FACTS, 8, kernel)) == [same]


@pytest.mark.parametrize(
    ("able", "kernel"),
    [(WorkerCapabilities("cpu", kernel=True, torch=False), True), (WorkerCapabilities("cpu"), False)],
    ids=["without torch", "without the kernel"],
)
def test_worker_with_one_kind_of_engine_runs_what_requests_another(
    store: Store, able: WorkerCapabilities, kernel: bool
) -> None:
    """The result then names the engine."""
    reruns = [Rerun(spec(), None, "cpu", 1, engine) for engine in (Engine.GANG, Engine.KERNEL)]
    submitted = [each.id for each in submission.submit_reruns(store, VERIFY, reruns)]
    assert claiming.next_setup(store, "ann", able) == TrainingSetup(1, kernel=kernel)
    assert [ids(claiming.claim(store, "ann", able, FACTS, 8)) for _ in range(3)] == [*([job] for job in submitted), []]
