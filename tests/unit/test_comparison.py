"""Comparisons: pairs by seed, the choice of settings, notes on what is unequal or missing, and verdicts."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

import pytest
from rich.console import Console

from mlpq.analysis.arms import arms
from mlpq.analysis.best_of_k import best_of
from mlpq.analysis.comparison import Comparison
from mlpq.analysis.fairness import notes
from mlpq.analysis.planning import needs, seeds_for, seeds_missing
from mlpq.analysis.verdicts import overall, p_phrase, verdict
from mlpq.errors import SpecError
from mlpq.jobs import Engine, Outcome, Status
from mlpq.records import JobRecord
from mlpq.report.charts import by_learning_rate
from mlpq.report.comparison_tables import comparison_markup, print_comparison, to_document
from mlpq.report.markup import MARKDOWN
from mlpq.spec.sweep import Sweep
from tests.support.compared_arms import arm, compared, counts, diverged
from tests.support.result_rows import curve, job_record, with_figures


def verdicts(comparison: Comparison) -> str:
    return "\n".join(verdict(pair, comparison.metric, len(comparison.pairs)) for pair in comparison.pairs)


SGD = arm(0, counts(440, 441, 439, 442, 440, 438, 441, 440, 439, 442), optimizer="sgd:lr=0.1")
SCHEDULED = ("step:size=3", "step:size=3,gamma=0.5", "cosine")
ADAM = arm(50, counts(442, 444, 441, 443, 442, 440, 444, 442, 441, 443), optimizer="adam")


def test_arms_are_ranked_by_their_means_and_paired_by_seed() -> None:
    found = compared(SGD, ADAM)
    assert [side.label for side in found.sides] == ["adam lr=0.001", "sgd lr=0.1"]
    (pair,) = found.pairs
    assert (pair.a.label, pair.seeds) == ("adam lr=0.001", tuple(range(10)))
    assert pair.paired is not None
    assert pair.paired.difference == pytest.approx(0.4)
    assert verdicts(found) == (
        "adam lr=0.001 is better than sgd lr=0.1 by 0.40 ± 0.10 points of test accuracy on digits (n = 10 pairs, "
        "p = 0.002, valid only if n was fixed beforehand; anytime p = 0.005, interval 0.25 to 0.58)"
    )


def test_missing_seeds_are_noted_and_left_out_of_the_pairs() -> None:
    short = arm(50, {0: 442, 1: 444, 2: None, 11: 460}, optimizer="adam")
    found = compared(SGD[:5], short)
    assert found.pairs[0].seeds == (0, 1)
    assert notes(found) == [
        "adam lr=0.001: left out seed 2 (queued), seeds 3,4 (not submitted)",
        "sgd lr=0.1: left out seed 11 (not submitted)",
    ]


def test_the_better_arm_of_a_pair_is_the_better_one_on_the_common_seeds() -> None:
    found = compared(arm(0, {0: 400, 1: 400}, optimizer="sgd"), arm(9, {0: 399, 1: 398, 2: 500}, optimizer="adam"))
    assert found.sides[0].label == "adam"
    assert found.pairs[0].a.label == "sgd"


def test_without_a_common_seed_there_is_no_verdict() -> None:
    found = compared(arm(0, {0: 400}, optimizer="sgd"), arm(9, {1: 410}, optimizer="adam"))
    assert verdicts(found) == (
        "adam and sgd can't be compared in test accuracy on digits: no seed has a figure in both"
    )


def test_too_few_seeds_for_significance_are_reported_with_the_number_needed() -> None:
    found = compared(SGD[:4], ADAM[:4])
    figures = "0.40 ± 0.26 points of test accuracy on digits (n = 4 pairs, p = 0.12, "
    assert verdicts(found).startswith(f"undecided between adam lr=0.001 and sgd lr=0.1: {figures}")
    assert verdicts(found).endswith("4 pairs can't give a significant result: at least 6 are needed")


def test_an_observed_difference_is_no_advice_on_the_number_of_seeds() -> None:
    other = arm(50, counts(441, 440, 440, 441, 441, 437, 443, 439, 441, 442), optimizer="adam")
    found = verdicts(compared(SGD, other))
    assert found.startswith("no detectable difference between adam lr=0.001 and sgd lr=0.1: 0.06 ± 0.18 points")
    assert "more" not in found


@pytest.mark.parametrize(("arms_compared", "fewest"), [(2, 6), (4, 8), (8, 11)])
def test_the_number_of_pairs_needed_allows_for_the_correction(arms_compared: int, fewest: int) -> None:
    """6 for one comparison, 8 for 6, 11 for 28: so many pairs are the first with a p-value up to 5 % after Holm's."""
    few = [arm(100 * i, counts(*[100 * (i % 4) + i] * 5), optimizer=f"sgd:lr=0.{i + 1}") for i in range(arms_compared)]
    found = verdicts(compared(*few))
    assert found.endswith(f": at least {fewest} are needed")
    assert ("after Holm's correction" in found) == (arms_compared > 2)
    enough = [arm(100 * i, counts(*[20 * i + 1] * fewest), optimizer=f"sgd:lr=0.{i + 1}") for i in range(arms_compared)]
    assert all(pair.p_adjusted <= 0.05 for pair in compared(*enough).pairs)


