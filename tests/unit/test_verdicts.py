"""Verdicts: what is decided at 5 %, how much evidence there is, and sentences about several arms."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from mlpq.analysis.comparison import Anytime, Pair
from mlpq.analysis.inference import fewest_pairs, is_skewed, paired
from mlpq.analysis.metrics import metric
from mlpq.analysis.verdicts import is_decided, overall, p_phrase, p_text, verdict
from tests.support.compared_arms import arm, compared, counts, diverged
from tests.support.result_rows import curve, job_record

ACCURACY = metric("accuracy")
SGD = arm(0, counts(*[440] * 8), optimizer="sgd")
ADAM = arm(50, counts(*[445] * 8), optimizer="adam")
(DECIDED,) = compared(SGD, ADAM).pairs


def at(p: float, anytime: float | None = 0.2) -> Pair:
    """The pair with other p-values."""
    found = None if anytime is None else Anytime(8, anytime, anytime, None)
    return replace(DECIDED, p_adjusted=p, anytime=found)


@pytest.mark.parametrize(("p", "is_better"), [(0.01, True), (0.05, True), (0.0501, False), (1.0, False)])
def test_pairs_are_decided_at_5_percent(p: float, is_better: bool) -> None:
    assert is_decided(at(p), is_running=False) is is_better
    assert is_decided(at(0.9, p), is_running=True) is is_better
    assert is_decided(at(p, 0.9), is_running=True) is False
    assert is_decided(at(p, None), is_running=True) is False


@pytest.mark.parametrize(
    ("p", "text"),
    [
        (0.00099, "< 0.001"), (0.001, "0.001"), (0.0149, "0.015"), (0.0994, "0.099"), (0.0995, "0.10"), (0.5, "0.50"),
        (1.0, "1.00"),
    ],
)  # fmt: skip
def test_p_values_have_three_decimals_below_a_tenth(p: float, text: str) -> None:
    assert p_text(p) == text
    assert p_phrase(p, "q") == (f"q {text}" if text.startswith("<") else f"q = {text}")


@pytest.mark.parametrize(
    ("pairs", "tests", "words"),
    [(5, 1, "undecided"), (6, 1, "no detectable"), (6, 3, "undecided"), (7, 3, "no detectable")],
)
def test_verdict_without_significance_depends_on_whether_the_pairs_could_show_any(
    pairs: int, tests: int, words: str
) -> None:
    (pair,) = compared(SGD[:pairs], arm(50, counts(*[441, 439] * 4), optimizer="adam")[:pairs]).pairs
    assert verdict(pair, ACCURACY, tests).startswith(words)
    assert (f"at least {fewest_pairs(0.05 / tests)} are needed" in verdict(pair, ACCURACY, tests)) == (
        words == "undecided"
    )


def test_evidence_while_jobs_run_is_that_of_the_anytime_test() -> None:
    decided = verdict(at(0.9, 0.04), ACCURACY, is_running=True)
    assert decided == (
        "so far, adam is better than sgd by 1.00 ± 0.00 points of test accuracy on digits "
        "(n = 8 pairs, anytime p = 0.040)"
    )
    pending = verdict(at(0.01, None), ACCURACY, is_running=True)
    assert pending.startswith("not decided yet between adam and sgd: ")
    assert pending.endswith("(the choice of settings is not final)")
    assert verdict(at(0.01, None), ACCURACY).endswith("(n = 8 pairs, p = 0.010, valid only if n was fixed beforehand)")
    assert ", p (Holm) = 0.010, " in verdict(at(0.01), ACCURACY, tests=2)
    assert ", p = 0.010, " in verdict(at(0.01), ACCURACY, tests=1)


def test_equal_means_are_said_and_other_differences_are_not_called_equal() -> None:
    (equal,) = compared(SGD, arm(50, counts(*[440] * 8), optimizer="adam")).pairs
    assert verdict(equal, ACCURACY).endswith("; the means are equal")
    (other,) = compared(SGD, arm(50, counts(*[441, 439] * 3, 441, 440), optimizer="adam")).pairs
    assert "equal" not in verdict(other, ACCURACY)


def test_medians_are_not_called_means() -> None:
    sides = SGD[:6], ADAM[:6]
    curves = {
        job.id: curve([90 if (i == 0) == (seed < 3) else 10])
        for i, jobs in enumerate(sides)
        for seed, job in enumerate(jobs)
    }
    (pair,) = compared(*sides, metric="epochs", target="85", curves=curves).pairs
    found = verdict(pair, metric("epochs", 85))
    assert found.startswith("no detectable difference between ")
    assert "0.0 epochs to 85 % accuracy (median)" in found
    assert "the means are equal" not in found


def test_diverged_runs_are_counted_among_the_seeds_of_the_pair() -> None:
    wild = [*diverged(ADAM[:1]), *ADAM[1:], *diverged(arm(70, {8: 400, 9: 400}, optimizer="adam"))]
    (pair,) = compared(SGD, wild).pairs
    assert verdict(pair, ACCURACY).endswith("; 1 of 8 seeds of adam diverged")


def test_overall_verdict_groups_the_other_arms() -> None:
    """Of ten tests each needs nine pairs."""
    best, worse = (arm(20 * i, counts(*[445 - i] * 9), optimizer=name) for i, name in enumerate(("adam", "sgd")))
    far = arm(100, counts(*[300] * 9), optimizer="adagrad")
    few = arm(150, counts(*[446, 444] * 4), optimizer="rmsprop")
    tied = arm(200, counts(*[446, 444] * 4, 445), optimizer="adamw")
    assert overall(compared(best, worse, far, few, tied)) == (
        "adam lr=0.001 has the best mean test accuracy on digits; no detectable difference from adamw lr=0.001; too "
        "few pairs to show a difference from rmsprop lr=0.01; sgd lr=0.001 and adagrad lr=0.01 are worse"
    )


def test_overall_verdict_while_jobs_run_decides_by_the_anytime_test() -> None:
    slow = [*ADAM[:7], job_record(ADAM[7].spec, 57)]
    far = arm(100, counts(*[300] * 8), optimizer="adagrad")
    assert overall(compared(slow, SGD, far)) == (
        "so far, adam lr=0.001 has the best mean test accuracy on digits; not decided yet against sgd lr=0.001 and "
        "adagrad lr=0.01"
    )


def test_overall_verdict_is_on_the_median_where_a_target_was_never_reached() -> None:
    jobs = [*SGD[:2], *ADAM[:2], *arm(100, counts(400, 400), optimizer="adagrad")]
    reached = {"adam": [90], "sgd": [10, 90], "adagrad": [10]}
    curves = {job.id: curve(reached[job.spec.optimizer]) for job in jobs}
    found = compared(jobs, metric="epochs", target="85", curves=curves)
    assert str(overall(found)).startswith("adam lr=0.001 has the best median epochs to 85 % accuracy on digits; ")
    assert [side.median for side in found.sides] == [1, 2, math.inf]


# Statistics


def test_skewed_differences_need_four_pairs_and_twice_the_standard_error() -> None:
    """Of n normal differences the skewness has a standard error of 1.01 with 4, 0.91 with 5 and 0.43 with 28."""

    def skewed(n: int, skewness: float) -> bool:
        return is_skewed(replace(paired([0.1] * n, [0.0] * n), skewness=skewness))

    assert not skewed(3, 9.0)
    assert [skewed(4, value) for value in (2.02, 2.03, -2.02, -2.03)] == [False, True, False, True]
    assert [skewed(5, value) for value in (1.82, 1.83)] == [False, True]
    assert [skewed(28, value) for value in (1.0, 1.01, -1.0, -1.01)] == [False, True, False, True]
    assert not is_skewed(paired([0.1] * 5, [0.0] * 5))


@pytest.mark.parametrize(("alpha", "fewest"), [(0.05, 6), (2 / 2**6, 6), (0.03, 7), (0.5, 2), (1.0, 2)])
def test_fewest_pairs_are_the_first_whose_flips_reach_the_level(alpha: float, fewest: int) -> None:
    assert fewest_pairs(alpha) == fewest
    assert paired([0.1] * fewest, [0.0] * fewest).p_value <= alpha
