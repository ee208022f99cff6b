"""What a spec determines: the gang that it may join, the package that it needs, and what its optimizer is."""

from __future__ import annotations

import json
from typing import Any

import pytest

from mlpq.errors import SpecError
from mlpq.spec.job import MAX_STACKED, JobSpec, parse_spec
from mlpq.spec.optimizers import OPTIMIZERS, muon_arguments
from mlpq.spec.presets import preset_jobs
from mlpq.spec.sweep import Sweep, inherited

FORMULA = "mine: p = p - lr*g"
PLUGIN: dict[str, Any] = {"plugin": "odd==1.0", "declaration": {"class_path": "odd:Odd", "defaults": {}}}


def one(**keys: object) -> JobSpec:
    (spec,) = Sweep.parse({"dataset": "digits", **keys}).jobs()
    return spec


def changed(spec: JobSpec, **fields: object) -> JobSpec:
    return parse_spec({**spec.model_dump(mode="json"), **fields})


def keys(spec: JobSpec, world_size: int | None = None, engine: str | None = None) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(spec.gang_key_on(world_size, engine) or "{}")
    return found


def test_gang_key_has_what_was_requested_and_whether_the_model_is_large() -> None:
    small, large = one(), one(hidden="9000,100")
    assert keys(small) == json.loads(small.gang_key or "")
    assert keys(small, 2, "kernel") == {**keys(small), "world_size": 2, "engine": "kernel"}
    assert {*keys(small, 2)} - {*keys(small)} == {"world_size"}
    assert {*keys(small, None, "torch")} - {*keys(small)} == {"engine"}
    assert large.gang_key is None
    assert {*keys(large)} - {*keys(small)} == {"large"}


def test_model_is_large_above_the_limit_of_parameters_and_activations() -> None:
    """64 inputs and 10 classes: 75 parameters and a unit for each image per unit of the hidden layer, and 84 more."""
    most = (MAX_STACKED - 10 - 32 * 74) // (75 + 32)
    sizes = [one(hidden=width).parameters + 32 * (74 + width) for width in (most, most + 1)]
    assert sizes[0] <= MAX_STACKED < sizes[1]
    assert [one(hidden=width).is_large for width in (most, most + 1)] == [False, True]


def test_jobs_that_need_a_package_join_no_gang() -> None:
    plugin = changed(one(optimizer="sgd"), optimizer="odd", optimizer_settings={}, **PLUGIN)
    packages = {name: one(optimizer=name).package for name in OPTIMIZERS}
    assert {name for name, package in packages.items() if package} == {"muon", "adafactor"}
    assert packages["muon"] == "torch"
    for spec in (plugin, one(optimizer="muon")):
        assert (spec.gang_key, spec.gang_key_on(2)) == (None, None)
    assert plugin.package == "odd==1.0"
    assert one(optimizer="mine", formula=FORMULA, lr=0.1).package is None


def test_definition_of_an_own_optimizer_is_its_formula_or_its_package() -> None:
    formula = one(optimizer="mine", formula=FORMULA, lr=0.1)
    plugin = changed(one(optimizer="sgd"), optimizer="odd", optimizer_settings={}, **PLUGIN)
    assert [spec.definition for spec in (formula, plugin, one())] == [formula.formula, "odd==1.0", None]
    assert formula.optimizer_defaults == plugin.optimizer_defaults == {}


def test_options_of_muon_are_arguments_of_muon_and_of_adamw() -> None:
    muon, adamw = muon_arguments(one(optimizer="muon").optimizer_settings)
    assert (muon["momentum"], muon["weight_decay"]) == (0.95, 0.1)
    assert adamw == {"lr": 1e-3, "betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 1e-2}
    assert not {*muon} & {"adjust_lr_fn", "match_rms_adamw"}
    matched = muon_arguments({"match_rms_adamw": True, "adamw_eps": 0.1, "eps": 0.2})
    assert matched == ({"eps": 0.2, "adjust_lr_fn": "match_rms_adamw"}, {"eps": 0.1})


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"optimizer_settings": {"momentum": 0.0}}, "optimizer_settings must name every option of sgd"),
        ({"plugin": PLUGIN["plugin"]}, "plugin and declaration belong together"),
        ({"declaration": PLUGIN["declaration"]}, "plugin and declaration belong together"),
        (PLUGIN, "sgd is a plug-in, and torch's or a formula too: give one of them"),
        ({"optimizer": "sgd2"}, "unknown optimizer 'sgd2' (did you mean 'sgd'?)"),
        ({**PLUGIN, "optimizer": "Odd", "optimizer_settings": {}}, "the name of a plug-in has up to 40 letters"),
        ({**PLUGIN, "optimizer": "odd"}, "odd has no option"),
        ({"dataset": "wine"}, "unknown data set 'wine'"),
        ({"parent": "ab"}, "parent: String should match pattern"),
        ({"extra": 1}, "extra: Extra inputs are not permitted"),
        ({"patience": 3}, "patience needs a validation split: add --validation 0.1"),
        ({"hidden": [], "dropout": 0.5}, "dropout applies to hidden layers and there is none"),
    ],
)
def test_stored_spec_that_contradicts_itself_is_one_line(fields: dict[str, object], message: str) -> None:
    with pytest.raises(SpecError) as error:
        changed(one(), **fields)
    assert str(error.value).startswith(message)


def test_rates_vary_with_a_schedule_or_a_warmup() -> None:
    assert [one(**keys).has_varying_lr for keys in ({}, {"schedule": "cosine"}, {"warmup": 0.1})] == [False, True, True]
    for options in ({"schedule": "cosine"}, {"warmup": 0.1}):
        with pytest.raises(SpecError, match="rprop reads the learning rate in its first step only"):
            one(optimizer="rprop", **options)
        with pytest.raises(SpecError, match="the formula of still does not read lr: leave --schedule and --warmup out"):
            one(optimizer="still", formula="still: p = p - g", **options)


def test_inherited_keys_are_all_but_what_a_job_has_of_its_own() -> None:
    parent = one(hidden="none", seeds=7, batch_size=8, epochs=3, l1=0.1, clip_norm=1, label_smoothing=0.1)
    found = inherited(parent)
    assert {*found} == {
        "dataset", "hidden", "activation", "bias", "dropout", "l1", "epochs", "batch_size", "validation", "seeds",
        "initialisation", "clip_norm", "label_smoothing",
    }  # fmt: skip
    assert (found["hidden"], found["seeds"], found["dataset"]) == ("none", 7, "digits")
    (child,) = Sweep.parse({**found, "optimizer": "adam"}).jobs(parent)
    assert (child.parent, child.hidden, child.seed, child.l1) == (parent.hash, (), 7, 0.1)


def test_textbooks_last_job_continues_from_the_network_and_not_from_the_baseline() -> None:
    _, (baseline, network, last) = preset_jobs("textbook", {"dataset": "digits", "epochs": 2, "seeds": 3})
    assert (baseline.hidden, network.hidden, last.hidden) == ((), (32,), (32,))
    assert last.parent == network.hash
    assert [(spec.optimizer, spec.lr, spec.epochs, spec.seed) for spec in (baseline, network, last)] == [
        ("sgd", 0.001, 2, 3), ("sgd", 0.001, 2, 3), ("adam", 0.001, 2, 3),
    ]  # fmt: skip
