"""What a training is made of between its parts: where it begins, its epochs, what it leaves behind, how it ends."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from torch import Tensor

from mlpq.spec.job import JobSpec
from mlpq_workers.engine.network import weights_sha256


@dataclass(frozen=True)
class Epoch:
    """What one epoch brought. Losses are mean cross-entropies, without any penalty; `epoch` counts from 1.

    `train_loss` is the mean over the epoch's batches as they were trained on; the others are taken after the epoch.
    The validation figures are None without a validation split. `seconds` covers training and evaluation.
    """

    epoch: int
    train_loss: float
    validation_loss: float | None
    validation_correct: int | None
    validation_total: int | None
    test_loss: float
    test_correct: int
    test_total: int
    seconds: float


@dataclass(frozen=True)
class Start:
    """Where a job goes on from: CPU weights, and the states of both generators (see torch.Generator.get_state)."""

    weights: Mapping[str, Tensor]
    shuffle_state: Tensor
    dropout_state: Tensor


@dataclass(frozen=True)
class Trained:
    """A finished training. Weights, generator states, losses and counts are all those at the end of `best_epoch`.

    That is the last epoch, unless the spec asks for early stopping. `train_seconds` covers all `epochs_run`.
    """

    weights: Mapping[str, Tensor]
    shuffle_state: Tensor
    dropout_state: Tensor
    weights_sha256: str
    best_epoch: int
    epochs_run: int
    validation_loss: float | None
    validation_correct: int | None
    validation_total: int | None
    test_loss: float
    test_correct: int
    test_total: int
    train_seconds: float


@dataclass(frozen=True)
class Checkpoint:
    """A job between two epochs: all that the rest of its training depends on, on the CPU.

    `last` is where it stands after the last epoch of `curve`, and `best`, after `best_epoch`, what it will leave behind
    if it gets no better; None where nothing but the last epoch counts. The names of `optimizer` are its engine's own.
    `file` is where it was read.
    """

    curve: tuple[Epoch, ...]
    last: Start
    optimizer: Mapping[str, Tensor]
    best_epoch: int
    best: Start | None
    file: Path | None = field(default=None, compare=False)


class Stopped(Exception):  # noqa: N818 (an answer to should_stop, not an error)
    """Training was told to stop; there is no result."""


class Diverged(Exception):  # noqa: N818 (a finding, not an error)
    """A loss is no longer a finite number: a finding about the settings, not a fault of the program."""

    def __init__(self, epoch: int, loss: float) -> None:
        super().__init__(epoch, loss)
        self.epoch = epoch
        self.loss = loss

    def __str__(self) -> str:
        return f"the loss became {self.loss} in epoch {self.epoch}"


class History:
    """What a job has reached so far, and what it will leave behind; of a resumed one, from the first epoch on."""

    def __init__(self, spec: JobSpec, resume: Checkpoint | None = None) -> None:
        self._spec = spec
        self.curve = list(resume.curve) if resume else []
        self._best_epoch = resume.best_epoch if resume else 0
        self._kept = resume.best if resume else None

    def add(self, epoch: Epoch, take: Callable[[], Start]) -> bool:
        """Take in an epoch; whether the job has come to its end. `take` copies the state that it stands in."""
        spec, best = self._spec, self.curve[self._best_epoch - 1] if self.curve else None
        self.curve.append(epoch)
        is_last = epoch.epoch == spec.epochs
        if best is None or spec.patience is None or _lower(epoch, best):
            self._best_epoch = epoch.epoch
            if spec.patience is not None or is_last:
                self._kept = take()
            return is_last
        return is_last or epoch.epoch - best.epoch >= spec.patience

    def checkpoint(self, last: Start, optimizer: Mapping[str, Tensor]) -> Checkpoint:
        """The job as it stands after the last epoch."""
        return Checkpoint(tuple(self.curve), last, optimizer, self._best_epoch, self._kept)

    def trained(self) -> Trained:
        """The result: the figures and the weights of the best epoch."""
        best, kept = self.curve[self._best_epoch - 1], self._kept
        assert kept is not None, "only a job that has come to its end has a result"
        return Trained(
            weights=kept.weights,
            shuffle_state=kept.shuffle_state,
            dropout_state=kept.dropout_state,
            weights_sha256=weights_sha256(kept.weights),
            best_epoch=best.epoch,
            epochs_run=len(self.curve),
            validation_loss=best.validation_loss,
            validation_correct=best.validation_correct,
            validation_total=best.validation_total,
            test_loss=best.test_loss,
            test_correct=best.test_correct,
            test_total=best.test_total,
            train_seconds=sum(epoch.seconds for epoch in self.curve),
        )


def _lower(epoch: Epoch, best: Epoch) -> bool:
    assert epoch.validation_loss is not None, "patience needs a split"
    assert best.validation_loss is not None, "patience needs a split"
    return epoch.validation_loss < best.validation_loss
