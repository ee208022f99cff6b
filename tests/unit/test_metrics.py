"""Metrics: the figure of each job, and what differences of it are called."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from mlpq.analysis.metrics import METRICS, NAMES, metric, percent_on_test, percent_on_validation
from mlpq.errors import SpecError
from tests.support.result_rows import curve, job_result, specs

(SPEC,) = specs()
RESULT = job_result(SPEC, 440, test_loss=0.25)
CURVE = curve([10, 85, 90], [80, 90, 85])


def test_figures_of_a_job() -> None:
    assert {name: each.value(RESULT, CURVE) for name, each in METRICS.items()} == {
        "accuracy": 88.0, "validation": 90.0, "loss": 0.25,
    }  # fmt: skip
    assert METRICS["validation"].value(RESULT, curve([90])) is None
    assert METRICS["validation"].value(RESULT, []) is None


@pytest.mark.parametrize(
    ("target", "epochs", "seconds"), [(80, 1, 0.5), (81, 2, 1.0), (90, 2, 1.0), (90.1, math.inf, math.inf)]
)
def test_target_is_reached_by_the_first_validation_accuracy_that_is_not_below_it(
    target: float, epochs: float, seconds: float
) -> None:
    assert metric("epochs", target).value(RESULT, CURVE) == epochs
    assert metric("seconds", target).value(RESULT, CURVE) == seconds


@pytest.mark.parametrize(("target", "epochs"), [(10, 1), (85, 2), (86, 3), (100, math.inf)])
def test_target_is_reached_on_the_test_set_without_a_validation_split(target: float, epochs: float) -> None:
    assert metric("epochs", target).value(RESULT, curve([10, 85, 90])) == epochs
    assert metric("epochs", target).value(RESULT, []) is None


@pytest.mark.parametrize("target", [0, -1, 100.5, math.nan])
def test_target_is_a_percentage(target: float) -> None:
    with pytest.raises(SpecError, match=r"--target must be an accuracy in percent, above 0 and at most 100, not"):
        metric("epochs", target)
    assert metric("epochs", 100).goal == "100 %"
    assert metric("epochs", 0.5).goal == "0.5 %"


def test_metrics_have_a_direction_a_figure_for_diverged_runs_and_words() -> None:
    found = {name: metric(name, 85 if name in ("epochs", "seconds") else None) for name in NAMES}
    told = {
        name: (each.higher_is_better, each.comparative, each.amount("1"), each.needs_curves)
        for name, each in found.items()
    }
    assert told == {
        "accuracy": (True, "better", "1 points of test accuracy", False),
        "validation": (True, "better", "1 points of best validation accuracy", True),
        "loss": (False, "better", "1 nats of test loss", False),
        "epochs": (False, "faster", "1 epochs to 85 % accuracy", True),
        "seconds": (False, "faster", "1 s to 85 % accuracy", True),
    }
    worst = {name: each.diverged(SPEC) for name, each in found.items()}
    assert worst == {
        "accuracy": 10, "validation": 10, "loss": math.log(10), "epochs": math.inf, "seconds": math.inf,
    }  # fmt: skip
    assert [each.text(1.23456) for each in found.values()] == ["1.23", "1.23", "1.2346", "1.2", "1.23"]


def test_infinite_figures_are_signs() -> None:
    accuracy = METRICS["accuracy"]
    assert [accuracy.text(value) for value in (math.inf, -math.inf, 0.126)] == ["∞", "-∞", "0.13"]
    assert [accuracy.signed(value) for value in (math.inf, -math.inf, 0.126, -0.126, 0)] == [
        "+∞", "-∞", "+0.13", "-0.13", "+0.00",
    ]  # fmt: skip


def test_percentages_are_of_counts() -> None:
    (epoch,) = curve([3], [1], total=4)
    assert (percent_on_test(epoch), percent_on_validation(epoch)) == (75, 25)
    assert percent_on_validation(replace(epoch, validation_correct=0)) == 0
    assert percent_on_validation(replace(epoch, validation_total=0)) is None
    assert percent_on_validation(replace(epoch, validation_correct=None)) is None
