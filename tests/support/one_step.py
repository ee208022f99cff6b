"""One step of training beside the exact step: the bounds that rounding leaves, for every engine."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping

import pytest
import torch
from torch import Tensor, nn

from mlpq.spec.job import JobSpec
from mlpq_workers.engine.network import build
from mlpq_workers.engine.optimizers import build_optimizer

EPS = torch.finfo(torch.float32).eps


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
