<<<<<<< HEAD
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
||||||| 3a2402a
=======
"""Metrics: the figure of a job, that of one that diverged, and how figures read."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from mlpq.analysis.metrics import Metric, metric, percent_on_validation
from mlpq.errors import SpecError
from tests.support.result_rows import curve, job_record, specs, with_figures

(SPEC,) = specs()
RESULT = job_record(SPEC, 1, 450).result  # of 500 test images
TARGETS = ("epochs", "seconds")


def named(name: str) -> Metric:
    return metric(name, 90.0 if name in TARGETS else None)


@pytest.mark.parametrize(
    ("name", "mean", "difference", "amount"),
    [
        ("accuracy", "12.35", "+12.35", "1 points of test accuracy"),
        ("validation", "12.35", "+12.35", "1 points of best validation accuracy"),
        ("loss", "12.3457", "+12.3457", "1 nats of test loss"),
        ("epochs", "12.3", "+12.3", "1 epochs to 90 % accuracy"),
        ("seconds", "12.35", "+12.35", "1 s to 90 % accuracy"),
    ],
)
def test_figures_have_the_decimals_and_the_unit_of_their_metric(
    name: str, mean: str, difference: str, amount: str
) -> None:
    found = named(name)
    assert found.text(12.345678) == mean
    assert found.signed(12.345678) == difference
    assert (found.text(math.inf), found.signed(-math.inf)) == ("∞", "-∞")
    assert found.amount("1") == amount
    assert found.missing == f"no {name} figure"


@pytest.mark.parametrize("name", ["accuracy", "validation", "loss", *TARGETS])
def test_direction_and_what_each_metric_reads(name: str) -> None:
    found = named(name)
    assert found.higher_is_better is (name in ("accuracy", "validation"))
    assert found.needs_curves is (name in ("validation", *TARGETS))
    assert found.comparative == ("faster" if name in TARGETS else "better")


def test_diverged_job_has_the_figure_of_guessing() -> None:
    assert named("accuracy").diverged(SPEC) == named("validation").diverged(SPEC) == 10  # ten classes
    assert named("loss").diverged(SPEC) == pytest.approx(2.302585)
    assert named("epochs").diverged(SPEC) == named("seconds").diverged(SPEC) == math.inf


def test_validation_accuracy_is_a_percentage_of_the_split() -> None:
    result = with_figures(job_record(SPEC, 1, 450), validation_correct=30, validation_total=40).result
    assert result is not None
    assert percent_on_validation(result) == 75
    assert RESULT is not None
    assert percent_on_validation(RESULT) is None
    assert percent_on_validation(replace(result, validation_total=0)) is None


def test_target_is_reached_in_the_first_epoch_with_its_accuracy_and_the_seconds_until_then() -> None:
    assert RESULT is not None
    epochs = curve([50, 90, 95])  # of half a second
    assert named("epochs").value(RESULT, epochs) == 2
    assert named("seconds").value(RESULT, epochs) == 1.0
    assert named("epochs").value(RESULT, epochs[:1]) == math.inf
    assert named("epochs").value(RESULT, []) is None


def test_target_is_of_the_validation_split_where_there_is_one() -> None:
    assert RESULT is not None
    epochs = curve([95, 95], validation=[89, 90])
    assert named("epochs").value(RESULT, epochs) == 2
    assert named("validation").value(RESULT, epochs) == 90


@pytest.mark.parametrize(
    ("name", "target", "message"),
    [
        ("accuracies", None, "unknown metric 'accuracies'"),
        ("accuracy", 85.0, "leave it out"),
        ("epochs", None, "add --target 85"),
        ("epochs", 0.0, "above 0 and at most 100, not 0"),
        ("seconds", 100.5, "not 100.5"),
    ],
)
def test_wrong_metric_or_target_is_an_error(name: str, target: float | None, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        metric(name, target)


def test_target_may_be_all_images() -> None:
    assert metric("epochs", 100.0).heading == "epochs to 100 %"
>>>>>>> c-mutants
