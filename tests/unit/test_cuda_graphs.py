"""CUDA graphs, emulated on the CPU: a stack that is captured and replayed trains as one that is not."""

from __future__ import annotations

import itertools
import logging
from typing import Any

import numpy as np
import pytest
import torch

from mlpq.spec.job import JobSpec
from mlpq_workers.engine.gang_stack import Stack
from mlpq_workers.engine.optimizers import is_capturable
from mlpq_workers.engine.training_state import EngineJob
from tests.support.gang_training import (
    OPTIMIZERS_AND_OPTIONS,
    VALIDATION,
    Interrupt,
    Record,
    assert_same,
    few,
    job,
    train_together,
)
from tests.support.recorded_graph import EagerGraph, Recording, as_on_a_gpu, recording
from tests.support.training_options import options

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("one_thread")]

# 171 images are left: five whole batches, of which the last two are replayed in the first epoch, and a short one.
SHAPE: dict[str, Any] = {"validation": VALIDATION, "batch_size": 32, "epochs": 5}
VARYING = {
    "constant": {},
    "schedule": {"schedule": "cosine", "warmup": "0.5"},
    "step, clipped": {"schedule": "step:size=1,gamma=0.5", "clip_norm": "0.5"},
    "one-cycle, smoothed": {"schedule": "one-cycle", "label_smoothing": "0.1"},
    "dropout": {"dropout": "0.3", "activation": "relu"},
}


def compare(*jobs: EngineJob | JobSpec) -> list[Recording]:
    """Assert that jobs which are captured end as eager ones; returns the captures."""
    with as_on_a_gpu(EagerGraph):
        eager = train_together(*jobs, data=few())
    with recording() as recorded:
        replayed = train_together(*jobs, data=few())
    for name in eager.endings:
        assert_same(replayed.trained(name), eager.trained(name))
        assert [e.train_loss for e in replayed.epochs[name]] == [e.train_loss for e in eager.epochs[name]]
    return recorded


@pytest.mark.parametrize("varying", VARYING)
@pytest.mark.parametrize("optimizer", sorted({each.split(":")[0] for each in OPTIMIZERS_AND_OPTIONS}))
def test_replayed_training_has_the_bits_of_eager_training(optimizer: str, varying: str) -> None:
    if optimizer == "rprop" and "schedule" in VARYING[varying]:
        return  # it has no learning rate to vary
    jobs = [job(optimizer=optimizer, seeds=seed, **SHAPE, **VARYING[varying]) for seed in (1, 2)]
    # One for the whole batches and one for the short one; torch's Adagrad can't be captured.
    assert len(compare(*jobs)) == (0 if optimizer == "adagrad" else 2)


@pytest.mark.parametrize("optimizer", OPTIMIZERS_AND_OPTIONS)
def test_every_option_of_every_optimizer_is_replayed(optimizer: str) -> None:
    assert bool(compare(job(optimizer=optimizer, seeds=3, **SHAPE))) != optimizer.startswith("adagrad")


def mixed(count: int) -> list[JobSpec]:
    """Jobs that share a stack and end at different times."""
    found = []
    capturable = [optimizer for optimizer in OPTIMIZERS_AND_OPTIONS if not optimizer.startswith("adagrad")]
    for i, optimizer in zip(range(count), itertools.cycle(capturable), strict=False):
        own = {"l1": [0.0, 1e-3][i % 2], "patience": [None, 1, 2][i % 3], "dropout": [0.0, 0.0, 0.2][i % 3]}
        found.append(
            job(optimizer=optimizer, seeds=i % 7, **{**SHAPE, "epochs": 2 + i % 4}, **own, **options(i, optimizer))
        )
    return found


def test_mixed_stack_that_shrinks_is_replayed() -> None:
    recorded = compare(*mixed(60))
    assert len(recorded) > 2  # the smaller stacks have graphs of their own
    assert all(each.resets == 1 for each in recorded)


def test_resumed_jobs_are_replayed() -> None:
    jobs = [job(optimizer=optimizer, seeds=1, **SHAPE) for optimizer in ("adam", "asgd", "rprop")]
    interrupt = Interrupt(dict.fromkeys("012", 2))
    with as_on_a_gpu(EagerGraph):
        train_together(*jobs, data=few(), observer=interrupt)
    assert compare(*(EngineJob(spec, resume=interrupt.taken[str(i)]) for i, spec in enumerate(jobs)))


@pytest.mark.parametrize("optimizer", sorted({each.split(":")[0] for each in OPTIMIZERS_AND_OPTIONS}))
def test_implementations_of_a_gpu_agree_with_those_of_the_cpu(optimizer: str) -> None:
    schedule = {} if optimizer == "rprop" else {"schedule": "cosine"}
    spec = job(optimizer=optimizer, clip_norm=1, seeds=1, **SHAPE, **schedule)
    with recording():
        gpu = train_together(spec, data=few()).trained("0")
    cpu = train_together(spec, data=few()).trained("0")
    for name, weights in cpu.final.weights.items():
        np.testing.assert_allclose(gpu.final.weights[name], weights, atol=2e-5, rtol=1e-4)


def test_formula_is_not_captured() -> None:
    spec = job(formula="mine: p = p - lr*sign(g)", optimizer="mine:lr=1e-3", seeds=1, **SHAPE)
    assert not is_capturable(spec)
    assert compare(spec, job(optimizer="adam", seeds=1, **SHAPE)) == []


def test_recording_replays_numbers_as_constants_and_reads_memory_anew() -> None:
    memory, numbers, target = torch.ones(()), [1.0], torch.zeros(3)
    with Recording() as graph:
        target.add_(memory * 10).add_(numbers[0])
    graph.undo()
    assert target.tolist() == [0.0] * 3
    memory.fill_(2)
    numbers[0] = 5.0
    graph.replay()
    assert target.tolist() == [21.0] * 3
    with pytest.raises(RuntimeError, match="not permitted"), Recording():
        memory.item()
    with pytest.raises(RuntimeError, match="not permitted"), Recording():
        torch.tensor([1.0])


# --- errors


def test_failed_capture_is_logged_and_trains_eagerly(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    jobs = [job(optimizer="adam", seeds=seed, **SHAPE) for seed in (1, 2)]
    with as_on_a_gpu(EagerGraph):
        eager = train_together(*jobs, data=few())
    train = Stack._train

    def with_a_wait(self: Stack, *arguments: Any) -> None:
        train(self, *arguments)
        self.parameters.rows.sum().item()

    monkeypatch.setattr(Stack, "_train", with_a_wait)
    with recording() as recorded, caplog.at_level(logging.WARNING):
        record = train_together(*jobs, data=few())
    for name in ("0", "1"):
        assert_same(record.trained(name), eager.trained(name))
    assert recorded == []
    logged = [each.getMessage() for each in caplog.records]
    assert len(logged) == 2  # each of the two graphs is tried once
    assert all(each.startswith("no CUDA graph, so training is slower: RuntimeError: ") for each in logged)


def test_graphs_are_released_after_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def run_out(self: Stack) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(Stack, "evaluate", run_out)
    with recording() as recorded:
        record = train_together(job(optimizer="adam", seeds=1, **SHAPE, hidden="16,8"), data=few())
    assert isinstance(record.endings["0"], torch.OutOfMemoryError)
    assert [each.resets for each in recorded] == [1]


def test_error_before_the_first_batch_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    def run_out(self: Stack, *_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(Stack, "__init__", run_out)
    record: Record = train_together(job(optimizer="adam", **SHAPE), data=few())
    assert isinstance(record.endings["0"], torch.OutOfMemoryError)
