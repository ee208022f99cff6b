"""Labels of arms: only what differs between them, all of what differs, and no two alike."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlpq.analysis.arms import arms
from mlpq.analysis.labels import arm_labels, labels_among, labels_over_problems, settings_labels, shared, spec_labels
from mlpq.spec.job import JobSpec
from mlpq.spec.sweep import FACTORS, Sweep
from tests.support.result_rows import job_record, specs

# Two values of each key, and how a label shows them where only that key differs.
SHOWN: dict[str, tuple[list[Any], list[str]]] = {
    "dataset": (["digits", "mnist"], ["digits", "mnist"]),
    "hidden": ([[32], [64, 16]], ["MLP 32", "MLP 64,16"]),
    "activation": (["relu", "tanh"], ["relu", "tanh"]),
    "bias": ([True, False], ["bias=true", "bias=false"]),
    "initialisation": (["torch", "truncated-normal"], ["initialisation=torch", "initialisation=truncated-normal"]),
    "optimizer": (["adam:lr=0.1", "rmsprop:lr=0.1"], ["adam", "rmsprop"]),
    "lr": ([0.1, 0.01], ["lr=0.1", "lr=0.01"]),
    "weight_decay": ([0, 0.1], ["weight_decay=0", "weight_decay=0.1"]),
    "l1": ([0, 1e-5], ["l1=0", "l1=1e-05"]),
    "dropout": ([0, 0.25], ["dropout=0", "dropout=0.25"]),
    "epochs": ([5, 10], ["epochs=5", "epochs=10"]),
    "batch_size": ([16, 64], ["batch size=16", "batch size=64"]),
    "validation": ([0.1, 0.2], ["validation=0.1", "validation=0.2"]),
    "patience": ([None, 3], ["patience=none", "patience=3"]),
    "schedule": (["constant", "step:size=5"], ["schedule=constant", "schedule=step:size=5"]),
    "warmup": ([0, 0.5], ["warmup=0", "warmup=0.5"]),
    "clip_norm": ([None, 2], ["clip_norm=none", "clip_norm=2"]),
    "label_smoothing": ([0, 0.1], ["label smoothing=0", "label smoothing=0.1"]),
}
BASE: dict[str, Any] = {"dataset": "digits", "validation": 0.1}


def labels(**keys: Any) -> list[str]:
    return spec_labels(Sweep.parse({**BASE, **keys}).jobs())


@pytest.mark.parametrize("key", SHOWN)
def test_label_shows_the_one_key_that_differs(key: str) -> None:
    values, shown = SHOWN[key]
    assert labels(**{key: values}) == shown


def test_every_key_of_a_sweep_has_a_label() -> None:
    assert {*FACTORS} - {"seeds"} == {*SHOWN}


@given(st.lists(st.sampled_from(sorted(SHOWN)), unique=True, min_size=1, max_size=4))
def test_labels_of_a_sweep_differ_and_name_each_key_that_differs_and_no_other(keys: list[str]) -> None:
    if "optimizer" in keys:  # both have rates of their own
        keys = [key for key in keys if key != "lr"]
    specs = Sweep.parse({**BASE, **{key: SHOWN[key][0] for key in keys}}).jobs()
    found = spec_labels(specs)
    assert len({*found}) == len(specs)
    for key, (_, shown) in SHOWN.items():
        if key not in ("hidden", "optimizer", "weight_decay"):
            words = [{*label.replace(",", " ").split()} for label in found]
            named = [any({*text.split()} <= own for text in shown) for own in words]
            assert all(named) if key in keys else not any(named), key


def test_label_without_an_optimizers_own_defaults() -> None:
    """They differ between optimizers, and are what the name stands for."""
    assert labels(optimizer=["sgd", "adamw"], lr=0.1) == ["sgd", "adamw"]
    assert labels(optimizer=["sgd", "sgd:momentum=0.9", "adam"], lr=0.1) == ["sgd", "sgd momentum=0.9", "adam"]
    assert labels(optimizer=["sgd", "sgd:momentum=0.9"], lr=0.1) == ["momentum=0", "momentum=0.9"]
    assert labels(optimizer=["sgd", "adam:betas=0.8/0.9,lr=0.01"]) == ["sgd lr=0.001", "adam lr=0.01 betas=0.8/0.9"]


def test_logistic_regression_has_no_activation_in_its_label() -> None:
    assert labels(hidden=[[], [32]], activation=["relu", "tanh"]) == ["logistic", "MLP 32 relu", "MLP 32 tanh"]
    assert labels(hidden=[[], [32]], activation="relu") == ["logistic", "MLP 32 relu"]


def test_two_formulas_of_one_optimizers_name_are_told_apart() -> None:
    formulas = ["mine: p = p - lr*g", "mine: p = p - lr*sign(g)"]
    both = [spec for text in formulas for spec in specs(optimizer="mine", formula=text, lr=0.1)]
    first, second = spec_labels(both)
    assert first.startswith("formula=")
    assert second.startswith("formula=")
    assert first != second
    assert spec_labels([both[0], *specs(optimizer="adam", lr=0.1)]) == ["mine", "adam"]


def test_single_arm_has_the_name_of_its_optimizer() -> None:
    assert labels(lr=0.1) == ["sgd lr=0.1"]


def records(some: list[JobSpec]) -> Any:
    return arms([job_record(spec, number, 400) for number, spec in enumerate(some)])


def test_arms_are_told_apart_by_what_their_parents_differ_in() -> None:
    parents = specs(optimizer="sgd", lr="0.1,0.2", epochs=3)
    jobs = [job_record(parent, number, 300) for number, parent in enumerate(parents)]
    children = [
        job_record(child, 10 + number, 400, parent_id=jobs[number].id)
        for number, parent in enumerate(parents)
        for child in Sweep.parse({"dataset": "digits", "optimizer": "adam"}).jobs(parent)
    ]
    found = arms(children, jobs)
    assert arm_labels(found) == ["adam lr=0.001, continued from lr=0.1", "adam lr=0.001, continued from lr=0.2"]
    assert arm_labels(found[:1]) == ["adam lr=0.001, continued from sgd lr=0.1"]
    longer = Sweep.parse({"dataset": "digits", "optimizer": "adam", "epochs": 20}).jobs(parents[0])
    same = [children[0], *(job_record(child, 20, 400, parent_id=jobs[0].id) for child in longer)]
    assert arm_labels(arms(same, jobs)) == ["epochs=10", "epochs=20"]


def test_arms_that_differ_in_their_grandparents_only_get_digits_of_a_job() -> None:
    ancestors, children = [], []
    for number, grandparent in enumerate(specs(epochs="1,3")):
        (parent,) = Sweep.parse({"dataset": "digits", "optimizer": "adam"}).jobs(grandparent)
        (child,) = Sweep.parse({"dataset": "digits", "optimizer": "adam"}).jobs(parent)
        first = job_record(grandparent, 10 * number, 300)
        second = job_record(parent, 10 * number + 1, 300, parent_id=first.id)
        ancestors += [first, second]
        children.append(job_record(child, 10 * number + 2, 300, parent_id=second.id))
    assert arm_labels(arms(children, ancestors)) == ["adam lr=0.001 [00000002]", "adam lr=0.001 [0000000c]"]


def test_arms_of_several_problems_with_equal_settings_have_one_label() -> None:
    """What distinguishes the problems only, as the number of epochs here, is in no label."""
    some = [specs(optimizer=["sgd", "adam:lr=0.1"], epochs=2), specs(optimizer=["adam:lr=0.1", "sgd"], epochs=5)]
    problems = [
        arms([job_record(spec, 10 * number + i, 400) for i, spec in enumerate(each)])
        for number, each in enumerate(some)
    ]
    names = labels_over_problems(problems)
    assert [[names[arm.first.id] for arm in found] for found in problems] == [
        ["sgd lr=0.001", "adam lr=0.1"], ["adam lr=0.1", "sgd lr=0.001"],
    ]  # fmt: skip


def test_labels_of_some_arms_are_those_among_all() -> None:
    found = records(specs(optimizer=["sgd", "adam"], lr="0.1,0.2"))
    assert labels_among(found[:2], found) == ["sgd lr=0.1", "sgd lr=0.2"]
    assert arm_labels(found[:2]) == ["lr=0.1", "lr=0.2"]


def test_label_without_a_field_does_not_tell_it_apart() -> None:
    assert arm_labels(records(specs(lr="0.1,0.2")), without=("lr",)) == ["sgd", "sgd"]
    assert arm_labels(records(specs(optimizer=["sgd", "adam"], lr="0.1,0.2")), without=("lr",)) == [
        "sgd", "sgd", "adam", "adam",
    ]  # fmt: skip


def test_settings_are_the_fields_that_no_name_contains() -> None:
    found = settings_labels(specs(optimizer=["sgd", "adam"], epochs="5,10", patience="none,3", validation=0.1))
    assert found == [f"epochs={epochs}, patience={patience}" for epochs in (5, 10) for patience in ("none", 3)] * 2


def test_fields_in_which_all_agree_are_listed_without_those_of_the_labels() -> None:
    some = specs(hidden="16", optimizer="sgd:momentum=0.9", lr="0.1,0.2", epochs=3, warmup=1, seeds="0..2")
    assert shared(some) == (
        "digits, hidden=16, sigmoid, bias=true, dropout=0, sgd, momentum=0.9, l1=0, epochs=3, batch size=32, "
        "validation=0, patience=none, warmup=1"
    )
    both = specs(optimizer=["sgd:momentum=0.9", "sgd:momentum=0.5"], lr=0.1)
    assert "sgd, lr=0.1, l1=0" in shared(both)
