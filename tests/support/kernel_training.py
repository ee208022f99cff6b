"""Jobs trained by the kernel engine."""

from __future__ import annotations

import dataclasses
import functools
from pathlib import Path

import numpy as np

from mlpq.spec.datasets import DATASETS
from mlpq.spec.job import JobSpec
from mlpq_workers.engine.image_set import ImageSet
from mlpq_workers.engine.kernel_gang import KernelData, train_gang
from mlpq_workers.engine.training_state import EngineJob, Trained, weights_sha256
from mlpq_workers.kernel import build
from mlpq_workers.trainer.data import load
from tests.support.gang_training import HELD_OUT, LEFT, Record, without_seconds


@functools.cache
def images() -> ImageSet:
    """All of digits."""
    return load(DATASETS["digits"], Path("nowhere"))


@functools.cache
def few_images() -> ImageSet:
    """Those of tests.support.gang_training.few."""
    whole, n, m = images(), HELD_OUT + LEFT, 300
    return dataclasses.replace(
        whole, train_x=whole.train_x[:n], train_y=whole.train_y[:n], test_x=whole.test_x[:m], test_y=whole.test_y[:m]
    )


def train_by_kernel(
    *jobs: EngineJob | JobSpec,
    data: ImageSet,
    threads: int = 1,
    observer: Record | None = None,
    kernel: str = "auto",
) -> Record:
    """Train jobs as one gang; the observer knows them as "0", "1", … in the order given."""
    record = observer or Record()
    named = {str(i): each if isinstance(each, EngineJob) else EngineJob(each) for i, each in enumerate(jobs)}
    train_gang(named, KernelData.of(data), build(kernel), record, threads)
    assert record.endings.keys() == named.keys()
    return record


def assert_equal(mine: Trained, theirs: Trained) -> None:
    """Assert that two results have the same bits: weights, generator states, predictions and metrics."""
    assert mine.weights_sha256 == theirs.weights_sha256 == weights_sha256(mine.final.weights)
    assert np.array_equal(mine.final.shuffle_state, theirs.final.shuffle_state)
    assert np.array_equal(mine.final.dropout_state, theirs.final.dropout_state)
    assert mine.final.predictions is not None
    assert theirs.final.predictions is not None
    assert np.array_equal(mine.final.predictions.classes, theirs.final.predictions.classes)
    assert np.array_equal(mine.final.predictions.confidences, theirs.final.predictions.confidences)
    assert without_seconds(mine.best) == without_seconds(theirs.best)
    assert mine.epochs_run == theirs.epochs_run
