"""Plug-ins in the plain engine: what their classes are given, what they may keep, and how they fail."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from mlpq.errors import MlpqError
from mlpq.spec.job import JobSpec, spec_from
from mlpq_workers.engine.optimizers import build_optimizer, rate_factors, set_rate
from mlpq_workers.engine.plugin_optimizer import put_plugin_state, take_plugin_state
from mlpq_workers.trainer.plugin_code import PluginCode
from tests.support.gang_training import assert_same, few, job, train_plain
from tests.support.plugin_packages import PLUGIN

pytestmark = pytest.mark.usefixtures("one_thread")


def parameters() -> list[nn.Parameter]:
    return [nn.Parameter(torch.ones(3, 2)), nn.Parameter(torch.ones(3))]


def test_class_gets_the_settings_in_their_types() -> None:
    optimizer = build_optimizer(job(optimizer="slowstart:lr=0.5,steps=7,betas=0.25/0.5"), parameters())
    group = optimizer.param_groups[0]
    assert type(optimizer).__module__ == "slowstart.optimizer"
    assert {name: group[name] for name in ("lr", "beta", "steps", "betas", "nesterov")} == {
        "lr": 0.5, "beta": 0.9, "steps": 7, "betas": (0.25, 0.5), "nesterov": False,
    }  # fmt: skip
    assert isinstance(group["steps"], int)


def test_schedule_scales_the_rates_of_all_groups() -> None:
    optimizer = build_optimizer(job(optimizer="jitter:lr=0.5"), parameters())
    factors = rate_factors(optimizer, 0.5)
    set_rate(optimizer, 0.1, factors)
    assert [group["lr"] for group in optimizer.param_groups] == [0.1, 0.05]


def test_draws_from_the_default_generator_are_the_jobs_own() -> None:
    spec = job(optimizer="jitter", dropout=0.2)
    first = train_plain(spec, few())
    torch.rand(5)
    assert_same(train_plain(spec, few()), first)


class Odd(torch.optim.SGD):
    """Has a state of one value."""

    def __init__(self, value: Any) -> None:
        self.own = nn.Parameter(torch.zeros(2))
        super().__init__([self.own], lr=0.1)
        self.state[self.own]["value"] = value


@pytest.mark.parametrize(
    "value",
    [
        torch.tensor([1.5, -2.0], dtype=torch.float64), torch.tensor([1, 2**40]), torch.tensor([True, False]),
        torch.tensor([1.5, 2.5], dtype=torch.bfloat16), torch.tensor(3), torch.zeros(0, 3), torch.tensor([1 + 2j]),
        3, 2**80, 0.1, float("inf"), "text", None, True, [1, (2.5, None)], {"a": [1], 3: {"b": (4,)}},
    ],
    ids=str,
)  # fmt: skip
def test_state_of_any_type_is_restored(value: Any) -> None:
    taken = take_plugin_state(Odd(value))
    other = Odd(None)
    put_plugin_state(other, {name: tensor.clone() for name, tensor in taken.items()})
    found = other.state[other.own]["value"]
    if isinstance(value, torch.Tensor):
        assert (found.dtype, found.shape) == (value.dtype, value.shape)
        assert torch.equal(found, value)
    else:
        assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize(
    "value", [object(), {1, 2}, b"bytes", {(1, 2): 3}, lambda: None], ids=["object", "set", "bytes", "keys", "function"]
)
def test_state_that_a_checkpoint_can_not_hold_is_said(value: object) -> None:
    with pytest.raises(MlpqError, match=r"the state of the optimizer can't be saved: TypeError: state_dict\(\) h"):
        take_plugin_state(Odd(value))


def changed(spec: JobSpec, **fields: object) -> JobSpec:
    return spec_from(**{**spec.model_dump(), **fields})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda spec: changed(spec, plugin="mlpq-test-plugin==2.0"), "mlpq-test-plugin==2.0 is not installed here"),
        (
            lambda spec: changed(spec, optimizer="unknown"),
            f"{PLUGIN} is not installed here, or has no optimizer unknown",
        ),
        (
            lambda spec: changed(spec, declaration={**spec.declaration.model_dump(), "class_path": "os:system"}),
            f"{PLUGIN} declares slowstart otherwise here than where the job was submitted",
        ),
    ],
)
def test_only_what_is_installed_and_declared_is_run(change: Callable[[JobSpec], JobSpec], message: str) -> None:
    with pytest.raises(MlpqError) as error:
        build_optimizer(change(job(optimizer="slowstart")), parameters())
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("name", "kind", "message"),
    [
        ("broken-import", RuntimeError, "not today"),
        ("broken-start", ValueError, "no good start"),
        ("broken-step", ZeroDivisionError, "a step too far"),
    ],
)
def test_errors_of_a_plugin_are_those_of_the_job(name: str, kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        train_plain(job(optimizer=name, epochs=10), few())


def test_code_of_another_version_has_no_facts(tmp_path: Path) -> None:
    code = PluginCode.of(PLUGIN)
    assert code.facts == {"plugin": PLUGIN, "plugin_sha256": code.sha256}
    assert code.modules == ("slowstart", "slowstart_mlpq")
    code.check()
    with pytest.raises(MlpqError, match=r"mlpq-test-plugin==2\.0 is not installed here"):
        PluginCode.of("mlpq-test-plugin==2.0")
