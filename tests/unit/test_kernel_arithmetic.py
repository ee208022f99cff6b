"""The kernel computes what the plain engine does: one step up to rounding in float32, whole trainings in float64."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from mlpq.spec.job import JobSpec
from mlpq_workers.engine.data import Data
from mlpq_workers.engine.network import Dropout
from mlpq_workers.kernel import Images, build
from tests.support.float_pixels import in_floats
from tests.support.gang_training import OPTIMIZERS_AND_OPTIONS, Record, digits, few, job, train_plain
from tests.support.kernel_builds import DOUBLE, compiled
from tests.support.kernel_jobs import Run
from tests.support.one_step import SHAPES, assert_one_step, each_shape, exact_gradient, with_penalty_and_dropout

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("one_thread", "masks_without_mkl")]


@pytest.fixture
def masks_without_mkl(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the plain engine draw dropout's masks as torch does where it has no MKL, and as the kernel does."""

    def forward(self: Dropout, x: Tensor) -> Tensor:
        if not self.training:
            return x
        keep = torch.full(x.shape, 1 - self.p, dtype=torch.float64)
        return x * torch.bernoulli(keep, generator=self.generator).to(x.dtype).div_(1 - self.p)

    monkeypatch.setattr(Dropout, "forward", forward)


@functools.cache
def images(name: str) -> Images:
    data = {"digits": digits, "few": few}[name]()
    return Images(data.train_x.numpy(), data.train_y.numpy(), data.scale)


def as_tensors(weights: dict[str, Any]) -> dict[str, Tensor]:
    return {name: torch.from_numpy(values) for name, values in weights.items()}


def in_double() -> Any:
    return build("plain", compiled("gcc", *DOUBLE))


@each_shape(range(len(SHAPES)))
@pytest.mark.parametrize("batch_size", [100, 2000])
def test_weights_after_one_step_equal_the_exact_ones_up_to_rounding(number: int, batch_size: int) -> None:
    shape, has_hidden = SHAPES[number], SHAPES[number]["hidden"] != "none"
    for i, optimizer in enumerate(OPTIMIZERS_AND_OPTIONS):
        spec = job(
            **shape,
            **with_penalty_and_dropout(number + i, has_hidden),
            optimizer=optimizer,
            # Their steps are in proportion to the gradient: with a small rate the weights' rounding would hide them.
            **({"lr": 1} if optimizer.split(":")[0] in ("sgd", "asgd", "radam") else {}),
            batch_size=batch_size,
        )
        run = Run.of(spec, images("digits"), build())
        run.rows = run.rows[: min(batch_size, 1297)]
        epoch = run.epoch()
        assert run.network.train(run.images, epoch, run.dropout)
        order = torch.from_numpy(epoch.order)
        x, y = in_floats(digits(), torch.float64).train_x[order], digits().train_y[order]
        assert_one_step(spec, as_tensors(run.network.take_weights()), exact_gradient(spec, x, y))


def assert_same_training(spec: JobSpec, data: Data, name: str) -> None:
    """Assert that weights, losses and counts equal the plain engine's to 1e-12, after every epoch."""
    record = Record()
    plain = train_plain(spec, data, observer=record)
    run = Run.of(spec, images(name), in_double())
    test = Images(few().test_x.numpy(), few().test_y.numpy(), few().scale)
    for metrics in record.epochs["0"]:
        epoch = run.epoch()
        assert run.network.train(run.images, epoch, run.dropout)
        assert epoch.loss == pytest.approx(metrics.train_loss, rel=1e-12)
        found = run.network.evaluate(test)
        assert found.loss == pytest.approx(metrics.test_loss, rel=1e-12)
        assert found.correct == metrics.test_correct == (found.predicted == test.labels).sum()
    for layer, weight in run.network.take_weights().items():
        expected = plain.final.weights[layer]
        assert weight.dtype == expected.dtype == np.float64
        assert np.abs(weight - expected).max() <= 1e-12 * np.abs(expected).max(), (spec, layer)


@each_shape((0, 4, 7, 9))  # every depth, and every activation, with bias or without
def test_trainings_in_double_precision_equal_the_plain_engines(number: int) -> None:
    data = in_floats(few(), torch.float64)
    for i, optimizer in enumerate(OPTIMIZERS_AND_OPTIONS):
        # At torch's 0.01 its first steps are so large that a rounding error grows tenfold with each step.
        own = {"lr": 0.0001} if optimizer.startswith("rmsprop") else {}
        spec = job(
            **SHAPES[number],
            **with_penalty_and_dropout(number + i, SHAPES[number]["hidden"] != "none"),
            **own,
            optimizer=optimizer,
            batch_size=(50, 200)[i % 2],
            seeds=i % 3,
            epochs=2,
        )
        assert_same_training(spec, data, "few")
