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
    """A spec whose first and last layer have other sizes than its data set, and whose inputs may be floats."""

    features: int = 64
    classes: int = 10
    has_floats: bool = False

    @property
    def widths(self) -> tuple[int, ...]:
        return (self.features, *self.hidden, self.classes)


def any_shape(features: int = 64, classes: int = 10, has_floats: bool = False, **keys: object) -> AnyShape:
    [spec] = Sweep.parse({"dataset": "digits", "hidden": "16", "epochs": 2, **keys}).jobs()
    return AnyShape(**spec.model_dump(), features=features, classes=classes, has_floats=has_floats)


def random_images(n: int, features: int = 64, classes: int = 10, scale: int = 255, seed: int = 1) -> Images:
    """Half of the pixels are 0."""
    draw = np.random.RandomState(seed)  # its stream is frozen, and hashes of results are recorded
    pixels = draw.randint(0, scale + 1, (n, features)) * draw.randint(0, 2, (n, features))
    return Images(pixels.astype(np.uint8), draw.randint(0, classes, n).astype(np.int64), scale)


def random_floats(n: int, features: int = 64, classes: int = 10, seed: int = 1) -> Images:
    """Values from -4 to 4 that are exact in float32; half of them are 0."""
    draw = np.random.RandomState(seed)
    pixels = draw.randint(-1024, 1025, (n, features)) * draw.randint(0, 2, (n, features)) / 256
    return Images(pixels.astype(np.float32), draw.randint(0, classes, n).astype(np.int64), 1)


def images_of(spec: AnyShape, n: int) -> Images:
    make = random_floats if spec.has_floats else random_images
    return make(n, spec.features, spec.classes)


# Optimizers as formulas: the statements, and the constants.
FORMULAS = {
    "my-sgd": ("p = p - lr*g", "lr=0.1"),
    "my-adam": (
        "m = b1*m + (1 - b1)*g; v = b2*v + (1 - b2)*g**2; p = p - lr*(m/(1 - b1**t))/(sqrt(v/(1 - b2**t)) + 1e-8)",
        "lr=0.01,b1=0.9,b2=0.999",
    ),
    "lion": ("u = sign(0.9*m + 0.1*g); m = 0.99*m + 0.01*g; p = p - lr*(u + wd*p)", "lr=0.001,wd=0.01"),
    "normalized": ("p = p - lr*g/max(norm(g), 1e-6)", "lr=0.1"),
    "trusted": ("p = p - lr*min(norm(p)/norm(g), 10)*g", "lr=0.01"),
    "every": (
        "scale = min(1, c/max(norm(g), 0.001)); a = tanh(a) + scale*g; b = where(t <= 3, abs(g), exp(-abs(b))); "
        "k = log(1 + abs(g)**1.5) + sign(g)*(g != 0) - (t == 2) + 0.1**t; "
        "u = k*(a >= b)/(1 + sqrt(abs(a))) + (a < b)*0.5*g**3 + (p > a)*exp(-t) - (p <= b)*tanh(lr)*sign(t - 2); "
        "old = a; a = b; b = old; p = p - lr*(u + 0.001*max(p, -p)/(norm(p) + 1))",
        "lr=0.01,c=0.1",
    ),
}


def formula(name: str) -> dict[str, Any]:
    """The keys of a sweep with that optimizer."""
    statements, constants = FORMULAS[name]
    return {"formula": f"{name}: {statements}", "optimizer": f"{name}:{constants}"}


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
            if np.isnan(values).any():  # its bits are the CPU's, and no job that has one keeps its weights
                values = np.where(np.isnan(values), values.dtype.type(np.nan), values)
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


TRAINING_OPTIONS: tuple[dict[str, Any], ...] = (
    {"clip_norm": 0.1},
    {"label_smoothing": 0.1},
    {"clip_norm": 0.05, "label_smoothing": 0.3},
    *map(formula, FORMULAS),
    {**formula("every"), "clip_norm": 0.2, "label_smoothing": 0.1},
    {"has_floats": True},
)


def every_training_option() -> list[AnyShape]:
    """Clipping, smoothing and formulas, each with several shapes and optimizers."""
    shapes, optimizers = itertools.cycle(SHAPES), itertools.cycle(OPTIMIZERS_AND_OPTIONS)
    return [
        any_shape(**{"optimizer": next(optimizers), **next(shapes), **options})
        for options, _ in itertools.product(TRAINING_OPTIONS, range(3))
    ]


def trained(spec: AnyShape, build: Build, n: int = 170, epochs: int = 1) -> Run:
    return Run.of(spec, images_of(spec, n), build).train(epochs)
