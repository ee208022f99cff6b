"""The jobs of a gang: what each brings, what it keeps of its own, and who hears of it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection
from dataclasses import dataclass

import torch
from torch import Tensor

from mlpq.spec.job import JobSpec
from mlpq_workers.engine.data import epoch_order, split
from mlpq_workers.engine.network import build
from mlpq_workers.engine.optimizers import settings_key
from mlpq_workers.engine.training_state import Checkpoint, Epoch, History, Start, Trained


@dataclass(frozen=True)
class Member:
    """A job of a gang, the parent's end that it goes on from, and its own checkpoint where it was interrupted."""

    spec: JobSpec
    start: Start | None = None
    resume: Checkpoint | None = None

    @property
    def begin(self) -> Start | None:
        """Where it begins; None at fresh weights."""
        return self.resume.last if self.resume else self.start


class Observer:
    """Hears of a gang's members, by their names, from one or several threads; this one hears nothing."""

    def epoch(self, member: str, epoch: Epoch) -> None:
        """An epoch was trained and evaluated."""

    def ended(self, member: str, ending: Trained | Exception) -> None:
        """A member is trained, or Diverged, Stopped, or an error was raised. Each member ends once."""

    def to_stop(self) -> Collection[str]:
        """The members that shall end before the next batch; asked often."""
        return ()

    def is_leaving(self) -> bool:
        """Whether what has not begun shall not begin."""
        return False

    def between(self, member: str, take: Callable[[], Checkpoint]) -> bool:
        """After an epoch that is not the last; `take` takes a checkpoint. Whether the member shall end here."""
        return False


class Model:
    """One member: its generators, its history, and whether it has ended."""

    def __init__(self, name: str, member: Member, observer: Observer) -> None:
        self.name, self.spec, self._observer = name, member.spec, observer
        self.weights, self.dropout = build_start(member)
        self.stream = Stream.key(member)
        self.begin = member.begin
        self.history = History(member.spec, member.resume)
        self.optimizer = member.resume.optimizer if member.resume else None
        self.key = settings_key(member.spec, len(self.history.curve))
        self.waits, self.has_ended = True, False
        self._ending = threading.Lock()

    def end(self, ending: Trained | Exception) -> None:
        """End, unless it has: once, though another thread may stop what this one is about to finish."""
        with self._ending:
            if self.has_ended:
                return
            self.has_ended = True
        self._observer.ended(self.name, ending)
        self.history, self.weights = History(self.spec), {}  # lets go of tensors


def build_start(member: Member) -> tuple[dict[str, Tensor], torch.Generator]:
    """The weights and the dropout generator that a member begins with."""
    model, dropout = build(member.spec)
    if member.begin:
        model.load_state_dict(member.begin.weights)
        dropout.set_state(member.begin.dropout_state)
    return {name: tensor.detach() for name, tensor in model.state_dict().items()}, dropout


class Stream:
    """The images in the order in which jobs of one seed see them; jobs that share it share what is gathered."""

    def __init__(self, model: Model, n: int) -> None:
        spec = model.spec
        self.shuffle = torch.Generator().manual_seed(spec.seed)
        if model.begin:
            self.shuffle.set_state(model.begin.shuffle_state)
        self.rows, self.held_out = torch.arange(n), torch.empty(0, dtype=torch.int64)
        if spec.validation:
            self.rows, self.held_out = split(n, spec.validation_size, spec.seed)

    @staticmethod
    def key(member: Member) -> tuple[int, bytes]:
        """Equal for members that see the same images in the same order."""
        state = member.begin.shuffle_state.numpy().tobytes() if member.begin else b""
        return member.spec.seed, state

    def next_epoch(self) -> Tensor:
        return self.rows[epoch_order(len(self.rows), self.shuffle)]
