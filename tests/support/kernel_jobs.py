"""Jobs in the kernel, on random images of any size, without torch."""

from __future__ import annotations

import hashlib
import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np

from mlpq.spec.job import JobSpec
from mlpq.spec.sweep import Sweep
from mlpq_workers.kernel import Build, Epoch, Evaluation, Generator, Images, Network, initial_weights, training_rows
from mlpq_workers.kernel.seeding import Weights
from tests.support.optimizer_options import OPTIMIZERS_AND_OPTIONS


class AnyShape(JobSpec):
    """A spec whose first and last layer have other sizes than its data set."""

    features: int = 64
    classes: int = 10

    @property
    def widths(self) -> tuple[int, ...]:
        return (self.features, *self.hidden, self.classes)


def any_shape(features: int = 64, classes: int = 10, **keys: object) -> AnyShape:
    [spec] = Sweep.parse({"dataset": "digits", "hidden": "16", "epochs": 2, **keys}).jobs()
    return AnyShape(**spec.model_dump(), features=features, classes=classes)


def random_images(n: int, features: int = 64, classes: int = 10, scale: int = 255, seed: int = 1) -> Images:
    """Half of the pixels are 0."""
    draw = np.random.RandomState(seed)  # its stream is frozen, and hashes of results are recorded
    pixels = draw.randint(0, scale + 1, (n, features)) * draw.randint(0, 2, (n, features))
    return Images(pixels.astype(np.uint8), draw.randint(0, classes, n).astype(np.int64), scale)


@dataclass
class Run:
    """A job in training: what its next batches depend on, and the figures of its epochs."""

    spec: JobSpec
    images: Images
    network: Network
    shuffle: Generator
    dropout: Generator
    figures: list[tuple[float, float, int]]
    rows: np.ndarray[Any, np.dtype[np.int64]]

    @classmethod
    def of(cls, spec: JobSpec, images: Images, build: Build) -> Run:
        weights, dropout = initial_weights(spec, build)
        network = Network(spec, images.scale, build)
        network.put_weights(weights)
        rows = np.arange(len(images.labels))
        if spec.validation:
            rows, _ = training_rows(spec, len(images.labels), build)
        return cls(spec, images, network, Generator(build, spec.seed), dropout, [], rows)

    def epoch(self, rates: Any = None) -> Epoch:
        order = self.rows[self.shuffle.epoch_order(len(self.rows))]
        return Epoch(order, self.spec.batch_size, self.spec.lr if rates is None else rates)

    def train(self, epochs: int | None = None) -> Run:
        for _ in range(epochs or self.spec.epochs):
            epoch = self.epoch()
            assert self.network.train(self.images, epoch, self.dropout)
            test: Evaluation = self.network.evaluate(self.images)
            self.figures.append((epoch.loss, test.loss, test.correct))
        return self

    def fingerprint(self) -> str:
        """A digest of the parameters, the optimizer's state, the generators and all figures."""
        digest = hashlib.sha256(repr(self.figures).encode())
        arrays: Weights = {**self.network.take_weights(), **self.network.take_state()}
        for values in (*arrays.values(), self.shuffle.get_state(), self.dropout.get_state()):
            digest.update(values.tobytes())
        return digest.hexdigest()


SHAPES: tuple[dict[str, Any], ...] = (
    {"hidden": "16", "batch_size": 32},
    {"hidden": "33,70", "activation": "relu", "bias": False, "l1": 0.001, "batch_size": 150, "dropout": 0.3},
    {"hidden": "40", "activation": "tanh", "batch_size": 7, "dropout": 0.5, "l1": 0.01},
    {"hidden": "none", "batch_size": 300, "initialisation": "truncated-normal"},
    {"hidden": "5,3,17,1", "batch_size": 1, "activation": "relu", "features": 13, "classes": 3},
)


def every_option() -> list[AnyShape]:
    """Every option of every optimizer, each with one of the shapes, and the others with defaults."""
    shapes = itertools.cycle(SHAPES)
    specs = [any_shape(**next(shapes), optimizer=optimizer) for optimizer in OPTIMIZERS_AND_OPTIONS]
    return specs + [any_shape(**shape, optimizer=name) for shape in SHAPES for name in ("sgd:lr=0.1", "adam")]


def trained(spec: AnyShape, build: Build, n: int = 170, epochs: int = 1) -> Run:
    return Run.of(spec, random_images(n, spec.features, spec.classes), build).train(epochs)
