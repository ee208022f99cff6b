"""The kernel engine: the plain engine's figures, its own bits whatever trains beside a job, and every ending."""

from __future__ import annotations

import dataclasses
import gc
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Collection
from pathlib import Path

import numpy as np
import pytest
import torch

from mlpq.records import EpochMetrics
from mlpq.spec.job import JobSpec
from mlpq_workers.engine.kernel_gang import KernelTraining
from mlpq_workers.engine.network import build
from mlpq_workers.engine.tensors import to_tensors
from mlpq_workers.engine.training_state import Checkpoint, Diverged, EngineJob, Predictions, Stopped, Trained
from mlpq_workers.kernel import BUILDS, KernelUnavailable
from mlpq_workers.kernel import build as build_of
from mlpq_workers.trainer.checkpoints import newest_checkpoint, save_checkpoint
from tests.support.gang_training import OPTIMIZERS_AND_OPTIONS, Interrupt, Record, digits, few, job, train_plain
from tests.support.kernel_training import assert_equal, few_images, images, train_by_kernel

OWNER = {"job": "a job"}
SPECS = [
    job(optimizer="sgd:lr=0.5", epochs=3),
    job(optimizer="adam", epochs=4, seeds=1, dropout=0.3),
    job(optimizer="nadam", epochs=2, hidden="16,8", activation="tanh", bias=False, l1=1e-4),
    job(optimizer="sgd:lr=0.1,momentum=0.9", epochs=5, validation=0.3, patience=2, seeds=3),
    job(optimizer="adagrad", hidden="none", batch_size=7),
]


def alone(spec: JobSpec) -> Trained:
    return train_by_kernel(spec, data=few_images()).trained("0")


@pytest.mark.parametrize("threads", [1, 3])
def test_job_has_the_same_bits_in_any_gang_and_on_any_number_of_threads(threads: int) -> None:
    together = train_by_kernel(*SPECS, *reversed(SPECS), data=few_images(), threads=threads)
    for i, spec in enumerate([*SPECS, *reversed(SPECS)]):
        assert_equal(together.trained(str(i)), alone(spec))


@pytest.mark.parametrize("kernel", BUILDS)
def test_job_has_the_same_bits_by_every_build(kernel: str) -> None:
    try:
        build_of(kernel)
    except KernelUnavailable as error:
        assert "this CPU can't run" in str(error)  # noqa: PT017 (the other builds are tested)
        return
    found = train_by_kernel(*SPECS, data=few_images(), kernel=kernel)
    for i, spec in enumerate(SPECS):
        assert_equal(found.trained(str(i)), alone(spec))


def close(mine: EpochMetrics, theirs: EpochMetrics) -> bool:
    """Whether two trainings by different orders of sums may have these metrics."""
    for field in dataclasses.fields(EpochMetrics):
        a, b = getattr(mine, field.name), getattr(theirs, field.name)
        if field.name.endswith("loss") and a is not None:
            assert a == pytest.approx(b, rel=1e-4), field.name
        elif field.name.endswith("correct") and a is not None:
            assert abs(a - b) <= 2, field.name
        elif field.name != "seconds":
            assert a == b, field.name
    return True


@pytest.mark.slow
@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("optimizer", OPTIMIZERS_AND_OPTIONS)
def test_epochs_are_those_of_the_plain_engine_up_to_rounding(optimizer: str) -> None:
    """Without dropout, whose masks the kernel draws in another way."""
    spec, record = job(optimizer=optimizer, epochs=2, validation=0.2, l1=1e-5), Record()
    train_plain(spec, digits(), observer=record)
    found = train_by_kernel(spec, data=images())
    assert all(map(close, found.epochs["0"], record.epochs["0"]))
    assert len(found.epochs["0"]) == 2


@pytest.mark.usefixtures("one_thread")
def test_predictions_are_those_of_the_final_weights() -> None:
    spec = job(optimizer="adam:lr=0.05", epochs=30, validation=0.3, patience=3)
    trained = train_by_kernel(spec, data=few_images()).trained("0")
    assert trained.best.epoch < trained.epochs_run
    network, _ = build(spec)
    network.load_state_dict(to_tensors(trained.final.weights))
    with torch.inference_mode():
        expected = network(few().test_x / few().scale).softmax(1).numpy()
    found = trained.final.predictions
    assert found is not None
    assert found.classes.dtype == np.uint8
    assert np.array_equal(found.classes, expected.argmax(1))
    np.testing.assert_allclose(found.confidences, expected.max(1), rtol=1e-5)
    assert int((found.classes == few_images().test_y).sum()) == trained.best.test_correct


