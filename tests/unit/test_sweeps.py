"""Sweeps: the product of all values, keys that advance together, and several sweeps under one experiment."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlpq.errors import SpecError
from mlpq.jobs import job_id
from mlpq.spec.document import jobs_of, sweeps_of, with_options
from mlpq.spec.job import JobSpec
from mlpq.spec.optimizers import OPTIMIZERS, complete
from mlpq.spec.sweep import FACTORS, Sweep
from mlpq.submit import plan
from tests.support.installations import ROOT

# Documents with the number of their jobs and a hash of the jobs' hashes and ids, written by the last version in which
# only some keys had several values.
OLD = json.loads((ROOT / "tests" / "fixtures" / "sweeps" / "before-0.2.json").read_text())
# Two valid values of each factor that has no rule of its own; all combinations of them are valid.
PLAIN: dict[str, tuple[object, object]] = {
    "dataset": ("digits", "mnist"), "hidden": ((8,), (16, 4)), "activation": ("relu", "tanh"), "bias": (True, False),
    "initialisation": ("torch", "truncated-normal"), "l1": (0.0, 1e-5), "dropout": (0.0, 0.25), "epochs": (3, 7),
    "batch_size": (16, 64), "validation": (0.1, 0.25), "patience": (None, 5), "warmup": (0.0, 0.5),
    "clip_norm": (None, 2.0), "label_smoothing": (0.0, 0.125),
}  # fmt: skip
BASE = {"dataset": "digits", "hidden": (8,), "activation": "relu", "validation": 0.1}
OPTIMIZERS_SWEPT = st.sampled_from(
    [{"name": "sgd"}, {"name": "sgd", "lr": 0.5}, {"name": "adam", "lr": (0.03, 0.01)}, {"name": "adamw"},
     {"name": "adam", "weight_decay": 0.25}]
)  # fmt: skip


def listed(values: Sequence[object]) -> list[object]:
    return [list(value) if isinstance(value, tuple) else value for value in values]


@st.composite
def grids(draw: st.DrawFn) -> dict[str, tuple[Any, ...]]:
    """Some keys with one or both of their values, and optimizers, rates and seeds."""
    names = draw(st.lists(st.sampled_from(sorted(PLAIN)), unique=True, max_size=5))
    found: dict[str, tuple[Any, ...]] = {name: draw(st.sampled_from([PLAIN[name], PLAIN[name][:1]])) for name in names}
    found["optimizer"] = tuple(
        draw(st.lists(OPTIMIZERS_SWEPT, min_size=1, max_size=3, unique_by=lambda each: json.dumps(each)))
    )
    for name, values in (("lr", (0.1, 0.02, 0.003)), ("weight_decay", (0.0, 0.125))):
        if not all(name in each for each in found["optimizer"]) and draw(st.booleans()):
            found[name] = values
    found["seeds"] = draw(st.sampled_from([(42,), (0, 1), (5, 3, 4)]))
    return found


def expected(grid: dict[str, tuple[Any, ...]]) -> list[dict[str, Any]]:
    """The fields of the jobs of a grid, by one loop over all combinations."""
    order = [name for name in FACTORS if name in grid and name not in ("optimizer", "lr", "weight_decay", "seeds")]
    before = [name for name in order if FACTORS.index(name) < FACTORS.index("optimizer")]
    after = [name for name in order if name not in before]
    found = []
    for first in itertools.product(*(grid[name] for name in before)):
        for entry in grid["optimizer"]:
            own = entry.get("lr", grid.get("lr", (OPTIMIZERS[entry["name"]].lr,)))
            decays = (entry["weight_decay"],) if "weight_decay" in entry else grid.get("weight_decay", (None,))
            for lr, decay in itertools.product(own if isinstance(own, tuple) else (own,), decays):
                settings = complete(entry["name"], {} if decay is None else {"weight_decay": decay})
                for rest in itertools.product(*(grid[name] for name in after), grid["seeds"]):
                    fields = {**BASE, **dict(zip(before, first, strict=True)), **dict(zip(after, rest, strict=False))}
                    fields |= {"optimizer": entry["name"], "lr": lr, "optimizer_settings": settings, "seed": rest[-1]}
                    if fields not in found:
                        found.append(fields)
    return found


def document_of(grid: dict[str, tuple[Any, ...]]) -> dict[str, object]:
    document: dict[str, object] = {**{name: listed([value])[0] for name, value in BASE.items()}, "hidden": [[8]]}
    document |= {name: listed(values) for name, values in grid.items()}
    return json.loads(json.dumps(document))  # type: ignore[no-any-return]


@given(grids())
def test_sweep_is_the_product_of_all_values_in_a_stable_order(grid: dict[str, tuple[Any, ...]]) -> None:
    specs = Sweep.parse(document_of(grid)).jobs()
    fields = expected(grid)
    assert [{name: getattr(spec, name) for name in own} for spec, own in zip(specs, fields, strict=True)] == fields
    assert len({spec.hash for spec in specs}) == len(specs)
    shuffled = dict(reversed(document_of(grid).items()))
    assert [spec.hash for spec in Sweep.parse(shuffled).jobs()] == [spec.hash for spec in specs]


@pytest.mark.parametrize("old", OLD, ids=lambda old: str(old["jobs"]))
def test_sweep_of_an_older_version_has_the_same_jobs_in_the_same_order(old: dict[str, Any]) -> None:
    specs = Sweep.parse(old["sweep"]).jobs()
    assert len(specs) == old["jobs"]
    lines = "\n".join(f"{spec.hash} {job_id('lab', spec.hash, 1)}" for spec in specs)
    assert hashlib.sha256(lines.encode()).hexdigest() == old["sha256"]


@pytest.mark.parametrize("name", sorted({*FACTORS} - {"optimizer", "lr", "weight_decay", "schedule", "seeds"}))
def test_every_key_that_describes_the_training_takes_several_values(name: str) -> None:
    specs = Sweep.parse(document_of({name: PLAIN[name]})).jobs()
    assert [getattr(spec, name) for spec in specs] == list(PLAIN[name])


def test_every_field_of_a_spec_is_swept_by_a_key() -> None:
    fields = {name for name in JobSpec.model_fields if not name.endswith("_settings")}
    own = {"formula", "plugin", "declaration"}  # of optimizers that are not torch's
    assert {*FACTORS} - {"weight_decay", "seeds"} == fields - {"seed", "parent", "content", *own}


def test_schedules_are_swept_with_their_settings() -> None:
    found = Sweep.parse({"schedule": ["cosine", "step:size=5,gamma=0.5", "constant"], "seeds": "0..1"}).jobs()
    assert [(spec.schedule, spec.schedule_settings) for spec in found[::2]] == [
        ("cosine", {"eta_min": 0.0}), ("step", {"size": 5.0, "gamma": 0.5}), ("constant", {}),
    ]  # fmt: skip


FORMULA = "mine: m = b*m + g; p = p - lr*m"


def test_options_of_an_optimizer_are_swept() -> None:
    entries = [
        {"name": "sgd", "momentum": [0.5, 0.9]},
        {"name": "mine", "b": [0, 0.5]},
        {"name": "adam", "betas": [0, 0.9]},
    ]
    found = Sweep.parse({"optimizer": entries, "lr": "0.1,0.2", "formula": FORMULA}).jobs()
    assert [(spec.lr, spec.optimizer_settings.get("momentum", spec.optimizer_settings.get("b"))) for spec in found] == [
        *((lr, momentum) for momentum in (0.5, 0.9) for lr in (0.1, 0.2)),
        *((lr, constant) for constant in (0, 0.5) for lr in (0.1, 0.2)),
        (0.1, None), (0.2, None),
    ]  # fmt: skip
    assert [spec.formula is not None for spec in found] == [False] * 4 + [True] * 4 + [False] * 2


def test_formula_beside_a_list_of_sweeps_is_for_those_that_use_it() -> None:
    sweeps = [{"optimizer": "mine:lr=0.1,b=0"}, {"optimizer": "adam"}]
    found = plan({"formula": FORMULA, "sweeps": sweeps}).specs
    assert [(spec.optimizer, spec.formula is None) for spec in found] == [("mine", False), ("adam", True)]
    with pytest.raises(SpecError, match="the formula mine is not used"):
        plan({"formula": FORMULA, "sweeps": sweeps[1:]})
    with pytest.raises(SpecError, match="sweep 1: formula holds for all jobs of a submission"):
        plan({"sweeps": [{"formula": FORMULA, "optimizer": "mine:lr=0.1,b=0"}]})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "sgd", "momentum": {"a": "1"}}, "sgd:momentum must be a number, not '{'a': '1'}'"),
        ({"name": "sgd", "momentum": []}, "sgd:momentum must be a number, not '[]'"),
        ({"name": "adam", "betas": [["0.5", "0.9"]]}, "adam:betas takes 2 numbers, as betas=0.9/0.999"),
    ],
    ids=str,
)
def test_option_of_an_optimizer_that_is_no_number_is_rejected(options: dict[str, object], message: str) -> None:
    with pytest.raises(SpecError) as error:
        Sweep.parse({"optimizer": options})
    assert str(error.value) == message


# --- keys that advance together


def pairs(specs: Sequence[JobSpec], *names: str) -> list[tuple[Any, ...]]:
    return [tuple(getattr(spec, name) for name in names) for spec in specs]


@given(st.data())
def test_zip_keeps_the_combinations_of_the_product_that_are_side_by_side(data: st.DataObject) -> None:
    group = data.draw(st.lists(st.sampled_from(sorted(PLAIN)), unique=True, min_size=2, max_size=4))
    picks = data.draw(st.lists(st.integers(0, 1), min_size=1, max_size=4))
    grid: dict[str, tuple[Any, ...]] = {name: tuple(PLAIN[name][pick] for pick in picks) for name in group}
    other = data.draw(st.sampled_from(sorted({*PLAIN} - {*group})))
    document = document_of({**grid, other: PLAIN[other], "seeds": (1, 2)})
    specs = Sweep.parse({**document, "zip": group}).jobs()
    rows = list(dict.fromkeys(zip(*(grid[name] for name in group), strict=True)))
    assert {*pairs(specs, *group, other, "seed")} == {
        (*row, value, seed) for row in rows for value in PLAIN[other] for seed in (1, 2)
    }
    assert len(specs) == len({spec.hash for spec in specs}) == len(rows) * 4
    assert {spec.hash for spec in specs} <= {spec.hash for spec in Sweep.parse(document).jobs()}


@pytest.mark.parametrize(
    ("keys", "names", "found"),
    [
        (
            {"lr": "0.1,0.2", "batch_size": "32,64", "zip": "lr,batch-size"}, ("lr", "batch_size"),
            [(0.1, 32), (0.2, 64)],
        ),
        (
            {"optimizer": ["sgd", "adam"], "lr": "0.1,0.001", "zip": ["optimizer", "lr"]}, ("optimizer", "lr"),
            [("sgd", 0.1), ("adam", 0.001)],
        ),
        (
            {"optimizer": [{"name": "sgd", "lr": ["0.1", "0.2"]}], "epochs": "9,5", "zip": [["epochs", "optimizer"]]},
            ("lr", "epochs"), [(0.1, 9), (0.2, 5)],
        ),
        (
            {"optimizer": ["sgd", "adam:lr=0.5"], "lr": "0.1,0.2", "epochs": "5,9", "zip": "lr,epochs"},
            ("lr", "epochs"), [(0.1, 5), (0.2, 9), (0.5, 5), (0.5, 9)],
        ),
        (
            {
                "lr": "1,1", "epochs": "5,9", "l1": "0,1", "dropout": "0,0.5",
                "zip": [["lr", "epochs"], ["l1", "dropout"]],
            },
            ("lr", "l1", "dropout", "epochs"), [(1, 0, 0, 5), (1, 1, 0.5, 5), (1, 0, 0, 9), (1, 1, 0.5, 9)],
        ),
    ],
    ids=["rates", "optimizers", "own rates", "an own rate", "groups"],
)  # fmt: skip
def test_values_of_a_zip_advance_together(keys: dict[str, object], names: tuple[str, ...], found: list[Any]) -> None:
    assert sorted(pairs(Sweep.parse({"dataset": "digits", **keys}).jobs(), *names)) == sorted(found)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"zip": "lr"}, "zip takes two or more keys whose values advance together, as lr,batch_size"),
        ({"zip": []}, "zip takes two or more keys"),
        ({"zip": {"lr": [1], "epochs": [2]}}, "zip takes two or more keys"),
        ({"zip": "lr,lr"}, "zip names 'lr' twice"),
        ({"zip": [["lr", "l1"], ["l1", "epochs"]]}, "zip names 'l1' twice"),
        ({"zip": "lr,epoch"}, "zip names the unknown key 'epoch' (did you mean 'epochs'?)"),
        ({"zip": "lr,device"}, "zip takes keys with several values, and device has one"),
        ({"zip": "lr,seeds"}, "zip does not take seeds: each combination has all of them"),
        ({"zip": "lr,epochs", "epochs": "1,2"}, "zip needs values of lr: give --lr"),
        (
            {"zip": "lr,optimizer", "lr": "1,2", "optimizer": ["adam", "sgd:lr=3"]},
            "sgd specifies its own lr, and zip pairs it with another: leave one of them out",
        ),
        (
            {"zip": "lr,batch_size", "lr": "1,2,3", "batch_size": "8,16"},
            "keys that zip names need equally many values: lr has 3, batch_size has 2",
        ),
    ],
    ids=str,
)
def test_zip_that_does_not_fit_is_a_one_line_error(keys: dict[str, object], message: str) -> None:
    with pytest.raises(SpecError) as error:
        Sweep.parse(keys).jobs()
    assert str(error.value).startswith(message)


# --- several sweeps

SHARED = {"experiment": "both", "dataset": "digits", "seeds": "0..1"}
SWEEPS: list[dict[str, object]] = [
    {"optimizer": "sgd", "lr": "0.1,0.2"},
    {"optimizer": "adam", "hidden": [["8"], ["16"]], "epochs": "5,9", "zip": ["hidden", "epochs"]},
]


def test_sweeps_of_a_list_share_the_keys_beside_it() -> None:
    submission = plan({**SHARED, "priority": 3, "sweeps": SWEEPS})
    alone = [plan({**SHARED, **sweep}).specs for sweep in SWEEPS]
    assert [spec.hash for spec in submission.specs] == [spec.hash for specs in alone for spec in specs]
    assert (submission.experiment, submission.placement.priority) == ("both", 3)


@given(st.lists(grids(), min_size=1, max_size=3))
def test_job_that_several_sweeps_have_is_submitted_once(found: list[dict[str, tuple[Any, ...]]]) -> None:
    sweeps = [document_of(grid) for grid in found]
    hashes = [spec.hash for spec in jobs_of(sweeps_of({"sweeps": [*sweeps, sweeps[0]]}))]
    assert hashes == list(dict.fromkeys(spec.hash for sweep in sweeps for spec in Sweep.parse(sweep).jobs()))


def test_key_of_a_sweep_precedes_the_one_beside_the_list() -> None:
    found = plan({"dataset": "digits", "epochs": 3, "sweeps": [{"epochs": "7"}, {"lr": "0.5"}]}).specs
    assert pairs(found, "epochs", "lr") == [(7, 0.001), (3, 0.5)]


def test_option_precedes_the_keys_of_every_sweep() -> None:
    document = with_options({**SHARED, "epochs": "3", "sweeps": SWEEPS}, {"epochs": ["1", "2"], "lr": "0.5"})
    assert {*pairs(plan(document).specs, "epochs", "lr")} == {(1, 0.5), (2, 0.5)}


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"sweeps": []}, "sweeps takes a list of sweeps"),
        ({"sweeps": {"lr": "1"}}, "sweeps takes a list of sweeps"),
        ({"sweeps": ["lr"]}, "sweep 1 has no keys: write each as '- optimizer: sgd'"),
        ({"sweeps": [{}, {"epoch": 3}]}, "sweep 2: unknown key 'epoch' (did you mean 'epochs'?)"),
        ({"sweeps": [{}, {"lr": "0"}]}, "sweep 2: lr must be a number above 0, not '0'"),
        ({"sweeps": [{"sweeps": []}]}, "sweep 1: unknown key 'sweeps'"),
        (
            {"sweeps": [{"experiment": "x"}]},
            "sweep 1: experiment holds for all jobs of a submission: move it beside 'sweeps'",
        ),
        ({"sweeps": [{"device": "cpu"}]}, "sweep 1: device holds for all jobs of a submission"),
        (
            {"lr": "1", "sweeps": [{"lr": "2"}, {"lr": "3"}]},
            "every sweep gives lr itself: leave it out beside 'sweeps'",
        ),
    ],
    ids=lambda value: str(value)[:50],
)
def test_invalid_list_of_sweeps_is_a_one_line_error(keys: dict[str, object], message: str) -> None:
    with pytest.raises(SpecError) as error:
        plan(keys)
    assert str(error.value).startswith(message)


def test_preset_takes_no_list_of_sweeps() -> None:
    with pytest.raises(
        SpecError, match="the preset textbook takes no list of sweeps: leave 'sweeps' out, or the preset"
    ):
        plan({"sweeps": [{}]}, "textbook")


def test_textbook_with_several_numbers_of_epochs_continues_each_job_as_long() -> None:
    specs = {spec.hash: spec for spec in plan({"dataset": "digits", "epochs": "2,3"}, "textbook").specs}
    assert len(specs) == 6
    assert all(spec.parent is None or specs[spec.parent].epochs == spec.epochs for spec in specs.values())


# --- limits

THOUSAND = [str(number / 10_000) for number in range(1, 1001)]
HUGE: tuple[dict[str, object], ...] = (
    {"lr": THOUSAND, "l1": THOUSAND, "dropout": THOUSAND},
    {"validation": THOUSAND, "epochs": list(range(1, 1001)), "batch_size": list(range(1, 1001)), "dropout": THOUSAND},
    {"sweeps": [{"l1": THOUSAND, "dropout": THOUSAND, "lr": THOUSAND}, {}]},
    {"optimizer": [{"name": "sgd", "lr": THOUSAND}] * 1000, "l1": THOUSAND},
    {"lr": THOUSAND, "l1": THOUSAND, "zip": "lr,l1", "dropout": THOUSAND, "epochs": list(range(1, 1001))},
)


@pytest.mark.parametrize("keys", HUGE, ids=range(len(HUGE)))
def test_product_beyond_the_limit_is_refused_before_it_is_expanded(keys: dict[str, object]) -> None:
    """A billion specs would take days."""
    with pytest.raises(SpecError, match="jobs in one submission; the limit is 100000: split it"):
        plan(keys)


def test_size_of_a_sweep_counts_a_rate_only_for_the_optimizers_that_take_it() -> None:
    keys = {"optimizer": ["sgd:lr=1", "adam:lr=2", "adamw"], "lr": "1,2,3", "seeds": "0..9"}
    assert Sweep.parse(keys).size == len(Sweep.parse(keys).jobs()) == (1 + 1 + 3) * 10