def test_equal_figures_are_no_difference() -> None:
    same = arm(50, {job.spec.seed: job.result.test_correct for job in SGD if job.result}, optimizer="adam")
    found = verdicts(compared(SGD, same))
    assert "p = 1.00, " in found
    assert found.endswith("; the means are equal")


def test_the_overall_verdict_compares_every_arm_with_the_best() -> None:
    near = arm(70, counts(443, 442, 443, 441, 442, 442, 443, 442, 441, 442), optimizer="adamw")
    far = arm(90, counts(*[430] * 10), optimizer="adagrad")
    assert overall(compared(ADAM, near, far)) == (
        "adam lr=0.001 has the best mean test accuracy on digits; no detectable difference from adamw lr=0.001; "
        "adagrad lr=0.01 is worse"
    )
    assert overall(compared(ADAM, near)) is None


def test_p_values_are_corrected_for_the_number_of_comparisons() -> None:
    third = arm(90, counts(*[430] * 10), optimizer="adagrad")
    every = compared(SGD, ADAM, third)
    assert [pair.p_adjusted for pair in every.pairs] == pytest.approx([3 * 2 / 1024] * 3)
    against = compared(SGD, ADAM, third, against="adag")
    assert [(pair.a.label[:4], pair.b.label[:4]) for pair in against.pairs] == [("adam", "adag"), ("sgd ", "adag")]
    assert [pair.p_adjusted for pair in against.pairs] == pytest.approx([2 * 2 / 1024] * 2)
    with pytest.raises(SpecError, match="several arms begin with 'ada': type one of adam"):
        compared(SGD, ADAM, third, against="ada")
    with pytest.raises(SpecError, match="no arm is called 'lion'"):
        compared(SGD, ADAM, third, against="lion")


@pytest.mark.parametrize(
    ("keys", "note"),
    [
        ({"epochs": 20}, "unequal epochs: 20 in adam lr=0.001, epochs=20; 10 in sgd lr=0.1, epochs=10"),
        ({"batch_size": 64}, "unequal batch size: 64 in adam lr=0.001, batch size=64; 32 in sgd lr=0.1, batch size=32"),
        ({"hidden": "64,32"}, "unequal hidden: 64,32 in MLP 64,32, adam lr=0.001; 32 in MLP 32, sgd lr=0.1"),
        ({"dropout": 0.2}, "unequal dropout: 0.2 in dropout=0.2, adam lr=0.001; 0 in dropout=0, sgd"),
        (
            {"schedule": "step:size=3"},
            "unequal schedule: step:size=3 in adam lr=0.001 schedule=step:size=3; constant in sgd lr=0.1 schedule=",
        ),
        ({"warmup": 0.1}, "unequal warmup: 0.1 in adam lr=0.001 warmup=0.1; 0 in sgd lr=0.1 warmup=0"),
        ({"clip_norm": 2}, "unequal clip norm: 2 in adam lr=0.001 clip_norm=2; none in sgd lr=0.1 clip_norm=none"),
        (
            {"label_smoothing": 0.1},
            "unequal label smoothing: 0.1 in label smoothing=0.1, adam lr=0.001; 0 in label smoothing=0, sgd lr=0.1",
        ),
    ],
)  # fmt: skip
def test_unequal_settings_are_noted(keys: dict[str, Any], note: str) -> None:
    found = notes(compared(SGD, arm(50, counts(450, 451), optimizer="adam", **keys)))
    assert any(line.startswith(note) for line in found), found
    shapes = "the models differ in shape or initialization: pairs share the seed, but not the initial weights"
    assert (shapes in found) == ("hidden" in keys)


