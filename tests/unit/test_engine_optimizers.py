"""The optimizers are torch's: their options, their defaults and the bits of their steps."""

from __future__ import annotations

import contextlib
import inspect
import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from mlpq.spec.job import JobSpec
from mlpq.spec.optimizers import NOT_OFFERED as NOT_OFFERED_OPTIMIZERS
from mlpq.spec.optimizers import OPTIMIZERS
from mlpq.spec.sweep import Sweep
from mlpq_workers.engine.optimizers import (
    StackOptimizer,
    build_optimizer,
    is_plain_descent,
    l1_penalty,
    put_state,
    settings_key,
)
from tests.support.gang_training import OPTIMIZERS_AND_OPTIONS

# They choose how a step is computed, not what it is, except for maximize, which would increase the loss.
NOT_OFFERED = {"foreach", "fused", "capturable", "differentiable", "maximize"}


def job(**keys: object) -> JobSpec:
    return Sweep.parse({"dataset": "digits", **keys}).jobs()[0]


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_restored_state_is_on_the_device_where_torch_creates_it(optimizer: str) -> None:
    """The device `meta` stands for a GPU."""
    spec = job(optimizer=optimizer)
    new, restored = (build_optimizer(spec, [nn.Parameter(torch.empty(2, 3, device="meta"))]) for _ in range(2))
    (parameter,) = new.param_groups[0]["params"]
    parameter.grad = torch.empty(2, 3, device="meta")
    with contextlib.suppress(RuntimeError):  # it creates the state, but some have no step on `meta`
        new.step()
    state = {name: value for name, value in new.state[parameter].items() if isinstance(value, Tensor)}
    put_state(spec, restored, {f"0 {name}": torch.zeros(value.shape) for name, value in state.items()})
    (parameter,) = restored.param_groups[0]["params"]
    assert {name: value.device.type for name, value in restored.state[parameter].items()} == {
        name: value.device.type for name, value in state.items()
    }


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
def test_registry_has_torchs_options_and_defaults(name: str) -> None:
    entry = OPTIMIZERS[name]
    signature = inspect.signature(getattr(torch.optim, entry.torch_name).__init__)
    theirs = {p.name: p.default for p in signature.parameters.values() if p.name not in {"self", "params"}}
    expected = {k: v for k, v in theirs.items() if k not in NOT_OFFERED}
    if name == "adafactor":
        assert expected["eps"][0] is None  # then torch takes that of the parameters' type
        expected["eps"] = (torch.finfo(torch.float32).eps, expected["eps"][1])
    if name == "muon":
        assert expected.pop("adjust_lr_fn") is None  # then torch takes "original"
        adamw = OPTIMIZERS["adamw"]
        own = {"lr": adamw.lr, **{k: v for k, v in adamw.defaults.items() if k != "amsgrad"}}
        expected |= {"match_rms_adamw": False, **{f"adamw_{k}": v for k, v in own.items()}}
    assert {"lr": entry.lr, **entry.defaults} == expected


def test_every_optimizer_of_torch_is_offered_or_the_reason_is_said() -> None:
    classes = {name: getattr(torch.optim, name) for name in torch.optim.__all__}
    theirs = {name for name, found in classes.items() if isinstance(found, type)} - {"Optimizer"}
    assert {entry.torch_name for entry in OPTIMIZERS.values()} == {
        name for name in theirs if name.lower() not in NOT_OFFERED_OPTIMIZERS
    }
    assert {name.lower() for name in theirs} >= NOT_OFFERED_OPTIMIZERS.keys()


@pytest.mark.parametrize("name", sorted(OPTIMIZERS.keys() - {"muon"}))
def test_steps_have_the_bits_of_torchs(name: str) -> None:
    spec = job(optimizer=name)
    mine = after_steps(lambda parameters: build_optimizer(spec, parameters))
    theirs = after_steps(lambda parameters: getattr(torch.optim, OPTIMIZERS[name].torch_name)(parameters, lr=spec.lr))
    assert all(torch.equal(a, b) for a, b in zip(mine, theirs, strict=True))


