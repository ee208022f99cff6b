"""Notes above a comparison: each thing that is not equal, how settings were chosen, and what is left out."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from mlpq.analysis.comparison import Comparison
from mlpq.analysis.fairness import SETTINGS, notes
from mlpq.analysis.verdicts import overall
from mlpq.jobs import Engine, Status
from mlpq.records import JobRecord, UnreadableJob
from mlpq.spec.job import JobSpec
from tests.support.compared_arms import arm, compared, counts, diverged
from tests.support.result_rows import curve, failed_job, with_figures

CHOSEN_BY = "the settings were chosen by the validation figures that this metric uses, which favors them"
# For each setting two values, and what the note about them begins with.
UNEQUAL: dict[str, tuple[Any, Any, str]] = {
    "dataset": ("digits", "mnist", "unequal dataset: mnist in mnist; digits in digits"),
    "hidden": ("32", "none", "unequal hidden: none in logistic; 32 in MLP 32"),
    "bias": ("true", "false", "unequal bias: false in bias=false; true in bias=true"),
    "initialisation": (
        "torch", "truncated-normal",
        "unequal initialisation: truncated-normal in initialisation=truncated-normal; torch in initialisation=torch",
    ),
    "activation": ("relu", "tanh", "unequal activation: tanh in tanh; relu in relu"),
    "dropout": ("0", "0.5", "unequal dropout: 0.5 in dropout=0.5; 0 in dropout=0"),
    "l1": ("0", "1e-5", "unequal l1: 1e-05 in l1=1e-05; 0 in l1=0"),
    "weight_decay": ("0", "0.1", "unequal weight decay: 0.1 in weight_decay=0.1; 0 in weight_decay=0"),
    "epochs": ("2", "3", "unequal epochs: 3 in epochs=3; 2 in epochs=2"),
    "batch_size": ("8", "16", "unequal batch size: 16 in batch size=16; 8 in batch size=8"),
    "validation": ("0.1", "0.2", "unequal validation: 0.2 in validation=0.2; 0.1 in validation=0.1"),
    "patience": ("2", "none", "unequal patience: none in patience=none; 2 in patience=2"),
    "schedule": ("step:size=2", "step:size=3", "unequal schedule: step:size=3 in schedule=step:size=3; step:size=2 in"),
    "warmup": ("0", "1", "unequal warmup: 1 in warmup=1; 0 in warmup=0"),
    "clip_norm": ("1", "none", "unequal clip norm: none in clip_norm=none; 1 in clip_norm=1"),
    "label_smoothing": ("0", "0.1", "unequal label smoothing: 0.1 in label smoothing=0.1; 0 in label smoothing=0"),
}  # fmt: skip
# Fields that are compared, pair the jobs, or are part of another one.
NOT_SETTINGS = {
    "optimizer", "lr", "optimizer_settings", "formula", "plugin", "declaration", "seed", "parent", "content",
    "schedule_settings",
}  # fmt: skip


def line(comparison: Comparison, beginning: str) -> str:
    """The only note that begins so; empty where there is none."""
    (found,) = [note for note in notes(comparison) if note.startswith(beginning)] or [""]
    return found


@pytest.mark.parametrize("name", UNEQUAL)
def test_every_setting_that_is_unequal_is_noted(name: str) -> None:
    one, other, note = UNEQUAL[name]
    base: dict[str, Any] = {} if name == "validation" else {"validation": "0.1"}
    low, high = (arm(50 * i, counts(400 + i), **base, **{name: value}) for i, value in enumerate((one, other)))
    found = notes(compared(low, high))
    assert found[0].startswith(note)
    assert [each for each in found if each.startswith("unequal ")] == found[:1]
    assert notes(compared(low, low)) == []


def test_weight_decay_of_a_formula_is_its_own_affair() -> None:
    """It decays weights, or not, under any name; rprop can't."""
    decayed = arm(0, counts(400), optimizer="sgd:weight_decay=0.1", validation="0.1", patience=2)
    formula = arm(9, counts(401), optimizer="mine", formula="mine: p = p - lr*g", lr=0.1, validation="0.1")
    assert [note for note in notes(compared(decayed, formula)) if note.startswith("unequal")] == [
        "unequal patience: none in mine lr=0.1, patience=none; 2 in sgd lr=0.001 weight_decay=0.1, patience=2"
    ]
    rprop = arm(9, counts(401), optimizer="rprop", validation="0.1")
    assert line(compared(decayed, rprop), "unequal weight decay").startswith("unequal weight decay: none in rprop")


