"""Gangs of small jobs, what becomes of them, and every option of every optimizer."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import threading
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import torch

from mlpq.spec.job import JobSpec, Sweep
from mlpq_workers.engine.data import Data
from mlpq_workers.engine.gang import train_gang
from mlpq_workers.engine.gang_members import Member, Observer
from mlpq_workers.engine.network import weights_sha256
from mlpq_workers.engine.training_state import Epoch, Start, Trained
from mlpq_workers.trainer.data import load

# Fewer images than there are, for speed; the validation split is of as many as a spec says. An odd number remains.
VALIDATION = 0.1
HELD_OUT, LEFT = 130, 171

# Each option at a value other than torch's default; with what it needs to have an effect.
OPTIONS = {
    "adadelta": ("rho=0.8", "eps=0.0001", "weight_decay=0.01"),
    "adagrad": ("lr_decay=0.1", "weight_decay=0.01", "initial_accumulator_value=0.1", "eps=0.001"),
    "adam": (
        "betas=0.8/0.99",
        "eps=0.001",
        "weight_decay=0.01",
        "amsgrad=true",
        "decoupled_weight_decay=true,weight_decay=0.1",
    ),
    "adamax": ("betas=0.8/0.99", "eps=0.001", "weight_decay=0.01"),
    "adamw": ("betas=0.8/0.99", "eps=0.001", "weight_decay=0.1", "amsgrad=true"),
    "asgd": ("lambd=0.01", "alpha=0.5", "t0=2", "weight_decay=0.01"),
    "nadam": (
        "betas=0.8/0.99",
        "eps=0.001",
        "weight_decay=0.01",
        "momentum_decay=0.1",
        "decoupled_weight_decay=true,weight_decay=0.1",
    ),
    "radam": (
        "betas=0.8/0.99",
        "eps=0.001",
        "weight_decay=0.01",
        "decoupled_weight_decay=true,weight_decay=0.1",
    ),
    "rmsprop": ("alpha=0.9", "eps=0.001", "weight_decay=0.01", "momentum=0.9", "centered=true"),
    "rprop": ("etas=0.6/1.3", "step_sizes=0.001/0.02"),
    "sgd": (
        "momentum=0.9",
        "dampening=0.5,momentum=0.9",
        "weight_decay=0.01",
        "nesterov=true,momentum=0.9",
    ),
}
# As they are written in a sweep: each optimizer as it comes, and with one option after another.
OPTIMIZERS_AND_OPTIONS = [
    *OPTIONS,
    *(f"{name}:{option}" for name, options in OPTIONS.items() for option in options),
]


@functools.cache
def digits() -> Data:
    return load("digits", Path("nowhere"))


@functools.cache
def few() -> Data:
    data, n, m = digits(), HELD_OUT + LEFT, 300
    return dataclasses.replace(
        data, train_x=data.train_x[:n], train_y=data.train_y[:n], test_x=data.test_x[:m], test_y=data.test_y[:m]
    )


class Record(Observer):
    """Keeps what it hears; says that members shall stop, each once it was asked so many times as `stops` says."""

    def __init__(self, stops: Mapping[str, int] | None = None) -> None:
        self.epochs: dict[str, list[Epoch]] = {}
        self.endings: dict[str, Trained | Exception] = {}
        self.asked = 0
        self._stops = stops or {}
        self._counting = threading.Lock()

    def epoch(self, member: str, epoch: Epoch) -> None:
        assert member not in self.endings
        self.epochs.setdefault(member, []).append(epoch)

    def ended(self, member: str, ending: Trained | Exception) -> None:
        assert member not in self.endings
        self.endings[member] = ending

    def to_stop(self) -> Collection[str]:
        with self._counting:
            self.asked += 1
            return {member for member, moment in self._stops.items() if moment <= self.asked}

    def trained(self, member: str) -> Trained:
        """The result of a member; whatever else it ended with is raised."""
        ending = self.endings[member]
        if isinstance(ending, Exception):
            raise ending
        return ending


def job(parent: JobSpec | None = None, /, **keys: Any) -> JobSpec:
    """The one job of a sweep on digits."""
    [spec] = Sweep.parse({"dataset": "digits", "hidden": "16", "epochs": 2, **keys}).jobs(parent)
    return spec


def goes_on(outcome: Trained) -> Start:
    return Start(outcome.weights, outcome.shuffle_state, outcome.dropout_state)


def train_together(*members: Member | JobSpec, data: Data, threads: int = 1, observer: Record | None = None) -> Record:
    """Train members in one gang on the CPU; they are called "0", "1", … in the order given."""
    record = observer or Record()
    named = {
        str(i): member if isinstance(member, Member) else Member(member)
        for i, member in zip(itertools.count(), members, strict=False)
    }
    train_gang(named, data, "cpu", record, threads)
    assert record.endings.keys() == named.keys()
    return record


def assert_same(mine: Trained, theirs: Trained) -> None:
    for field in dataclasses.fields(Trained):
        a, b = getattr(mine, field.name), getattr(theirs, field.name)
        if field.name == "weights":
            assert weights_sha256(a) == mine.weights_sha256
            assert list(a) == list(b)
        elif field.name.endswith("_state"):
            assert torch.equal(a, b), field.name
        elif field.name != "train_seconds":
            assert a == b, field.name
