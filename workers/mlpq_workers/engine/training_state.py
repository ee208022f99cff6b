"""Types shared by the engines and the trainer: start, checkpoint, result, observer.

Their arrays are NumPy's, whatever an engine computes with.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlpq import weights_format
from mlpq.records import EpochMetrics
from mlpq.spec.job import JobSpec
from mlpq.weights_format import TensorContent, class_bytes

Array = NDArray[Any]
Arrays = Mapping[str, Array]


@dataclass(frozen=True)
class Predictions:
    """What a network predicts for the test images, in their order.

    `classes` is uint8 [n], or uint16 where there are more than 256. `confidences` has the softmax of the predicted
    class, a probability, [n].
    """

    classes: NDArray[np.uint8] | NDArray[np.uint16]
    confidences: Array

    @classmethod
    def of(cls, classes: Array, confidences: Array, among: int) -> Predictions:
        """Predictions from class indices of any type, where there are `among` classes."""
        return cls(classes.astype(np.dtype(f"<u{class_bytes(among)}")), confidences)


@dataclass(frozen=True)
class Snapshot:
    """A job at the end of an epoch: its weights by name, and the states of its shuffle and dropout generators.

    The states are the bytes of torch.Generator.get_state(), uint8. `predictions` are those of its evaluation after the
    epoch; None where the job only goes on from here, so that the snapshot can't become its result.

    The optimizer's state is not part of it: a job that continues from its parent has a new optimizer.
    """

    weights: Arrays
    shuffle_state: NDArray[np.uint8]
    dropout_state: NDArray[np.uint8]
    predictions: Predictions | None = None


@dataclass(frozen=True)
class Checkpoint:
    """A job between two epochs: everything that the rest of its training depends on.

    `last` is the job after the last epoch of `curve`. `best` is the job after `best_epoch`, which is its result unless
    a later epoch improves on it; None where only the last epoch counts. Each engine has its own names in `optimizer`.
    `file` is the file that it was read from.
    """

    curve: tuple[EpochMetrics, ...]
    last: Snapshot
    optimizer: Arrays
    best_epoch: int
    best: Snapshot | None
    file: Path | None = field(default=None, compare=False)


@dataclass(frozen=True)
class EngineJob:
    """A job as an engine receives it.

    It starts from new weights, from its parent's final state (`start`), or from its own checkpoint (`resume`), which
    takes precedence.
    """

    spec: JobSpec
    start: Snapshot | None = None
    resume: Checkpoint | None = None

    @property
    def begin(self) -> Snapshot | None:
        """The state that it starts from; None for new weights."""
        return self.resume.last if self.resume else self.start


@dataclass(frozen=True)
class Trained:
    """A finished job: its weights and generator states at the end of its best epoch, and the metrics of that epoch.

    The best epoch is the last one, unless the spec asks for early stopping. `train_seconds` covers all `epochs_run`.
    """

    final: Snapshot
    weights_sha256: str
    best: EpochMetrics
    epochs_run: int
    train_seconds: float


class Stopped(Exception):  # noqa: N818 (the answer to a request, not an error)
    """Training was stopped on request; there is no result."""


class Diverged(Exception):  # noqa: N818 (a finding about the settings, not an error)
    """A loss is infinite or NaN: a finding about the settings, not a fault of the program."""

    def __init__(self, epoch: int, loss: float) -> None:
        super().__init__(epoch, loss)
        self.epoch = epoch
        self.loss = loss

    @classmethod
    def of(cls, epoch: int, *losses: float | None) -> Diverged | None:
        """The divergence that these losses of an epoch show, by the first that is not finite; None if all are."""
        found = [loss for loss in losses if loss is not None and not math.isfinite(loss)]
        return cls(epoch, found[0]) if found else None

    def __str__(self) -> str:
        return f"the loss became {self.loss} in epoch {self.epoch}"


class Observer:
    """What an engine reports about its jobs, by name, and asks; from one thread or several. This one does nothing.

    Where several ranks train together, they must return the same on all of them.
    """

    def epoch(self, name: str, metrics: EpochMetrics) -> None:
        """An epoch was trained and evaluated."""

    def ended(self, name: str, ending: Trained | Exception) -> None:
        """A job of a gang has ended, exactly once: trained, Diverged, Stopped, or by an error."""

    def to_stop(self) -> Collection[str]:
        """The jobs that must stop before the next batch. Torch's engines call it before every batch."""
        return ()

    def is_leaving(self) -> bool:
        """Whether jobs that have not started must not start."""
        return False

    def between(self, name: str, take: Callable[[], Checkpoint]) -> bool:
        """Called after each epoch but the last: whether the job must stop now. `take` makes a checkpoint."""
        return False


class History:
    """The epochs of a job so far, from the first one on also where it resumes, and the result that they lead to."""

    def __init__(self, spec: JobSpec, resume: Checkpoint | None = None) -> None:
        self._spec = spec
        self.curve = list(resume.curve) if resume else []
        self._best_epoch = resume.best_epoch if resume else 0
        self._best = resume.best if resume else None

    def add(self, metrics: EpochMetrics, take: Callable[[], Snapshot]) -> bool:
        """Append an epoch; whether it was the last. `take` copies the job's present state with its predictions.

        It is called where the state may become the result, on all ranks.
        """
        spec, best = self._spec, self.curve[self._best_epoch - 1] if self.curve else None
        self.curve.append(metrics)
        is_last = metrics.epoch == spec.epochs
        if best is None or spec.patience is None or _is_better(metrics, best):
            self._best_epoch = metrics.epoch
            if spec.patience is not None or is_last:
                self._best = take()
            return is_last
        return is_last or metrics.epoch - best.epoch >= spec.patience

    def checkpoint(self, last: Snapshot, optimizer: Arrays) -> Checkpoint:
        """A checkpoint after the last epoch of the curve."""
        return Checkpoint(tuple(self.curve), last, optimizer, self._best_epoch, self._best)

    def trained(self) -> Trained:
        """The result of a job whose last epoch was added."""
        assert self._best is not None, "only a job whose last epoch was added has a result"
        return Trained(
            final=self._best,
            weights_sha256=weights_sha256(self._best.weights),
            best=self.curve[self._best_epoch - 1],
            epochs_run=len(self.curve),
            train_seconds=sum(metrics.seconds for metrics in self.curve),
        )


def _is_better(metrics: EpochMetrics, best: EpochMetrics) -> bool:
    assert metrics.validation_loss is not None, "patience needs a validation split"
    assert best.validation_loss is not None, "patience needs a validation split"
    return metrics.validation_loss < best.validation_loss


def weights_sha256(weights: Arrays) -> str:
    """SHA-256 of weights by name, 64 hexadecimal digits; see mlpq.weights_format."""
    return weights_format.weights_sha256({name: _content(array) for name, array in weights.items()})


def _content(array: Array) -> TensorContent:
    stored = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
    return TensorContent(array.dtype.name, array.shape, stored.reshape(-1).view(np.uint8).data)