@pytest.mark.parametrize("match", [False, True])
def test_muon_takes_the_matrices_and_adamw_the_biases(match: bool) -> None:
    spec = job(optimizer=f"muon:lr=0.02,ns_steps=4,adamw_lr=0.5,adamw_betas=0.8/0.9,match_rms_adamw={match}")
    mine = after_steps(lambda parameters: build_optimizer(spec, parameters))
    theirs = after_steps(lambda p: Both(p[:1], p[1:], match))
    assert all(torch.equal(a, b) for a, b in zip(mine, theirs, strict=True))


class Both(torch.optim.Optimizer):
    """Muon and AdamW, one after the other."""

    def __init__(self, matrices: list[nn.Parameter], biases: list[nn.Parameter], match: bool) -> None:
        super().__init__([*matrices, *biases], {})
        adjust = "match_rms_adamw" if match else None
        self._muon = torch.optim.Muon(matrices, lr=0.02, ns_steps=4, adjust_lr_fn=adjust)
        self._adamw = torch.optim.AdamW(biases, lr=0.5, betas=(0.8, 0.9), foreach=False)

    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        self._muon.step()
        self._adamw.step()


def test_settings_reach_the_optimizer() -> None:
    spec = job(optimizer="sgd:lr=0.1,momentum=0.9,nesterov=true,weight_decay=0.01")
    mine = after_steps(lambda parameters: build_optimizer(spec, parameters))
    theirs = after_steps(lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.01))
    assert all(torch.equal(a, b) for a, b in zip(mine, theirs, strict=True))


def test_settings_reach_the_optimizer_unchanged_through_json() -> None:
    spec = job(optimizer="adam:betas=0.8/0.99,amsgrad=true")
    again = JobSpec.model_validate_json(spec.canonical())
    options = build_optimizer(again, [nn.Parameter(torch.zeros(1))]).defaults
    assert (options["betas"], options["amsgrad"], options["lr"]) == ((0.8, 0.99), True, 1e-3)


def test_l1_penalty_includes_weights_and_biases() -> None:
    weight = torch.tensor([[1.0, -2.0]], requires_grad=True)
    bias = torch.tensor([-4.0], requires_grad=True)
    penalty = l1_penalty([weight, bias], 0.5)
    penalty.backward()
    assert penalty.item() == 3.5
    assert weight.grad is not None
    assert bias.grad is not None
    assert (weight.grad.tolist(), bias.grad.tolist()) == ([[0.5, -0.5]], [-0.5])


class RowTraining:
    """Random rows in place of networks, and their optimizer."""

    LENGTH = 64

    def __init__(self, specs: list[JobSpec], rows: Tensor) -> None:
        self.specs, self.rows = specs, rows
        self.gradients = torch.zeros_like(rows)
        self.optimizer = StackOptimizer(specs, [settings_key(spec, 0) for spec in specs], self.rows, self.gradients)

    def step(self, drawn: Tensor) -> None:
        self.gradients.copy_(drawn)
        self.optimizer.add_penalties()
        self.optimizer.step()

    def smaller(self, kept: list[int]) -> RowTraining:
        run = RowTraining([self.specs[i] for i in kept], self.rows[kept])
        run.optimizer.take_over(self.optimizer, kept)
        return run


