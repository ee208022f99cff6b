"""A network in the kernel: its parameters as arrays, training and evaluation."""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import weakref
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlpq.spec.job import JobSpec
from mlpq.spec.optimizers import OPTIMIZERS
from mlpq_workers.kernel.library import (
    Build,
    Config,
    EvaluationArgument,
    ImagesArgument,
    TrainingArgument,
)
from mlpq_workers.kernel.seeding import Generator, Rows, Weights

ACTIVATION_CODES = {"sigmoid": 0, "relu": 1, "tanh": 2}
OPTIMIZER_CODES = {
    "sgd": 0,
    "adam": 1,
    "adamw": 1,
    "adadelta": 2,
    "adagrad": 3,
    "adamax": 4,
    "asgd": 5,
    "nadam": 6,
    "radam": 7,
    "rmsprop": 8,
    "rprop": 9,
}


class Images:
    """Images as stored: pixels uint8 [n, features], which divided by `scale` are in [0, 1], and labels int64 [n].

    The pixels are copied. Raises ValueError if they are of another kind.
    """

    def __init__(self, pixels: NDArray[np.uint8], labels: NDArray[np.int64], scale: int) -> None:
        if pixels.dtype != np.uint8 or pixels.ndim != 2:
            raise ValueError("pixels must be an array of bytes, [n, features]")
        if labels.dtype != np.int64 or labels.shape != pixels.shape[:1]:
            raise ValueError("labels must be an array of int64, one for each image")
        if labels.min(initial=0) < 0 or not 1 <= scale <= 255:
            raise ValueError("labels must not be negative, and scale must be from 1 to 255")
        self.pixels, self.labels, self.scale = _in_huge_pages(pixels), np.ascontiguousarray(labels), scale
        self.classes = int(labels.max(initial=-1)) + 1  # at least so many


@dataclass(frozen=True)
class Evaluation:
    """Mean cross-entropy in nats, how many of `total` images are right, and the class predicted for each, int64.

    `confidences` are the softmax of the predicted classes.
    """

    loss: float
    correct: int
    total: int
    predicted: NDArray[np.int64]
    confidences: NDArray[Any]


