"""The registry's optimizers are torch's, to the option, the default and the bit."""

from __future__ import annotations

import inspect
from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from mlpq.optimizers import OPTIMIZERS
from mlpq.spec import JobSpec, Sweep
from mlpq_workers.optim import build_optimizer, l1_penalty

# They choose how a step is computed, not what it is; maximize would train for the worst.
NOT_OFFERED = {"foreach", "fused", "capturable", "differentiable", "maximize"}


def job(**keys: object) -> JobSpec:
    return Sweep.parse({"dataset": "digits", **keys}).jobs()[0]


def after_steps(make: Callable[[list[nn.Parameter]], torch.optim.Optimizer], steps: int = 20) -> list[nn.Parameter]:
    generator = torch.Generator().manual_seed(3)
    x, y = torch.rand(20, 5, generator=generator), torch.randint(3, (20,), generator=generator)
    weight = nn.Parameter(torch.randn(3, 5, generator=generator))
    bias = nn.Parameter(torch.randn(3, generator=generator))
    optimizer = make([weight, bias])
    for _ in range(steps):
        optimizer.zero_grad()
        cross_entropy(nn.functional.linear(x, weight, bias), y).backward()
        optimizer.step()
    return [weight, bias]


@pytest.mark.parametrize("name", sorted(OPTIMIZERS))
def test_the_table_has_torchs_options_and_defaults(name: str) -> None:
    entry = OPTIMIZERS[name]
    signature = inspect.signature(getattr(torch.optim, entry.torch_name).__init__)
    theirs = {p.name: p.default for p in signature.parameters.values() if p.name not in {"self", "params"}}
    assert {"lr": entry.lr, **entry.defaults} == {k: v for k, v in theirs.items() if k not in NOT_OFFERED}


@pytest.mark.parametrize("name", sorted(OPTIMIZERS))
def test_the_steps_are_torchs_to_the_bit(name: str) -> None:
    spec = job(optimizer=name)
    mine = after_steps(lambda parameters: build_optimizer(spec, parameters))
    theirs = after_steps(lambda parameters: getattr(torch.optim, OPTIMIZERS[name].torch_name)(parameters, lr=spec.lr))
    assert all(torch.equal(a, b) for a, b in zip(mine, theirs, strict=True))


def test_settings_reach_the_optimizer() -> None:
    spec = job(optimizer="sgd:lr=0.1,momentum=0.9,nesterov=true,weight_decay=0.01")
    mine = after_steps(lambda parameters: build_optimizer(spec, parameters))
    theirs = after_steps(lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.01))
    assert all(torch.equal(a, b) for a, b in zip(mine, theirs, strict=True))


def test_settings_that_went_through_json_reach_the_optimizer_unchanged() -> None:
    spec = job(optimizer="adam:betas=0.8/0.99,amsgrad=true")
    again = JobSpec.model_validate_json(spec.canonical())
    options = build_optimizer(again, [nn.Parameter(torch.zeros(1))]).defaults
    assert (options["betas"], options["amsgrad"], options["lr"]) == ((0.8, 0.99), True, 1e-3)


def test_the_l1_penalty_takes_weights_and_biases() -> None:
    weight = torch.tensor([[1.0, -2.0]], requires_grad=True)
    bias = torch.tensor([-4.0], requires_grad=True)
    penalty = l1_penalty([weight, bias], 0.5)
    penalty.backward()
    assert penalty.item() == 3.5
    assert weight.grad is not None
    assert bias.grad is not None
    assert (weight.grad.tolist(), bias.grad.tolist()) == ([[0.5, -0.5]], [-0.5])
