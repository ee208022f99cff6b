"""The gang engine computes what the plain engine does: one step up to rounding in float32, many steps in float64."""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from mlpq.records import EpochMetrics
from mlpq.spec.job import JobSpec
from mlpq.spec.optimizers import OPTIMIZERS
from mlpq_workers.engine.data import Data, epoch_order
from mlpq_workers.engine.network import build
from mlpq_workers.engine.optimizers import build_optimizer
from mlpq_workers.engine.tensors import to_tensors
from mlpq_workers.engine.training_state import EngineJob
from mlpq_workers.trainer.data import load
from tests.support.float_pixels import in_floats
from tests.support.gang_training import OPTIMIZERS_AND_OPTIONS, OPTIONS, Record, job, train_plain, train_together

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("one_thread")]

EPS = torch.finfo(torch.float32).eps


@functools.cache
def digits(dtype: torch.dtype | None = None) -> Data:
    data = Data.of(load("digits", Path("nowhere")))
    return in_floats(data, dtype) if dtype else data


@pytest.mark.parametrize("name", sorted(OPTIMIZERS))
def test_every_option_of_every_optimizer_is_tested_at_another_value(name: str) -> None:
    defaults = OPTIMIZERS[name].defaults
    tried = [job(optimizer=f"{name}:{option}").optimizer_settings for option in OPTIONS[name]]
    assert {option for option in defaults if any(t[option] != defaults[option] for t in tried)} == set(defaults)


def exact_gradient(spec: JobSpec, x: Tensor, y: Tensor) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The gradient of the loss at the initial weights in float64, and for each entry the sum of its terms' magnitudes.

    Rounding changes an entry in proportion to that sum, even where the terms cancel.
    """
    network, _ = build(spec)
    network.double().train()
    z, linear = x, x
    layers: list[nn.Linear] = []
    inputs: list[Tensor] = []
    slopes: list[Tensor] = []  # of the activation, times dropout's mask
    for module in network:
        if isinstance(module, nn.Linear):
            if layers:
                slopes.append(torch.autograd.grad(z.sum(), linear)[0])
            layers.append(module)
            inputs.append(z.detach())
            linear = module(inputs[-1]).detach().requires_grad_()
            z = linear
        else:
            z = module(z)
    softmax, truth = torch.softmax(z.detach(), 1), nn.functional.one_hot(y, 10)
    p, sizes = (softmax - truth) / len(y), (softmax + truth) / len(y)
    gradient, magnitude = {}, {}
    for i in reversed(range(len(layers))):
        gradient[f"layer{i}.weight"], magnitude[f"layer{i}.weight"] = p.T @ inputs[i], sizes.T @ inputs[i].abs()
        if spec.bias:
            gradient[f"layer{i}.bias"], magnitude[f"layer{i}.bias"] = p.sum(0), sizes.sum(0)
        if i:
            weight = layers[i].weight.detach()
            p, sizes = (p @ weight) * slopes[i - 1], (sizes @ weight.abs()) * slopes[i - 1].abs()
    return gradient, magnitude


def stepped(spec: JobSpec, weights: Mapping[str, Tensor], gradient: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights after one step of torch's optimizer with this gradient of the loss, in float64."""
    parameters = {name: nn.Parameter(weight.double()) for name, weight in weights.items()}
    optimizer = build_optimizer(spec, parameters.values())
    for name, parameter in parameters.items():
        parameter.grad = gradient[name] + spec.l1 * parameter.detach().sign()
    optimizer.step()
    return {name: parameter.detach() for name, parameter in parameters.items()}


def assert_one_step(spec: JobSpec, weights: Mapping[str, Tensor], gradients: tuple[dict[str, Tensor], ...]) -> None:
    """Assert that weights are those after a step of torch's optimizer with the exact gradient, up to rounding.

    Adam and similar optimizers take a step of lr whatever the size of the gradient: where its terms cancel, rounding
    decides the step. The first step of every optimizer is monotone in the gradient, so the steps of all gradients in a
    range lie between those of its ends. The range is 16 roundings of the terms' magnitudes each way, twice as many as
    both engines need; then the step itself is rounded.
    """
    gradient, magnitude = gradients
    initial = build(spec)[0].state_dict()
    middle = stepped(spec, initial, gradient)
    ends = [
        stepped(spec, initial, {name: g + sign * 16 * EPS * magnitude[name] for name, g in gradient.items()})
        for sign in (-1, 1)
    ]
    for name, weight in weights.items():
        low, high = torch.minimum(ends[0][name], ends[1][name]), torch.maximum(ends[0][name], ends[1][name])
        step = (middle[name] - initial[name]).abs()
        rounding = 4 * EPS * (initial[name].abs() + step)
        assert (weight >= low - rounding).all(), (spec, name)
        assert (weight <= high + rounding).all(), (spec, name)
        # Only where terms cancel is the range wide; otherwise this test would prove nothing.
        assert ((high - low) > 0.001 * step.max()).double().mean() < 0.15, (spec, name)