def test_every_field_of_a_spec_is_a_setting_or_compared() -> None:
    assert {*UNEQUAL} == {*SETTINGS} == {*JobSpec.model_fields, "weight_decay"} - NOT_SETTINGS


@pytest.mark.parametrize(
    ("arms", "labels"),
    [(4, "lr=4, lr=3, lr=2, lr=1"), (5, "lr=5, lr=4, lr=3 and 2 more"), (6, "lr=6, lr=5, lr=4 and 3 more")],
)
def test_long_lists_of_arms_are_shortened_to_three(arms: int, labels: str) -> None:
    many = [arm(10 * i, counts(400 + i), optimizer=f"sgd:lr={i}") for i in range(1, arms + 1)]
    far = with_figures(arm(900, counts(300), optimizer="sgd:lr=9")[0], device="cuda")
    assert line(compared(*many, [far]), "unequal device") == f"unequal device: cpu in {labels}; cuda in lr=9"


def test_arms_without_results_have_no_device() -> None:
    assert notes(compared(arm(0, counts(400), optimizer="sgd"), arm(9, {0: None}, optimizer="adam"))) == [
        "adam: left out seed 0 (queued)"
    ]


def test_devices_of_one_arm_are_named_once_each() -> None:
    both = arm(0, counts(440, 441, 442), optimizer="sgd")
    both[1] = with_figures(both[1], device="cuda")
    found = line(compared(both, arm(9, counts(400, 400, 400), optimizer="adam")), "unequal device")
    assert found == "unequal device: cpu and cuda in sgd; cpu in adam"


def test_different_arithmetics_are_counted() -> None:
    jobs = arm(0, counts(440, 441, 442), optimizer="sgd")
    kernel = [with_figures(job, engine=Engine.KERNEL, arithmetic=1) for job in jobs[:1]]
    assert line(compared([*kernel, *jobs[1:]]), "different arithmetics") == (
        "different arithmetics: 1 result of arithmetic 1, 2 results of torch; equal specs differ between them by "
        "rounding"
    )
    assert line(compared(jobs), "different arithmetics") == ""


@pytest.mark.parametrize("key", [{"bias": "false"}, {"initialisation": "truncated-normal"}, {"hidden": "16"}])
def test_models_of_other_shapes_share_no_initial_weights(key: dict[str, Any]) -> None:
    sides = arm(0, counts(400)), arm(9, counts(401), **key)
    assert line(compared(*sides), "the models differ") == (
        "the models differ in shape or initialization: pairs share the seed, but not the initial weights"
    )
    assert line(compared(sides[0], arm(9, counts(401), activation="tanh")), "the models differ") == ""


@pytest.mark.parametrize(
    ("engine", "gang_size", "metric", "is_noted"),
    [
        (Engine.GANG, 2, "seconds", True),
        (Engine.GANG, 1, "seconds", False),
        (Engine.KERNEL, 8, "seconds", False),
        (Engine.GANG, 2, "epochs", False),
    ],
)
def test_time_is_shared_by_the_jobs_of_a_stack(engine: Engine, gang_size: int, metric: str, is_noted: bool) -> None:
    jobs = arm(0, counts(440, 441), optimizer="sgd")
    own = [jobs[0], with_figures(jobs[1], engine=engine, gang_size=gang_size)]
    found = compared(own, metric=metric, target="85", curves={job.id: curve([90]) for job in own})
    assert bool(line(found, "the time of a gang is split equally between its jobs")) is is_noted


# Choices


def tuned(seeds: int, first: int = 0, lrs: tuple[float, ...] = (0.1, 0.3)) -> list[JobRecord]:
    """Settings of sgd; the first one has the best validation accuracy."""
    return [
        job
        for i, lr in enumerate(lrs)
        for job in arm(first + 100 * i, counts(*[430] * seeds), validated=90 - i, optimizer=f"sgd:lr={lr}")
    ]


def adam(seeds: int) -> list[JobRecord]:
    return arm(900, counts(*[425] * seeds), validated=80, optimizer="adam")


