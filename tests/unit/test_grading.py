"""Grades: same bits, same figures, consistent or refuted."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlpq.verification.grading import (
    Judgment,
    Run,
    correct_tolerance,
    environment_differences,
    judge,
    prediction_interval,
    refute_arms,
    standard_errors,
)
from mlpq.verification_records import Grade
from tests.support.job_steps import RESULT, epoch

FACTS = {"torch": "2.13.0", "cpu": "EPYC", "threads": 1, "device": "cpu", "world_size": 1, "determinism": None}
ELSEWHERE = {"torch": "2.14.0"}
OTHER_WEIGHTS: dict[str, Any] = {"weights_sha256": "cd" * 32}
COMPARED_FIGURES = (
    "test_correct", "test_total", "test_loss", "validation_correct", "validation_total", "validation_loss",
    "best_epoch", "epochs_run", "weights_sha256",
)  # fmt: skip
LARGE: dict[str, Any] = {"test_correct": 8705, "test_total": 10_000}


def run(environment: Mapping[str, Any] | None = None, **figures: Any) -> Run:
    return Run(replace(RESULT, **figures), [epoch(1), epoch(2)], {**FACTS, **(environment or {})})


def on_cuda(**figures: Any) -> Run:
    return run({"device": "cuda"}, device="cuda", **figures)


def grade(recorded: Run, now: Run, *others: float) -> Grade:
    return judge(recorded, now, lambda: others).grade


def fields(judgment: Judgment) -> list[str]:
    return [difference.field for difference in judgment.differences]


def changed(judgment: Judgment) -> list[str]:
    return [figure.name for figure in judgment.figures if not figure.is_same]


def test_equal_weights_figures_and_curves_are_same_bits_in_any_environment() -> None:
    assert grade(run(), run()) is Grade.SAME_BITS
    assert grade(run(), run(ELSEWHERE)) is Grade.SAME_BITS
    assert grade(run(), run(train_seconds=9.0, weights_file="/elsewhere", gang_size=7)) is Grade.SAME_BITS


@pytest.mark.parametrize("name", COMPARED_FIGURES)
def test_any_difference_on_the_cpu_in_an_equal_environment_refutes(name: str) -> None:
    old = getattr(RESULT, name)
    new = (
        "cd" * 32 if isinstance(old, str) else 1 if old is None else old + 1e-12 if isinstance(old, float) else old + 1
    )
    changes: dict[str, Any] = {name: new}
    judgment = judge(run(), run(**changes))
    assert judgment.grade is Grade.REFUTED
    assert changed(judgment) == [name]
    assert judgment.differences == []


def test_first_difference_of_the_curve_is_reported() -> None:
    altered = Run(RESULT, [epoch(1), replace(epoch(2), train_loss=0.1)], FACTS)
    judgment = judge(altered, run())
    assert judgment.grade is Grade.REFUTED
    (figure,) = [figure for figure in judgment.figures if not figure.is_same]
    assert (figure.name, figure.recorded, figure.now) == ("train_loss of epoch 2", 0.1, 0.5)


def test_seconds_of_an_epoch_are_not_compared() -> None:
    assert grade(run(), Run(RESULT, [epoch(1), replace(epoch(2), seconds=99.0)], FACTS)) is Grade.SAME_BITS


@pytest.mark.parametrize("correct", [8700, 8704, 8710])
def test_small_differences_in_another_environment_are_same_figures(correct: int) -> None:
    now = run(ELSEWHERE, **OTHER_WEIGHTS, test_correct=correct, test_total=10_000, test_loss=0.25 * 1.00099)
    judgment = judge(run(**LARGE), now)
    assert judgment.grade is Grade.SAME_FIGURES
    assert "±5" in judgment.reason
    assert fields(judgment) == ["torch"]


@pytest.mark.parametrize(
    "figures", [{"test_correct": 8711}, {"test_correct": 8699}, {"test_loss": 0.25 * 1.00101}, {"best_epoch": 1}]
)
def test_larger_differences_are_not_same_figures(figures: dict[str, Any]) -> None:
    assert grade(run(**LARGE), run(ELSEWHERE, **{**OTHER_WEIGHTS, **LARGE, **figures})) is Grade.CONSISTENT


def test_bits_are_not_guaranteed_on_cuda() -> None:
    alone = judge(on_cuda(gang_size=1), on_cuda(gang_size=1, **OTHER_WEIGHTS))
    assert (alone.grade, alone.reason) == (Grade.SAME_FIGURES, "counts within ±1, losses within 0.1 %")


def test_other_gang_is_named_where_it_changes_the_bits() -> None:
    rerun = judge(on_cuda(gang_size=48), on_cuda(gang_size=1, **OTHER_WEIGHTS))
    assert rerun.grade is Grade.SAME_FIGURES
    assert rerun.reason.endswith("; recorded in a gang of 48, now in one of 1, which round differently on a GPU")
    assert "gang" not in judge(run(gang_size=48), run(gang_size=1, **OTHER_WEIGHTS)).reason


def test_several_processes_guarantee_bits_only_of_jobs_outside_gangs() -> None:
    two: dict[str, Any] = {"environment": {"world_size": 2}, "world_size": 2}
    assert grade(run(**two, gang_size=8), run(**two, **OTHER_WEIGHTS)) is Grade.SAME_FIGURES
    assert grade(run(**two), run(**two, **OTHER_WEIGHTS)) is Grade.REFUTED
    assert grade(run(gang_size=8), run(**OTHER_WEIGHTS)) is Grade.REFUTED


def test_tolerance_is_one_image_in_two_thousand_and_at_least_one() -> None:
    assert [correct_tolerance(total) for total in (10, 500, 3999, 4000, 10_000)] == [1, 1, 1, 2, 5]


SEEDS = (0.860, 0.866, 0.872, 0.869)  # 86.68 %, with a 99 % interval from 83.3 to 90.0 %


def test_both_accuracies_must_be_within_the_prediction_interval_of_the_other_seeds() -> None:
    def of(recorded: int, now: int) -> Judgment:
        total: dict[str, Any] = {"test_total": 10_000}
        old, new = run(test_correct=recorded, **total), run(ELSEWHERE, test_correct=now, **OTHER_WEIGHTS, **total)
        return judge(old, new, lambda: SEEDS)

    assert of(8700, 8500).grade is Grade.CONSISTENT
    assert "99 % prediction interval of its 4 other seeds" in of(8700, 8500).reason
    assert of(9400, 8700).grade is Grade.REFUTED
    assert of(9400, 8700).reason.startswith("the recorded accuracy is outside 83.3")
    assert of(8700, 8000).reason.startswith("the new accuracy is outside")
    assert of(9400, 8000).reason.startswith("the recorded and new accuracies are outside")


def test_one_percent_is_split_over_the_checks_of_a_call() -> None:
    recorded, now = run(**LARGE), run(ELSEWHERE, **{**LARGE, **OTHER_WEIGHTS, "test_correct": 8100})
    alone, of_many = judge(recorded, now, lambda: SEEDS), judge(recorded, now, lambda: SEEDS, 100)
    assert (alone.grade, of_many.grade) == (Grade.REFUTED, Grade.CONSISTENT)
    assert "99.99 % prediction interval" in of_many.reason
    assert alone.gain == pytest.approx(0.0605)
    assert judge(recorded, recorded).gain is None


def test_three_other_seeds_are_enough_for_a_prediction_interval() -> None:
    recorded, now = run(**LARGE), run(ELSEWHERE, **{**LARGE, **OTHER_WEIGHTS, "test_correct": 8600})
    assert "99 % prediction interval of its 3 other seeds" in judge(recorded, now, lambda: SEEDS[:3]).reason
    assert "binomial standard errors" in judge(recorded, now, lambda: SEEDS[:2]).reason


def test_standard_errors_of_many_checks_are_those_of_their_share_of_one_percent() -> None:
    """Of 10,000 checks each has 1e-6, which a normal distribution exceeds beyond 4.89 standard errors."""
    recorded, now = run(**LARGE), run(ELSEWHERE, **{**LARGE, **OTHER_WEIGHTS, "test_correct": 8705 - 220})
    assert (judge(recorded, now).grade, judge(recorded, now, checks=10_000).grade) == (Grade.REFUTED, Grade.CONSISTENT)
    assert judge(recorded, now, checks=10_000).reason.endswith("; 4.89 are allowed")


def chance(*gains: float | None) -> list[Judgment]:
    return [Judgment(Grade.CONSISTENT, "", gain=gain) for gain in gains]


def grades(arms: list[list[Judgment]]) -> list[list[Grade]]:
    return [[judgment.grade for judgment in arm] for arm in refute_arms(arms)]


def test_an_arm_whose_records_all_exceed_their_reruns_is_refuted() -> None:
    good, bad = chance(*[0.001, -0.002] * 5), chance(*[0.001, 0.002] * 5, None)
    assert grades([good, bad]) == [[Grade.CONSISTENT] * 10, [Grade.REFUTED] * 10 + [Grade.CONSISTENT]]
    assert refute_arms([bad])[0][0].reason == (
        "over 10 seeds of its arm the recorded accuracies differ from the new ones by +0.15 points on average, which "
        "chance does not explain (sign-flip test, p = 0.002)"
    )
    assert grades([chance(*[0.001] * 7)]) == [[Grade.CONSISTENT] * 7]  # 2 / 2**7 is above 1 %
    assert grades([chance(*[0.001] * 8)] * 2) == [[Grade.CONSISTENT] * 8] * 2  # 2 / 2**8 is, for two arms
    assert refute_arms([chance(None)]) == [chance(None)]


def test_prediction_interval_is_that_of_students_t() -> None:
    """Of 4 values with mean 0.5 and s = 0.02, t(0.995; 3) = 5.84091 gives 0.5 ± 5.84091 · 0.02 · sqrt(1.25)."""
    off = 0.01 * math.sqrt(3)
    low, high = prediction_interval([0.5 - off, 0.5 - off, 0.5 + off, 0.5 + off])
    assert (low + high) / 2 == pytest.approx(0.5)
    assert (high - low) / 2 == pytest.approx(5.84091 * 0.02 * math.sqrt(1.25), rel=1e-5)


def test_prediction_interval_is_within_0_and_1() -> None:
    assert prediction_interval([0.2, 0.9, 0.5]) == (0.0, 1.0)


def test_other_figures_with_the_same_weights_are_refuted() -> None:
    old, new = run(**LARGE), run(ELSEWHERE, **{**LARGE, "test_correct": 8690})
    assert grade(old, new, *SEEDS) is Grade.REFUTED
    assert "same bits, but do not give the recorded figures" in judge(old, new).reason
    assert grade(old, run(ELSEWHERE, **{**LARGE, "test_correct": 8701})) is Grade.SAME_FIGURES


@pytest.mark.parametrize("others", [(), (0.86, 0.87), (0.87, 0.87, 0.87)])
def test_four_binomial_standard_errors_are_allowed_without_other_seeds(others: tuple[float, ...]) -> None:
    recorded = run(**LARGE)  # at 87 % of 10,000 the difference has a standard error of 0.475 points
    for correct, expected in ((8705 - 195, Grade.CONSISTENT), (8705 - 196, Grade.REFUTED)):
        judgment = judge(
            recorded, run(ELSEWHERE, **{**LARGE, **OTHER_WEIGHTS, "test_correct": correct}), lambda: others
        )
        assert judgment.grade is expected
        assert "binomial standard errors" in judgment.reason


@given(st.integers(0, 500), st.integers(0, 500))
def test_standard_errors_are_symmetric_and_zero_only_for_equal_counts(one: int, other: int) -> None:
    assert standard_errors(one, other, 500) == standard_errors(other, one, 500)
    assert (standard_errors(one, other, 500) == 0) == (one == other)


def test_other_size_of_the_test_set_is_refuted() -> None:
    assert grade(run(), run(ELSEWHERE, **LARGE), *SEEDS) is Grade.REFUTED


def test_environment_differences_have_name_and_both_values() -> None:
    cuda = {**FACTS, "device": "cuda", "determinism": {"cudnn": 91, "tf32": False}, "gpu": "H100"}
    del cuda["threads"]
    found = environment_differences(FACTS, cuda)
    assert [(each.field, each.recorded, each.now) for each in found] == [
        ("determinism.cudnn", None, 91),
        ("determinism.tf32", None, False),
        ("device", "cpu", "cuda"),
        ("gpu", None, "H100"),
        ("threads", 1, None),
    ]
    assert environment_differences(cuda, cuda) == []