def test_fields_that_are_compared_may_differ() -> None:
    big = arm(50, counts(450, 451), optimizer="sgd:lr=0.1", batch_size=64)
    found = compared(SGD[:2], big, by="batch_size")
    assert [side.label for side in found.sides] == ["batch size=64", "batch size=32"]
    assert notes(found) == []


def test_unequal_initial_weights_and_devices_are_noted() -> None:
    (parent,) = arm(0, {0: 400}, optimizer="sgd")
    (child,) = arm(1, {0: 430}, optimizer="adam")
    child = with_figures(replace(child, parent_id=parent.id), device="cuda", world_size=2)
    found = notes(compared([parent], [child]))
    label = "adam, continued from sgd lr=0.001"
    weights = f"final weights of sgd lr=0.001 in {label}; drawn from the seed in sgd"
    assert f"unequal initial weights: {weights}" in found
    assert f"unequal device: cuda with 2 processes in {label}; cpu in sgd" in found


def test_epochs_and_seconds_to_a_target_use_the_validation_split_where_there_is_one() -> None:
    fast, slow = arm(0, {0: 1, 1: 1}, optimizer="adam"), arm(9, {0: 1, 1: 1}, optimizer="sgd")
    curves = {
        fast[0].id: curve([0, 0, 0], validation=[10, 86, 90]), fast[1].id: curve([85, 90]),
        slow[0].id: curve([10, 20, 85]), slow[1].id: curve([10, 20, 84]),
    }  # fmt: skip
    found = compared(fast, slow, metric="epochs", target="85", curves=curves)
    assert [dict(side.values) for side in found.sides] == [{0: 2, 1: 1}, {0: 3, 1: math.inf}]
    assert notes(found) == ["sgd: 1 of 2 seeds never reached 85 % (1), counted as slower than any that reached it"]
    assert verdicts(found).startswith(
        "undecided between adam and sgd: ∞ epochs to 85 % accuracy (median) on digits (n = 2 pairs, "
        "sign test, p = 0.50, "
    )
    seconds = compared(fast, slow, metric="seconds", target="85", curves=curves)
    assert [dict(side.values) for side in seconds.sides] == [{0: 1.0, 1: 0.5}, {0: 1.5, 1: math.inf}]


def test_a_lower_loss_is_better() -> None:
    low = [with_figures(job, test_loss=0.3 + seed / 1000) for seed, job in enumerate(SGD)]
    high = [with_figures(job, test_loss=0.4 + seed / 900) for seed, job in enumerate(ADAM)]
    found = compared(low, high, metric="loss")
    assert verdicts(found).startswith("sgd lr=0.1 is better than adam lr=0.001 by 0.1005 ± 0.0002 nats")
    document = to_document(found, [])
    assert document["pairs"][0]["superiority"] == 1.0


def test_options_of_optimizers_are_fields_too() -> None:
    heavy = arm(50, counts(450, 451), optimizer="sgd:lr=0.1,momentum=0.9")
    found = compared(SGD[:2], heavy, ADAM[:2], by="optimizer,momentum")
    assert [side.label for side in found.sides] == ["sgd momentum=0.9", "adam", "sgd"]
    betas = arm(70, counts(450, 451), optimizer="adam:betas=0.8/0.999")
    labels = [side.label for side in compared(ADAM[:2], betas, by="optimizer,betas").sides]
    assert labels == ["adam betas=0.8/0.999", "adam"]