@pytest.mark.parametrize(
    ("metric", "is_noted"),
    [("validation", True), ("epochs", True), ("seconds", True), ("accuracy", False), ("loss", False)],
)
def test_settings_that_were_chosen_by_the_figures_compared_are_noted(metric: str, is_noted: bool) -> None:
    """Where too few seeds do both; otherwise the seeds that chose are left out of the comparison."""
    params = {"metric": metric, "target": "85" if metric in ("epochs", "seconds") else "", "by": "optimizer"}
    for seeds, is_shared in ((3, True), (12, False)):
        records = [*tuned(seeds), *adam(seeds)]
        curves = {job.id: curve([90], validation=[90]) for job in records}
        found = compared(records, curves=curves, **params)
        assert found.is_shared == is_shared
        assert (CHOSEN_BY in notes(found)) == (is_noted and is_shared)


@pytest.mark.parametrize(
    ("seeds", "note"), [(10, "the choice leaves 5 pairs"), (11, ""), (4, "the choice leaves 1 pair,")]
)
def test_choice_that_leaves_too_few_pairs_says_how_many_seeds_are_enough(seeds: int, note: str) -> None:
    found = line(compared(tuned(seeds), adam(seeds), by="optimizer"), "the choice leaves")
    assert found.startswith(note)
    assert bool(found) == bool(note)
    if note:
        assert found.endswith(
            "and significance needs 6: submit 11 seeds in every arm, or choose on fewer with --choose-seeds"
        )


def test_seeds_that_are_enough_allow_for_the_number_of_tests() -> None:
    third = arm(700, counts(*[425] * 12), validated=80, optimizer="adamw")
    found = line(compared(tuned(12), adam(12), third, by="optimizer"), "the choice leaves")
    assert found.startswith("the choice leaves 6 pairs, and significance needs 7: submit 13 seeds in every arm")
    shared = line(compared(tuned(3), adam(3), third[:3], by="optimizer"), "3 seeds can't both")
    assert shared.endswith("; 13 seeds in every arm would be enough")


def test_choice_is_no_problem_where_one_pair_has_enough_seeds_left() -> None:
    few = arm(700, counts(*[425] * 7), validated=80, optimizer="adamw")
    found = notes(compared(tuned(12), adam(12), few, by="optimizer"))
    assert "the seeds that chose, 0..2, are left out of the comparison" in found
    assert not any(note.startswith("the choice leaves") for note in found)


def test_choice_among_arms_of_one_optimizer_needs_no_pairs() -> None:
    found = notes(compared(tuned(4), by="optimizer"))
    assert not any(note.startswith("the choice leaves") for note in found)
    assert "the seeds that chose, 0..2, are left out of the comparison" in found


def test_choice_of_a_single_sound_setting_has_no_runner_up() -> None:
    good, bad = tuned(12)[:12], [failed_job(job.spec, 500 + i) for i, job in enumerate(tuned(12)[12:])]
    found = line(compared(good, bad, adam(12), by="optimizer"), "sgd is represented by")
    assert found == (
        "sgd is represented by lr=0.1, chosen from 1 of 2 settings (the others have failed seeds or no result) by mean "
        "validation accuracy on seeds 0..5"
    )


@pytest.mark.parametrize(
    ("lrs", "edge"),
    [
        ((0.1, 0.3), "lr=0.1 is the smallest of 2 tried"),
        ((0.3, 0.1), "lr=0.3 is the largest of 2 tried"),
        ((0.2, 0.1, 0.3), ""),
    ],
)
def test_edges_of_the_grid_are_the_smallest_and_the_largest(lrs: tuple[float, ...], edge: str) -> None:
    found = line(compared(tuned(8, lrs=lrs), adam(8), by="optimizer"), "sgd was chosen at the edge")
    assert found == (f"sgd was chosen at the edge of its grid: {edge}; widen the grid" if edge else "")


def test_zero_flags_and_equal_values_are_no_edge_of_a_grid() -> None:
    options = "sgd:lr=0.1,momentum=0", "sgd:lr=0.1,momentum=0.9", "sgd:lr=0.1,momentum=0.9,nesterov=true"
    grids = [(0, [0, 1]), (2, [2, 1])]
    for best, order in grids:
        settings = [
            arm(100 * i, counts(*[430] * 8), validated=90 if i == best else 80, optimizer=options[i]) for i in order
        ]
        found = line(compared(*settings, adam(8), by="optimizer"), "sgd was chosen at the edge")
        assert found == "", best


