"""Several problems: ranks, performance profiles, and a verdict that says how little few problems prove."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from mlpq.analysis.problems import Problem, ProblemsComparison, compare_problems, split_problems
from mlpq.errors import SpecError
from mlpq.report.markup import MARKDOWN
from mlpq.report.problem_tables import print_problems, problems_document, problems_markup, profiles
from mlpq.report.tables import to_json
from tests.support.compared_arms import arm, compared, counts
from tests.support.result_rows import curve

NAMES = ("adam", "adamw", "rmsprop")


def problem(number: int, correct: Sequence[int]) -> Problem:
    """One in which each of NAMES has that count of 500 correct test images, on two seeds."""
    arms = [
        arm(100 * number + 10 * i, counts(own, own), optimizer=name)
        for i, (name, own) in enumerate(zip(NAMES, correct, strict=False))
    ]
    return Problem(f"problem {number}", compared(*arms, by="optimizer"))


def ranked(*problems: Sequence[int], against: str = "") -> ProblemsComparison:
    return compare_problems([problem(number, correct) for number, correct in enumerate(problems)], against)


def test_arms_are_ranked_in_each_problem_and_ties_share_a_rank() -> None:
    found = ranked((450, 440, 430), (440, 440, 430), (400, 440, 450))
    assert {each.label: each.ranks for each in found.arms} == {
        "adamw": (2, 1.5, 2), "adam": (1, 1.5, 3), "rmsprop": (3, 3, 1),
    }  # fmt: skip
    assert [each.label for each in found.arms] == ["adam", "adamw", "rmsprop"]
    assert [each.mean_rank for each in found.arms] == pytest.approx([5.5 / 3, 5.5 / 3, 7 / 3])


def test_few_problems_say_that_they_prove_little() -> None:
    found = ranked(*[(450, 440, 430)] * 3)
    assert found.verdict == (
        "over 3 problems adam has the best mean rank in test accuracy, 1.00 of 3; no detectable difference from adamw "
        "and rmsprop; 3 problems can't give a significant result after Holm's correction for 3 tests, at least 7 are "
        "needed: this ranking says little about other problems"
    )


def test_enough_problems_that_agree_give_a_verdict() -> None:
    found = ranked(*[(450, 440, 430)] * 7)
    assert [pair.p_adjusted for pair in found.pairs] == pytest.approx([3 * 2 / 2**7] * 3)
    assert found.verdict == (
        "over 7 problems adam has the best mean rank in test accuracy, 1.00 of 3; adamw and rmsprop are worse"
    )
    against = ranked(*[(450, 440, 430)] * 7, against="rmsprop")
    assert [(pair.a.label, pair.b.label) for pair in against.pairs] == [("adam", "rmsprop"), ("adamw", "rmsprop")]
    with pytest.raises(SpecError, match="no arm is called 'lion': type one of adam; adamw"):
        ranked((450, 440), (450, 440), against="lion")


def test_profiles_are_shares_of_problems_within_a_ratio_of_the_error_rate() -> None:
    """500 images: 10 and 20 wrong make a ratio of 2, 10 and 60 one of 6, which is beyond the largest."""
    adam, adamw = ranked((490, 480), (490, 440), (480, 490)).arms
    assert adam.label == "adam"
    assert adam.ratios == pytest.approx((1, 1, 2))
    assert adamw.ratios == pytest.approx((2, 6, 1))
    assert [adamw.profile(ratio) for ratio in (1, 2.001, 4.0)] == pytest.approx([1 / 3, 2 / 3, 2 / 3])
    assert adam.score == pytest.approx((3 + 3 + 2) / 9)
    assert adamw.score == pytest.approx((2 + 0 + 3) / 9)


def test_an_arm_that_never_reaches_the_target_has_the_last_rank_and_no_share_in_the_profile() -> None:
    jobs = [*arm(0, counts(400, 400), optimizer="adam"), *arm(10, counts(400, 400), optimizer="sgd")]
    curves = {job.id: curve([90 if job.spec.optimizer == "adam" else 10] * 3) for job in jobs}
    slow = compared(jobs, metric="epochs", target="85", curves=curves, by="optimizer")
    found = compare_problems([Problem("one", slow), Problem("two", slow)])
    assert [(each.label, each.ranks) for each in found.arms] == [("adam", (1, 1)), ("sgd", (2, 2))]
    assert [each.profile(4.0) for each in found.arms] == [1, 0]
    document = json.loads(to_json(problems_document(found)))
    assert document["arms"][1]["ratios"] == [None, None]


def test_arms_without_figures_in_every_problem_are_left_out_and_named() -> None:
    found = compare_problems([problem(0, (450, 440, 430)), problem(1, (450, 440))])
    assert ([each.label for each in found.arms], found.left_out) == (["adam", "adamw"], ("rmsprop",))
    with pytest.raises(SpecError, match="one problem has no verdict over several"):
        ranked((450, 440))
    with pytest.raises(SpecError, match="fewer than two arms have figures in every problem"):
        compare_problems([problem(0, (450,)), problem(1, (450, 440))])


def test_an_experiment_is_split_by_data_set_and_model_unless_they_are_compared() -> None:
    records = [
        *arm(0, counts(400), optimizer="adam", hidden="32"), *arm(5, counts(400), optimizer="adam", hidden="64"),
        *arm(10, counts(400), optimizer="adam", hidden="64", dataset="mnist"),
    ]  # fmt: skip
    assert [name for name, _ in split_problems("lab", records, ("optimizer",))] == [
        "lab: digits, MLP 32 sigmoid", "lab: digits, MLP 64 sigmoid", "lab: mnist, MLP 64 sigmoid",
    ]  # fmt: skip
    assert [name for name, _ in split_problems("lab", records, ("hidden",))] == ["lab: digits", "lab: mnist"]
    assert [name for name, _ in split_problems("lab", records[:1], ("optimizer",))] == ["lab"]


def test_all_formats_have_every_problem_and_the_verdict_over_them() -> None:
    found = ranked((450, 440, 430), (440, 430, 420))
    out = Console(width=80, force_terminal=False)
    with out.capture() as capture:
        print_problems(out, found)
    shown, markdown = capture.get(), problems_markup(found, MARKDOWN)
    assert all(len(line) <= 80 for line in shown.splitlines())
    for text in (" ".join(shown.split()), markdown):
        assert all(part in text for part in ("problem 0", "problem 1", "88.00", found.verdict))
    document = problems_document(found)
    assert [each["problem"] for each in document["problems"]] == ["problem 0", "problem 1"]
    assert document["verdict"] == found.verdict
    assert "2 problems, by test accuracy" in json.dumps(profiles(found).to_dict())


@settings(max_examples=30)  # each compares several times
@given(st.lists(st.lists(st.integers(100, 499), min_size=3, max_size=3), min_size=2, max_size=5))
def test_the_order_of_problems_changes_no_rank_and_ranks_add_up(figures: list[list[int]]) -> None:
    found, turned = ranked(*figures), ranked(*figures[::-1])
    assert {each.label: each.mean_rank for each in found.arms} == pytest.approx(
        {each.label: each.mean_rank for each in turned.arms}
    )
    assert [sum(each.ranks[i] for each in found.arms) for i in range(len(figures))] == [6] * len(figures)
    assert found.verdict == turned.verdict


def test_no_ratio_to_a_perfect_arm_or_among_arms_that_never_reach_the_target_is_finite() -> None:
    adam, adamw = ranked((500, 490), (490, 490)).arms
    assert (adam.ratios, adamw.ratios) == ((1, 1), (math.inf, 1))
    assert ranked((499, 498), (499, 498)).arms[1].ratios == pytest.approx((2, 2))
    jobs = [*arm(0, counts(400, 400), optimizer="adam"), *arm(10, counts(400, 400), optimizer="sgd")]
    never = compared(jobs, metric="epochs", target="85", curves={job.id: curve([10]) for job in jobs}, by="optimizer")
    found = compare_problems([Problem("one", never), Problem("two", never)])
    assert [each.ratios for each in found.arms] == [(math.inf, math.inf)] * 2