def gradients_of(count: int, steps: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(steps, count, RowTraining.LENGTH, generator=torch.Generator().manual_seed(5)).to(dtype)


def in_order(specs: list[JobSpec]) -> list[JobSpec]:
    return sorted(specs, key=lambda spec: settings_key(spec, 0))


@pytest.mark.parametrize("before", [0, 1, 3])
@pytest.mark.parametrize("optimizer", OPTIMIZERS_AND_OPTIONS)
@pytest.mark.usefixtures("one_thread")
def test_remaining_rows_do_not_depend_on_removed_ones(optimizer: str, before: int) -> None:
    # Two settings and a penalty, so that one group shrinks, another disappears, and rows move.
    specs = in_order([job(optimizer=optimizer, seeds=seed, l1=l1) for l1 in (0, 0.01) for seed in range(3)])
    specs = in_order([*specs, *(job(optimizer=optimizer, lr=0.5, seeds=seed) for seed in range(2))])
    start = torch.randn(len(specs), RowTraining.LENGTH, generator=torch.Generator().manual_seed(3))
    drawn = gradients_of(len(specs), before + 3)
    is_other_rate = [spec.lr == 0.5 for spec in specs]
    for kept in ([1, 4, 7], [i for i in range(len(specs)) if not is_other_rate[i]], [7]):
        whole, never = RowTraining(specs, start.clone()), RowTraining([specs[i] for i in kept], start[kept])
        for gradient in drawn[:before]:
            whole.step(gradient)
            never.step(gradient[kept])
        smaller = whole.smaller(kept)
        for gradient in drawn[before:]:
            smaller.step(gradient[kept])
            never.step(gradient[kept])
        assert torch.equal(smaller.rows, never.rows)
        assert not torch.equal(smaller.rows, start[kept])


@pytest.mark.usefixtures("one_thread")
def test_rows_can_be_removed_repeatedly() -> None:
    specs = in_order([job(optimizer=optimizer) for optimizer in OPTIMIZERS_AND_OPTIONS])
    start = torch.randn(len(specs), RowTraining.LENGTH, generator=torch.Generator().manual_seed(3))
    whole, shrinking, left = (
        RowTraining(specs, start.clone()),
        RowTraining(specs, start.clone()),
        list(range(len(specs))),
    )
    for step, gradient in enumerate(gradients_of(len(specs), 12)):
        whole.step(gradient)
        shrinking.step(gradient[left])
        assert torch.equal(shrinking.rows, whole.rows[left])
        kept = [i for i in range(len(left)) if i % 5 != step % 5]
        shrinking, left = shrinking.smaller(kept), [left[i] for i in kept]
    assert 1 < len(left) < len(specs) / 4


@pytest.mark.usefixtures("one_thread")
def test_rows_take_the_steps_of_torchs_optimizers_with_penalties() -> None:
    specs = in_order([job(optimizer=name, l1=l1) for name in OPTIMIZERS_AND_OPTIONS for l1 in (0, 0.01, 0.1)])
    start = torch.randn(len(specs), RowTraining.LENGTH, generator=torch.Generator().manual_seed(3)).double()
    drawn = gradients_of(len(specs), 20, torch.float64)
    run = RowTraining(specs, start.clone())
    for gradient in drawn:
        run.step(gradient)
    for i, spec in enumerate(specs):
        parameter = nn.Parameter(start[i])
        optimizer = build_optimizer(spec, [parameter])
        for gradient in drawn[:, i]:
            penalty = l1_penalty([parameter], spec.l1)
            parameter.grad = gradient + torch.autograd.grad(penalty, [parameter])[0]
            optimizer.step()
        assert torch.allclose(run.rows[i], parameter.detach(), rtol=1e-12, atol=1e-12), spec


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({"optimizer": "sgd"}, True),
        ({"optimizer": "sgd:lr=3,dampening=0.5"}, True),  # without momentum, dampening has no effect
        ({"optimizer": "sgd:momentum=0.9"}, False),
        ({"optimizer": "sgd:weight_decay=0.01"}, False),
        ({"optimizer": "sgd", "l1": 0.1}, False),
        ({"optimizer": "asgd"}, False),
        ({"optimizer": "sgd", "label_smoothing": 0.1}, True),
        ({"optimizer": "sgd", "clip_norm": 1}, False),
    ],
    ids=str,
)
def test_plain_descent_is_sgd_without_options(keys: dict[str, object], expected: bool) -> None:
    spec = job(**keys)
    assert is_plain_descent(spec) is expected
    weight = nn.Parameter(torch.tensor([1.0, -2.0, 0.5]))
    gradients = torch.tensor([[1.0, 0.5, -3.0], [0.25, 2.0, 1.0]])
    optimizer = build_optimizer(spec, [weight])
    moved = weight.detach().clone()
    for gradient in gradients:
        weight.grad = gradient + torch.autograd.grad(l1_penalty([weight], spec.l1), [weight])[0]
        nn.utils.clip_grad_norm_([weight], math.inf if spec.clip_norm is None else spec.clip_norm)
        optimizer.step()
        moved -= spec.lr * gradient
    assert torch.allclose(weight, moved, rtol=1e-6) is expected
