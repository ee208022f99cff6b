"""Small jobs for the engines, what becomes of them, and every option of every optimizer."""

from __future__ import annotations

import dataclasses
import functools
import threading
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mlpq.records import EpochMetrics
from mlpq.spec.datasets import DATASETS
from mlpq.spec.job import JobSpec
from mlpq.spec.sweep import Sweep
from mlpq_workers.engine import plain
from mlpq_workers.engine.data import Data
from mlpq_workers.engine.gang import train_gang
from mlpq_workers.engine.training_state import Checkpoint, EngineJob, Observer, Snapshot, Trained, weights_sha256
from mlpq_workers.trainer.data import load
from tests.support.optimizer_options import OPTIMIZERS_AND_OPTIONS as OPTIMIZERS_AND_OPTIONS
from tests.support.optimizer_options import OPTIONS as OPTIONS

# Fewer training images, for speed: with this validation split, 130 are held out and an odd number remains.
VALIDATION = 0.1
HELD_OUT, LEFT = 130, 171


@functools.cache
def digits() -> Data:
    return Data.of(load(DATASETS["digits"], Path("nowhere")))


@functools.cache
def few() -> Data:
    """301 training and 300 test images of digits."""
    data, n, m = digits(), HELD_OUT + LEFT, 300
    return dataclasses.replace(
        data, train_x=data.train_x[:n], train_y=data.train_y[:n], test_x=data.test_x[:m], test_y=data.test_y[:m]
    )


class Record(Observer):
    """Records epochs and endings. Stops each job of `stops` once `to_stop` was called that many times."""

    def __init__(self, stops: Mapping[str, int] | None = None) -> None:
        self.epochs: dict[str, list[EpochMetrics]] = {}
        self.endings: dict[str, Trained | Exception] = {}
        self.calls = 0  # of to_stop
        self._stops = stops or {}
        self._lock = threading.Lock()

    def epoch(self, name: str, metrics: EpochMetrics) -> None:
        assert name not in self.endings
        self.epochs.setdefault(name, []).append(metrics)

    def ended(self, name: str, ending: Trained | Exception) -> None:
        assert name not in self.endings
        self.endings[name] = ending

    def to_stop(self) -> Collection[str]:
        with self._lock:
            self.calls += 1
            return {name for name, call in self._stops.items() if call <= self.calls}

    def trained(self, name: str) -> Trained:
        """The result of a job; raises whatever else it ended with."""
        ending = self.endings[name]
        if isinstance(ending, Exception):
            raise ending
        return ending


class Interrupt(Record):
    """Takes a checkpoint of each job after the number of epochs in `after`, and stops the job there."""

    def __init__(self, after: Mapping[str, int]) -> None:
        super().__init__()
        self._after = after
        self.taken: dict[str, Checkpoint] = {}

    def between(self, name: str, take: Callable[[], Checkpoint]) -> bool:
        if self.epochs[name][-1].epoch != self._after.get(name):
            return False
        self.taken[name] = take()
        return True


def job(parent: JobSpec | None = None, /, **keys: Any) -> JobSpec:
    """The one job of a sweep on digits."""
    [spec] = Sweep.parse({"dataset": "digits", "hidden": "16", "epochs": 2, **keys}).jobs(parent)
    return spec


def train_plain(spec: JobSpec, data: Data, start: Snapshot | None = None, observer: Record | None = None) -> Trained:
    """Train a job alone by the plain engine on the CPU; the observer knows it as "0"."""
    return plain.train(EngineJob(spec, start), data, "cpu", observer, "0")


def train_together(*jobs: EngineJob | JobSpec, data: Data, threads: int = 1, observer: Record | None = None) -> Record:
    """Train jobs as one gang on the CPU; the observer knows them as "0", "1", … in the order given."""
    record = observer or Record()
    named = {str(i): each if isinstance(each, EngineJob) else EngineJob(each) for i, each in enumerate(jobs)}
    train_gang(named, data, "cpu", record, threads)
    assert record.endings.keys() == named.keys()
    return record


def without_seconds(metrics: EpochMetrics) -> EpochMetrics:
    """What is the same in two runs of one job."""
    return dataclasses.replace(metrics, seconds=0.0)


def assert_same(mine: Trained, theirs: Trained) -> None:
    """Assert that two results have the same bits: weights, generator states and metrics."""
    assert list(mine.final.weights) == list(theirs.final.weights)
    assert mine.weights_sha256 == theirs.weights_sha256 == weights_sha256(mine.final.weights)
    assert np.array_equal(mine.final.shuffle_state, theirs.final.shuffle_state)
    assert np.array_equal(mine.final.dropout_state, theirs.final.dropout_state)
    assert without_seconds(mine.best) == without_seconds(theirs.best)
    assert mine.epochs_run == theirs.epochs_run