# --- checkpoints


def interrupted(job_: EngineJob, after: int, folder: Path) -> Checkpoint:
    """A checkpoint of the job after some epochs, through a file."""
    record = Interrupt({"0": after})
    train_by_kernel(job_, data=few_images(), observer=record)
    assert isinstance(record.endings["0"], Stopped)
    save_checkpoint(record.taken["0"], OWNER, folder, 1)
    found = newest_checkpoint(OWNER, folder, pytest.fail)
    assert found is not None
    return found


@pytest.mark.parametrize("optimizer", OPTIMIZERS_AND_OPTIONS)
def test_resumed_job_has_the_bits_of_an_uninterrupted_one(optimizer: str, tmp_path: Path) -> None:
    spec = job(optimizer=optimizer, epochs=4, dropout=0.2, l1=1e-4)
    resume = interrupted(EngineJob(spec), 2, tmp_path)
    resumed = train_by_kernel(EngineJob(spec, resume=resume), data=few_images())
    assert_equal(resumed.trained("0"), alone(spec))
    assert [epoch.epoch for epoch in resumed.epochs["0"]] == [3, 4]


@pytest.mark.parametrize("after", [1, 3, 5])
def test_resumed_job_remembers_its_best_epoch(after: int, tmp_path: Path) -> None:
    spec = job(optimizer="adam:lr=0.05", epochs=30, validation=0.3, patience=3)
    whole = alone(spec)
    assert after < whole.epochs_run
    assert whole.best.epoch < whole.epochs_run
    resume = interrupted(EngineJob(spec), after, tmp_path)
    assert_equal(train_by_kernel(EngineJob(spec, resume=resume), data=few_images()).trained("0"), whole)


def test_child_continues_from_its_parent_and_from_its_own_checkpoint(tmp_path: Path) -> None:
    parent = job(dropout=0.3)
    start = alone(parent).final
    child = job(parent, optimizer="adam", dropout=0.3, epochs=3)
    whole = train_by_kernel(EngineJob(child, start), data=few_images()).trained("0")
    resume = interrupted(EngineJob(child, start), 1, tmp_path)
    assert_equal(train_by_kernel(EngineJob(child, resume=resume), data=few_images()).trained("0"), whole)


def test_child_of_stateless_optimizer_equals_one_longer_run() -> None:
    parent = job(dropout=0.3, epochs=2)
    child = EngineJob(job(parent, dropout=0.3, epochs=3), alone(parent).final)
    second = train_by_kernel(child, data=few_images()).trained("0")
    assert second.weights_sha256 == alone(job(dropout=0.3, epochs=5)).weights_sha256


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("parent_engine", ["kernel", "plain"])
def test_child_continues_from_a_parent_of_the_other_engine(parent_engine: str) -> None:
    """Also its batches go on where the parent's ended."""
    parent = job(epochs=2)
    child = job(parent, epochs=2)
    whole = train_plain(job(epochs=4), few())
    if parent_engine == "kernel":
        last = train_plain(child, few(), start=alone(parent).final)
    else:
        start = train_plain(parent, few()).final
        last = train_by_kernel(EngineJob(child, start), data=few_images()).trained("0")
    assert np.array_equal(last.final.shuffle_state, whole.final.shuffle_state)
    for name, weight in whole.final.weights.items():
        np.testing.assert_allclose(last.final.weights[name], weight, rtol=0, atol=1e-4)


# --- endings


def test_diverging_job_ends_alone() -> None:
    diverging = job(optimizer="sgd:lr=1e30", activation="relu")
    found = train_by_kernel(SPECS[0], diverging, SPECS[1], data=few_images())
    assert isinstance(found.endings["1"], Diverged)
    assert_equal(found.trained("0"), alone(SPECS[0]))
    assert_equal(found.trained("2"), alone(SPECS[1]))


class Stopper(Record):
    """Requests that jobs stop once the job "0" has begun; `is_leaving` from then on where `leaves`."""

    def __init__(self, stops: Collection[str], leaves: bool = False) -> None:
        super().__init__()
        self._names, self._leaves, self._has_begun = stops, leaves, threading.Event()
        self.order: list[str] = []

    def epoch(self, name: str, metrics: EpochMetrics) -> None:
        super().epoch(name, metrics)
        self._has_begun.set()

    def ended(self, name: str, ending: Trained | Exception) -> None:
        super().ended(name, ending)
        self.order.append(name)

    def to_stop(self) -> Collection[str]:
        return self._names if self._has_begun.is_set() else ()

    def is_leaving(self) -> bool:
        return self._leaves and self._has_begun.is_set()

    def between(self, name: str, take: Callable[[], Checkpoint]) -> bool:
        return self.is_leaving()