def test_schedules_and_their_options_are_fields_too() -> None:
    sides = [arm(10 * i, counts(400 + i, 410), validated=80, schedule=each) for i, each in enumerate(SCHEDULED)]
    found = [[side.label for side in compared(*sides, by=by).sides] for by in ("schedule", "schedule,gamma")]
    assert sorted(found[0]) == ["schedule=cosine", "schedule=step"]
    assert sorted(found[1]) == ["schedule=cosine", "schedule=step gamma=0.1", "schedule=step gamma=0.5"]


def test_best_of_k_chooses_by_validation_and_reports_the_test_set() -> None:
    records = [
        *arm(0, counts(400, 410), validated=90, optimizer="sgd:lr=0.1"),
        *arm(10, counts(450, 450), validated=80, optimizer="sgd:lr=0.5"),
        *arm(20, counts(430, 430), validated=85, optimizer="adam"),
    ]
    (sgd,) = best_of(records)
    assert (sgd.optimizer, sgd.seeds) == ("sgd", (0, 1))
    assert [summary.mean for summary in sgd.expected] == pytest.approx([85.5, 81.0])
    assert best_of([*SGD, *ADAM]) == []


def test_a_plan_has_the_number_of_seeds_needed_and_the_seeds() -> None:
    found = compared(SGD, ADAM)
    (need,) = needs(found, 0.1, 0.8)
    assert need.needed == 16
    assert need.range == (9, 49)  # standard deviations of 0.092 and 0.243, by the chi-square interval for 10 pairs
    assert seeds_for(found, 12) == list(range(12))
    assert seeds_for(found, 3) == [0, 1, 2]
    assert [(job.spec.optimizer, seeds) for job, seeds in seeds_missing(found, [8, 9, 10])] == [
        ("adam", [10]),
        ("sgd", [10]),
    ]
    lost = [replace(SGD[0], status=Status.FAILED, outcome=Outcome.LOST, result=None), *SGD[1:]]
    assert seeds_for(compared(lost, ADAM), 10) == list(range(1, 11))
    with pytest.raises(SpecError, match="no two arms have two seeds in common"):
        needs(compared(SGD[:1], ADAM[:1]), 0.1, 0.8)


def test_tables_fit_80_columns_and_all_formats_agree() -> None:
    comparison = compared(SGD, ADAM, arm(90, counts(*range(425, 435)), optimizer="rmsprop:lr=0.01,momentum=0.5"))
    out = Console(width=80, force_terminal=False)
    with out.capture() as capture:
        print_comparison(out, comparison, [])
    shown, markdown = capture.get(), comparison_markup(comparison, [], MARKDOWN)
    assert all(len(line) <= 80 for line in shown.splitlines())
    for figure in ("88.44 ± 0.26", "88.25 to 88.63", "+0.40"):
        assert figure in shown
        assert figure in markdown
    assert "not shown for lack of columns: time, best, worst" in shown
    assert "88.80 (1)" in markdown
    assert "88.00 (5)" in markdown
    document = json.loads(json.dumps(to_document(comparison, [])))
    assert [arm["n"] for arm in document["arms"]] == [10, 10, 10]
    assert [pair["verdict"] for pair in document["pairs"]] == verdicts(comparison).splitlines()


def test_only_the_pairs_with_the_best_arm_are_shown_of_too_many() -> None:
    many = [arm(100 * i, counts(*[400 + i] * 6), optimizer=f"sgd:lr=0.{i}") for i in range(1, 8)]
    markdown = comparison_markup(compared(*many), [], MARKDOWN)
    assert markdown.count("- undecided between lr=0.7 and") == 6
    assert "- 15 pairs without lr=0.7 not shown: --format json has all" in markdown


def test_all_pairs_with_a_reference_are_shown_however_many() -> None:
    many = [arm(100 * i, counts(*[400 + i] * 6), optimizer=f"sgd:lr=0.{i:02}") for i in range(1, 19)]
    markdown = comparison_markup(compared(*many, against="lr=0.05"), [], MARKDOWN)
    assert markdown.count("- undecided between") == 17
    assert "not shown" not in markdown


