"""What jobs of a gang must agree in, beside their shape, and the settings that an optimizer's class takes."""

from __future__ import annotations

import json
from typing import Any

from mlpq.analysis.arms import group_specs
from mlpq.spec.job import JobSpec
from mlpq.spec.optimizers import OPTIMIZERS, arguments
from mlpq.spec.sweep import Sweep
from tests.support.result_rows import specs


def one(**keys: Any) -> JobSpec:
    (spec,) = specs(**keys)
    return spec


def key(spec: JobSpec, world_size: int | None = None, engine: str | None = None) -> dict[str, Any]:
    text = spec.gang_key_on(world_size, engine)
    return {} if text is None else dict(json.loads(text))


def test_gang_key_has_the_requested_world_size_and_engine() -> None:
    spec = one()
    shape = key(spec)
    assert not {"world_size", "engine", "large", "content"} & set(shape)
    assert key(spec, world_size=2) == {**shape, "world_size": 2}
    assert key(spec, engine="kernel") == {**shape, "engine": "kernel"}
    large = one(hidden="4000,4000")
    assert (large.gang_key, key(large)["large"]) == (None, True)


def test_job_that_needs_a_package_is_trained_alone() -> None:
    matrices = next(name for name, optimizer in OPTIMIZERS.items() if optimizer.of_matrices)
    assert one(optimizer=matrices).package == "torch"
    assert one(optimizer=matrices).gang_key_on(None) is None
    assert one().package is None


def test_optimizers_get_whole_numbers_where_the_default_is_one() -> None:
    defaults = {"steps": 5, "lr": 0.1, "fused": False}
    found = arguments(defaults, {"steps": 7.0, "lr": 2.0, "fused": True})
    assert found == {"steps": 7, "lr": 2.0, "fused": True}
    assert [type(value) for value in found.values()] == [int, float, bool]


def test_specs_that_continue_from_different_arms_are_different_arms() -> None:
    parents = specs(optimizer=["sgd", "adam"], seeds="0..1")
    children = [
        child
        for parent in parents
        for child in Sweep.parse({"optimizer": "rmsprop", "dataset": "digits", "seeds": parent.seed}).jobs(parent)
    ]
    groups = group_specs([*parents, *children])
    assert [[spec.optimizer for spec in group] for group in groups] == [
        ["sgd", "sgd"], ["adam", "adam"], ["rmsprop", "rmsprop"], ["rmsprop", "rmsprop"],
    ]  # fmt: skip