DEEP = ("none", "16", "33,16,7")
SHAPES = [
    {"hidden": hidden, "activation": activation, "bias": bias}
    for hidden, activation, bias in itertools.product(DEEP, ("sigmoid", "relu", "tanh"), (True, False))
    if hidden != "none" or activation == "sigmoid"
]


def each_shape(numbers: Iterable[int]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("number", numbers, ids=lambda i: " ".join(map(str, SHAPES[i].values())))


def with_penalty_and_dropout(number: int, has_hidden: bool) -> dict[str, float]:
    """One of the four combinations, or of two without hidden layers."""
    return {"l1": 0.01 * (number % 2), "dropout": 0.3 * (number // 2 % 2) * has_hidden}


@each_shape(range(len(SHAPES)))
def test_weights_after_one_step_equal_the_plain_engines_up_to_rounding(number: int) -> None:
    shape = SHAPES[number]
    order = epoch_order(1297, torch.Generator().manual_seed(42))  # a dropout mask's rows are a batch's
    x, y = digits(torch.float64).train_x[order], digits().train_y[order]
    specs = [
        job(
            **shape,
            **with_penalty_and_dropout(number + i, shape["hidden"] != "none"),
            optimizer=optimizer,
            # Their steps are in proportion to the gradient: with a small rate the weights' rounding would hide them.
            **({"lr": 1} if optimizer.split(":")[0] in ("sgd", "asgd", "radam") else {}),
            epochs=1,
            batch_size=2000,
        )
        for i, optimizer in enumerate(OPTIMIZERS_AND_OPTIONS)
    ]
    gang = train_together(*specs, data=digits())
    gradients = {dropout: exact_gradient(spec, x, y) for spec in specs for dropout in [spec.dropout]}
    for i, spec in enumerate(specs):
        assert_one_step(spec, to_tensors(gang.trained(str(i)).final.weights), gradients[spec.dropout])
        assert_one_step(spec, to_tensors(train_plain(spec, digits()).final.weights), gradients[spec.dropout])


def close(mine: EpochMetrics, theirs: EpochMetrics) -> bool:
    """Whether counts are equal, and losses equal up to rounding in float64."""
    pairs = [(getattr(mine, field.name), getattr(theirs, field.name)) for field in dataclasses.fields(EpochMetrics)]
    return all(
        a == pytest.approx(b, rel=1e-10) if isinstance(b, float) else a == b
        for (a, b), field in zip(pairs, dataclasses.fields(EpochMetrics), strict=True)
        if field.name != "seconds"
    )


@each_shape((0, 3, 4, 7, 8, 11, 12))  # every depth with every activation, with bias or without
def test_results_in_double_precision_equal_the_plain_engines(number: int) -> None:
    shape, data = SHAPES[number], digits(torch.float64)
    jobs = []
    for i, optimizer in enumerate(OPTIMIZERS_AND_OPTIONS):
        keys = {
            **shape,
            **with_penalty_and_dropout(number + i, shape["hidden"] != "none"),
            "batch_size": 100,
            "validation": 0.1 * (number // 4 % 2),
        }
        parent = job(**keys, epochs=1, seeds=i % 3) if i % 5 == 0 else None
        start = train_plain(parent, data).final if parent else None
        own = {"optimizer": optimizer, "epochs": 3 + i % 2, "seeds": i % 3}
        if keys["validation"]:
            own["patience"] = [None, 1, 2][i % 3]
        if optimizer.startswith("rmsprop"):
            # At torch's 0.01 its first steps are so large that a rounding error grows tenfold with each step.
            own["lr"] = 0.001
        jobs.append(EngineJob(job(parent, **keys, **own), start))
    gang = train_together(*jobs, data=data)
    for i, each in enumerate(jobs):
        record = Record()
        plain, mine = train_plain(each.spec, data, each.start, record), gang.trained(str(i))
        assert len(gang.epochs[str(i)]) == len(record.epochs["0"])
        assert all(map(close, gang.epochs[str(i)], record.epochs["0"])), each.spec
        assert (mine.best.epoch, mine.epochs_run) == (plain.best.epoch, plain.epochs_run)
        assert np.array_equal(mine.final.shuffle_state, plain.final.shuffle_state)
        assert np.array_equal(mine.final.dropout_state, plain.final.dropout_state)
        for name, weight in plain.final.weights.items():
            assert mine.final.weights[name].dtype == weight.dtype == np.float64
            assert np.abs(mine.final.weights[name] - weight).max() <= 1e-10 * np.abs(weight).max(), (each.spec, name)