def test_arms_that_differ_in_their_parents_are_named_for_them() -> None:
    def chain(first: int, epochs: int) -> list[JobRecord]:
        (parent,) = arm(first, {0: 300}, optimizer="sgd", epochs=epochs)
        (child,) = Sweep.parse({"dataset": "digits", "optimizer": "adam", "seeds": 0}).jobs(parent.spec)
        return [parent, job_record(child, first + 1, 400 + epochs, parent_id=parent.id)]

    labels = [side.label for side in compared(chain(1, 1), chain(10, 3)).sides]
    assert len(set(labels)) == len(labels) == 4
    assert {label for label in labels if "continued from" in label} == {
        f"adam, epochs=10, continued from epochs={epochs}" for epochs in (1, 3)
    }


def test_untested_pairs_do_not_count_in_the_correction() -> None:
    unborn = arm(90, dict.fromkeys(range(6)), optimizer="adagrad")
    found = compared(SGD[:6], ADAM[:6], unborn)
    assert found.tests == 1
    assert verdicts(found).startswith(
        "adam lr=0.001 is better than sgd lr=0.1 by 0.40 ± 0.13 points of test accuracy on digits (n = 6 pairs, "
        "p (Holm) = 0.031, "
    )
    assert "adagrad lr=0.01 has no seed in common with it" in str(overall(found))


def test_an_arm_that_is_better_on_the_common_seeds_is_reported_as_better() -> None:
    lucky = arm(0, {**dict.fromkeys(range(8), 440), **dict.fromkeys(range(8, 12), 499)}, optimizer="adam")
    third = arm(60, dict.fromkeys(range(12), 300), optimizer="adagrad")
    found = compared(lucky, arm(30, dict.fromkeys(range(8), 445), optimizer="sgd"), third)
    assert overall(found) == (
        "adam lr=0.001 has the best mean test accuracy on digits; adagrad lr=0.01 is worse; sgd lr=0.001 is better on "
        "the common seeds"
    )


def test_unequal_weight_decay_is_noted() -> None:
    found = notes(
        compared(arm(0, counts(400), optimizer="sgd:weight_decay=0.01"), arm(5, counts(400), optimizer="adam"))
    )
    assert "unequal weight decay: 0 in adam; 0.01 in sgd weight_decay=0.01" in found


def test_shared_time_of_a_gang_is_noted_for_seconds() -> None:
    records = [with_figures(job, gang_size=8, engine=Engine.GANG) for job in (*SGD[:2], *ADAM[:2])]
    curves = {job.id: curve([90, 91]) for job in records}
    by_seconds = compared(records, metric="seconds", target="85", curves=curves)
    assert any("the time of a gang is split equally" in note for note in notes(by_seconds))
    assert not notes(compared(records, metric="epochs", target="85", curves=curves))
    kernel = [with_figures(job, gang_size=8, engine=Engine.KERNEL, arithmetic=1) for job in records]
    assert not notes(compared(kernel, metric="seconds", target="85", curves=curves))


def test_a_diverged_run_counts_as_chance_in_the_best_of_k() -> None:
    good = arm(0, counts(400, 400), validated=90, optimizer="sgd:lr=0.1")
    wild = diverged(arm(10, counts(450, 450), validated=80, optimizer="sgd:lr=1e30"))
    (sgd,) = best_of([*good, *wild])
    assert [summary.mean for summary in sgd.expected] == pytest.approx([(80 + 10) / 2, 80])
    (none,) = best_of([*good[:1], *arm(30, {5: 400}, validated=70, optimizer="sgd:lr=0.5")])
    assert (none.settings, none.expected) == (2, ())


def test_the_chart_of_learning_rates_distinguishes_models() -> None:
    records = [
        job
        for number, (width, lr) in enumerate(((16, 0.1), (16, 0.5), (64, 0.1), (64, 0.5)))
        for job in arm(10 * number, counts(400, 401), hidden=width, optimizer=f"sgd:lr={lr}")
    ]
    chart = by_learning_rate(arms(records))
    assert chart is not None
    drawn = json.dumps(chart.to_dict())
    assert "MLP 16" in drawn
    assert "sgd" not in drawn
    assert "n = 2 at each rate" in drawn


def test_p_values_below_one_in_a_thousand_are_not_spelled_out() -> None:
    assert [p_phrase(p) for p in (0.0004, 0.004, 0.21, 1.0)] == ["p < 0.001", "p = 0.004", "p = 0.21", "p = 1.00"]
