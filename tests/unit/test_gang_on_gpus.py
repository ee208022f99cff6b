"""What a gang does otherwise on a GPU than on a CPU, as far as a CPU can show it."""

from __future__ import annotations

import pytest

from mlpq_workers.engine import gang as gang_engine
from mlpq_workers.engine.gang import how_many_stacks, networks_fitting
from mlpq_workers.engine.gang_members import GangMember
from mlpq_workers.engine.training_state import EngineJob, Observer
from tests.support.gang_training import Record, assert_same, few, job


def test_gang_on_a_gpu_is_one_stack_unless_its_memory_is_short(monkeypatch: pytest.MonkeyPatch) -> None:
    members = [GangMember(str(i), EngineJob(job(hidden="16", seeds=i)), Observer()) for i in range(100)]
    for free, stacks in ((8 * 2**30, 1), (2**24, 5), (0, 100)):
        monkeypatch.setattr(gang_engine, "free_memory", lambda _, free=free: free)
        assert how_many_stacks(members, "cuda", 4) == stacks


def test_orders_drawn_by_several_threads_are_those_of_one() -> None:
    jobs = {str(i): EngineJob(job(seeds=i % 5, batch_size=32, optimizer="adam")) for i in range(8)}
    records = []
    for threads in (1, 3):
        record = Record()
        members = [GangMember(name, each, record) for name, each in jobs.items()]
        gang_engine.StackTraining(members, members, few(), record, threads=threads).train()
        records.append(record)
    for name in jobs:
        assert_same(records[1].trained(name), records[0].trained(name))


def test_estimate_of_a_stacks_memory_is_above_what_its_tensors_take() -> None:
    # 1,024 of the textbook's networks with Adam took less than 1 GiB on an H200, with 3,200 training images.
    textbook = job(dataset="fashion-mnist", hidden="32", optimizer="adam")
    assert networks_fitting(textbook, 2**30) < 1024
    assert networks_fitting(textbook, 8 * 2**30) > 1024
    assert networks_fitting(job(hidden="16"), 0) == 1