class Epoch:
    """One pass over the rows `order`, in batches. It may be interrupted between batches and continued.

    `rates` are learning rates: one for all batches, or one for each.
    """

    def __init__(self, order: Rows, batch_size: int, rates: float | NDArray[np.float64]) -> None:
        self.order = np.ascontiguousarray(order, np.int64)
        self.batch_size = batch_size
        self.batches = -(-len(self.order) // batch_size)
        self.rates = np.ascontiguousarray(np.broadcast_to(np.asarray(rates, np.float64), (self.batches,)))
        self.summed_loss = 0.0
        self._done = np.zeros(1, np.int64)
        self._stop = np.zeros(1, np.int32)

    @property
    def done(self) -> int:
        """How many batches are trained. Another thread may read it during the training."""
        return int(self._done[0])

    @done.setter
    def done(self, batches: int) -> None:
        if not 0 <= batches <= self.batches:
            raise ValueError(f"an epoch of {self.batches} batches can't continue after batch {batches}")
        self._done[0] = batches

    @property
    def is_finished(self) -> bool:
        return self.done == self.batches

    @property
    def loss(self) -> float:
        """The mean cross-entropy over the images so far, in nats; each image's before the step of its batch."""
        return self.summed_loss / max(1, min(len(self.order), self.done * self.batch_size))

    def stop(self) -> None:
        """Let `Network.train` return before the next batch. Another thread may call this."""
        self._stop[0] = 1

    def resume(self) -> None:
        """Let `Network.train` go on after `stop`."""
        self._stop[0] = 0


class Network:
    """The network of a spec and its optimizer. Its parameters are undefined until `put_weights`.

    One thread at a time may use it; the interpreter's lock is released meanwhile.
    """

    def __init__(self, spec: JobSpec, scale: int, build: Build) -> None:
        """Raises MemoryError."""
        self._spec, self._scale, self._build = spec, scale, build
        functions = build.functions
        self._handle = functions.create(ctypes.byref(_config(spec, scale)))
        if not self._handle:
            raise MemoryError(f"no memory for a network of {spec.parameters:,} parameters")
        weakref.finalize(self, functions.destroy, self._handle)
        self._states = int(functions.states(self._handle))  # arrays of the parameters' shapes that the optimizer keeps

    def put_weights(self, weights: Mapping[str, NDArray[Any]]) -> None:
        """Set the parameters, by their names in a state_dict of the plain engine; raises ValueError."""
        self._put(0, weights)

    def take_weights(self) -> Weights:
        """A copy of the parameters, by their names in a state_dict of the plain engine."""
        return self._take(0)

    def put_state(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Restore what `take_state` returned, for a network of the same spec; raises ValueError."""
        expected = {f"{number} {name}" for number in range(self._states) for name, _ in self._shapes()}
        if set(state) != expected | {"steps", "products"}:
            raise ValueError("the optimizer's state belongs to another network or another engine")
        progress = self._build.functions.progress(self._handle).contents
        progress.steps = int(state["steps"])
        progress.products[:] = [float(each) for each in state["products"]]
        for number in range(self._states):
            self._put(1 + number, {name: state[f"{number} {name}"] for name, _ in self._shapes()})

    def take_state(self) -> dict[str, NDArray[Any]]:
        """A copy of the optimizer's state: everything but the weights that the next steps depend on."""
        progress = self._build.functions.progress(self._handle).contents
        state: dict[str, NDArray[Any]] = {
            "steps": np.array(progress.steps, np.int64),
            "products": np.array(list(progress.products), np.float64),
        }
        for number in range(self._states):
            state |= {f"{number} {name}": values for name, values in self._take(1 + number).items()}
        return state

    def train(self, images: Images, epoch: Epoch, dropout: Generator | None = None) -> bool:
        """Train the batches of the epoch that remain, until the end or `epoch.stop()`; whether it is finished.

        `dropout` draws the masks, and is needed only where the spec has dropout. Raises ValueError.
        """
        self._check(images, epoch.order)
        if epoch.batch_size != self._spec.batch_size:
            raise ValueError(f"the epoch has batches of {epoch.batch_size}, the network of {self._spec.batch_size}")
        if self._spec.dropout and dropout is None:
            raise ValueError("dropout needs a generator")
        call = TrainingArgument(
            images=_argument(images, epoch.order),
            first=epoch.done,
            last=epoch.batches,
            rates=epoch.rates.ctypes.data,
            generator=dropout.address if dropout else None,
            progress=epoch._done.ctypes.data,
            stop=epoch._stop.ctypes.data,
            loss=epoch.summed_loss,
        )
        self._build.functions.train(self._handle, ctypes.byref(call))
        epoch.summed_loss = call.loss
        return epoch.is_finished

    def evaluate(self, images: Images, rows: Rows | None = None) -> Evaluation:
        """Evaluate on the rows of the images, all by default; without dropout. Raises ValueError."""
        rows = np.arange(len(images.labels)) if rows is None else np.ascontiguousarray(rows, np.int64)
        self._check(images, rows)
        predicted, confidences = np.empty(len(rows), np.int64), np.empty(len(rows), self._build.dtype)
        found = EvaluationArgument(predicted=predicted.ctypes.data, confidences=confidences.ctypes.data)
        argument = _argument(images, rows)
        self._build.functions.evaluate(self._handle, ctypes.byref(argument), ctypes.byref(found))
        return Evaluation(found.loss / max(1, len(rows)), found.correct, len(rows), predicted, confidences)

    def _check(self, images: Images, rows: Rows) -> None:
        features, classes = self._spec.widths[0], self._spec.widths[-1]
        if images.pixels.shape[1] != features or images.scale != self._scale:
            raise ValueError(f"the network reads {features} pixels of scale {self._scale}")
        if images.classes > classes:
            raise ValueError(f"labels must be from 0 to {classes - 1}")
        if rows.ndim != 1 or not 0 <= rows.min(initial=0) <= rows.max(initial=0) < max(1, len(images.labels)):
            raise ValueError(f"rows must be from 0 to {len(images.labels) - 1}")

    def _shapes(self) -> Iterator[tuple[str, tuple[int, ...]]]:
        for i in range(len(self._spec.widths) - 1):
            inputs, outputs = self._spec.widths[i : i + 2]
            yield f"layer{i}.weight", (outputs, inputs)
            if self._spec.bias:
                yield f"layer{i}.bias", (outputs,)

    def _put(self, which: int, arrays: Mapping[str, NDArray[Any]]) -> None:
        shapes = dict(self._shapes())
        if {name: values.shape for name, values in arrays.items()} != shapes:
            raise ValueError(f"the arrays must have the names and shapes {shapes}")
        for i in range(len(self._spec.widths) - 1):
            # Kept in variables: the call needs their memory.
            weight = np.ascontiguousarray(arrays[f"layer{i}.weight"], self._build.dtype)
            bias = np.ascontiguousarray(arrays[f"layer{i}.bias"], self._build.dtype) if self._spec.bias else None
            address = None if bias is None else bias.ctypes.data
            self._build.functions.put(self._handle, which, i, weight.ctypes.data, address)

    def _take(self, which: int) -> Weights:
        arrays: Weights = {name: np.empty(shape, self._build.dtype) for name, shape in self._shapes()}
        for i in range(len(self._spec.widths) - 1):
            bias = arrays.get(f"layer{i}.bias")
            address = None if bias is None else bias.ctypes.data
            self._build.functions.take(self._handle, which, i, arrays[f"layer{i}.weight"].ctypes.data, address)
        return arrays


def _in_huge_pages(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A copy in huge pages where the system has them: a batch's images lie anywhere, and each would miss the TLB.

    Without, a batch of the textbook's network takes a third longer.
    """
    memory = mmap.mmap(-1, max(1, pixels.size), flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        with contextlib.suppress(OSError):  # a kernel without them
            memory.madvise(mmap.MADV_HUGEPAGE)
    copy = np.frombuffer(memory, np.uint8, pixels.size).reshape(pixels.shape)
    copy[:] = pixels
    return copy


def _config(spec: JobSpec, scale: int) -> Config:
    config = Config(
        layers=len(spec.widths) - 1,
        activation=ACTIVATION_CODES[spec.activation],
        bias=spec.bias,
        batch_size=spec.batch_size,
        scale=scale,
        optimizer=OPTIMIZER_CODES[spec.optimizer],
        l1=spec.l1,
        lr=spec.lr,
        dropout=spec.dropout,
    )
    config.widths[: len(spec.widths)] = spec.widths
    settings = _settings(spec)
    config.settings[: len(settings)] = settings
    return config


def _settings(spec: JobSpec) -> list[float]:
    """The optimizer's settings in the order of the registry; a pair takes two places."""
    values: list[float] = []
    for option in OPTIMIZERS[spec.optimizer].defaults:
        value = spec.optimizer_settings[option]
        values += map(float, value) if isinstance(value, (tuple, list)) else [float(value)]
    return [*values, 1.0] if spec.optimizer == "adamw" else values  # Adam with decoupled weight decay


def _argument(images: Images, rows: Rows) -> ImagesArgument:
    return ImagesArgument(images.pixels.ctypes.data, images.labels.ctypes.data, rows.ctypes.data, len(rows))
