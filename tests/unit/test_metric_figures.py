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