ENDLESS = job(hidden="500", epochs=10_000)


def test_running_job_stops_and_the_next_one_trains() -> None:
    found = train_by_kernel(ENDLESS, SPECS[0], data=few_images(), observer=Stopper(["0"]))
    assert isinstance(found.endings["0"], Stopped)
    assert_equal(found.trained("1"), alone(SPECS[0]))


def test_job_stops_in_the_middle_of_an_epoch() -> None:
    long = job(hidden="1000,1000", batch_size=1, epochs=1)

    class AtOnce(Record):
        def to_stop(self) -> Collection[str]:
            return ["0"]

    began = time.monotonic()
    found = train_by_kernel(long, data=images(), observer=AtOnce())
    assert isinstance(found.endings["0"], Stopped)
    assert found.epochs == {}
    assert time.monotonic() - began < 60  # an epoch takes minutes


def test_waiting_job_stops_before_a_running_one_has_ended() -> None:
    observer = Stopper(["1"])
    long = job(hidden="256", epochs=300)
    found = train_by_kernel(long, ENDLESS, data=images(), observer=observer)
    assert isinstance(found.endings["1"], Stopped)
    assert observer.order == ["1", "0"]
    assert found.trained("0").epochs_run == 300


def test_leaving_ends_the_running_job_after_its_epoch_and_starts_no_other() -> None:
    found = train_by_kernel(ENDLESS, SPECS[0], data=few_images(), observer=Stopper([], leaves=True))
    assert [type(found.endings[name]) for name in "01"] == [Stopped, Stopped]
    assert len(found.epochs["0"]) < ENDLESS.epochs
    assert "1" not in found.epochs


def test_error_ends_only_its_own_job() -> None:
    start = dataclasses.replace(alone(SPECS[0]).final, shuffle_state=np.zeros(3, np.uint8))
    found = train_by_kernel(EngineJob(SPECS[0], start), SPECS[1], data=few_images())
    assert isinstance(found.endings["0"], ValueError)
    assert_equal(found.trained("1"), alone(SPECS[1]))


def trainings_in_memory() -> int:
    return sum(type(each) is KernelTraining for each in gc.get_objects())


class CountingTrainings(Record):
    """Counts, whenever a job ends, the trainings of its gang that are still in memory."""

    def __init__(self) -> None:
        super().__init__()
        gc.collect()
        self._earlier = trainings_in_memory()
        self.counts: list[int] = []

    def ended(self, name: str, ending: Trained | Exception) -> None:
        super().ended(name, ending)
        self.counts.append(trainings_in_memory() - self._earlier)


def test_ended_job_is_freed_before_its_gang_has_ended() -> None:
    found = CountingTrainings()
    train_by_kernel(*[job(epochs=1)] * 4, data=few_images(), observer=found)
    assert found.counts == [4, 3, 2, 1]


# --- without torch

WITHOUT_TORCH = """
import sys
from pathlib import Path
from mlpq.spec.sweep import Sweep
from mlpq_workers.engine.kernel_gang import KernelData, train_gang
from mlpq_workers.engine.training_state import EngineJob, Observer
from mlpq_workers.kernel import build
from mlpq_workers.trainer.checkpoints import save
from mlpq.spec.datasets import DATASETS
from mlpq_workers.trainer.data import load
from mlpq_workers.trainer.process import TrainingProcess
from mlpq_workers.trainer.serving import serve

class Saves(Observer):
    def ended(self, name, ending):
        save(ending, "ab" * 32, Path(sys.argv[1]))

(spec,) = Sweep.parse({"dataset": "digits", "epochs": 1}).jobs()
train_gang({"0": EngineJob(spec)}, KernelData.of(load(DATASETS["digits"], Path("nowhere"))), build(), Saves())
print(Path(sys.argv[1]).exists(), sorted({name.partition(".")[0] for name in sys.modules} & {"torch", "sklearn"}))
"""


def test_training_and_saving_imports_no_torch(tmp_path: Path) -> None:
    command = [sys.executable, "-c", WITHOUT_TORCH, str(tmp_path / "weights.safetensors")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("True []\n", "")


def test_predictions_are_recorded_only_with_a_result() -> None:
    record = Interrupt({"0": 1})
    train_by_kernel(SPECS[0], data=few_images(), observer=record)
    assert record.taken["0"].last.predictions is None
    assert isinstance(alone(SPECS[0]).final.predictions, Predictions)