def test_tuning_budgets_are_numbers_of_settings() -> None:
    assert line(compared(tuned(8, lrs=(0.1, 0.2, 0.3)), adam(8), by="optimizer"), "unequal tuning budgets") == (
        "unequal tuning budgets: sgd with 3 settings, adam with 1 setting; more settings tried is an advantage"
    )


# What is left out


def test_runs_that_diverged_and_missed_seeds_are_noted_for_each_arm() -> None:
    sgd = arm(0, counts(400, 401, 402, 403), optimizer="sgd")
    wild = [*diverged(sgd[:2]), *sgd[2:]]
    other = arm(9, {0: 400, 5: 400}, optimizer="adam")
    found = notes(compared(wild, other))
    assert "sgd: 2 of 4 seeds diverged (0,1), counted with the test accuracy of guessing, 10.00" in found
    assert "sgd: left out seed 5 (not submitted)" in found
    assert "adam: left out seeds 1..3 (not submitted)" in found


def test_diverged_runs_count_as_slow_where_the_metric_is_the_time_to_a_target() -> None:
    jobs = arm(0, counts(400, 401), optimizer="sgd")
    found = compared([diverged(jobs[:1])[0], jobs[1]], metric="epochs", target="85", curves={jobs[1].id: curve([90])})
    assert notes(found) == ["sgd lr=0.001: 1 of 2 seeds diverged (0), counted as slower than any that reached it"]


def test_reasons_why_seeds_are_missing_are_told_apart() -> None:
    jobs = arm(0, dict.fromkeys(range(4)), optimizer="sgd")
    mixed = [failed_job(jobs[0].spec, 0), jobs[1], failed_job(jobs[2].spec, 2), *arm(9, {3: 400}, optimizer="sgd")]
    assert notes(compared(mixed)) == ["sgd lr=0.001: left out seeds 0,2 (failed), seed 1 (queued)"]


def test_skewed_differences_and_unequal_spreads_are_noted() -> None:
    steady = arm(0, counts(*[440] * 11, 441), optimizer="sgd")
    collapses = arm(50, counts(*[445] * 11, 100), optimizer="adam")
    found = notes(compared(steady, collapses))
    assert any(
        note.startswith("skewed differences: ") and "(skewness " in note and note.endswith("are false more often here")
        for note in found
    )
    (spread,) = [note for note in found if note.startswith("very unequal standard deviations: ")]
    assert ": 1)" in spread
    flat = line(compared(arm(0, counts(*[440] * 4), optimizer="sgd"), collapses[8:]), "very unequal")
    assert flat == ""  # seeds 8 to 11 are none of 0 to 3


@pytest.mark.parametrize(("most", "is_noted"), [(2, False), (3, True)])
def test_spreads_are_very_unequal_above_a_ratio_of_two(most: int, is_noted: bool) -> None:
    narrow = arm(0, counts(440, 441), optimizer="sgd")
    wide = arm(50, counts(430, 430 + most), optimizer="adam")
    found = line(compared(narrow, wide), "very unequal standard deviations")
    ratio = "very unequal standard deviations: sgd − adam (3.0 : 1); the means do not show that one is less stable"
    assert found == (ratio if is_noted else "")


def test_spread_beside_none_has_an_infinite_ratio() -> None:
    found = compared(arm(0, counts(440, 440), optimizer="sgd"), arm(50, counts(430, 431), optimizer="adam"))
    assert "sgd − adam (∞ : 1)" in line(found, "very unequal standard deviations")


def test_unreadable_jobs_and_questions_are_noted() -> None:
    found = compared(arm(0, counts(440)))
    odd = replace(
        found,
        unreadable=tuple(UnreadableJob(f"{i:08x}-1", "lab", Status.QUEUED, "odd", None) for i in range(2)),
        odd_questions=("its row is odd",),
    )
    assert notes(odd) == [
        "2 jobs left out, unreadable: 00000000 (odd), 00000001 (odd)",
        "a registered question is left out: its row is odd",
    ]


def test_overall_verdict_counts_arms_without_common_seeds() -> None:
    sgd = arm(0, counts(*[440] * 8), optimizer="sgd")
    others = [arm(100 * i, {20 + i: 400}, optimizer=name) for i, name in enumerate(("adam", "adamw"), 1)]
    assert str(overall(compared(sgd, *others))).endswith("; adam and adamw have no seed in common with it")
