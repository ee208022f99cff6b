"""The metrics that arms can be compared by: one figure per job."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from mlpq.errors import SpecError, nearest
from mlpq.records import EpochMetrics, JobResult
from mlpq.spec.job import JobSpec

Curve = Sequence[EpochMetrics]


@dataclass(frozen=True, slots=True)
class Metric:
    """`value` computes the figure from a job's result and its curve; None where the job has no such figure.
    `value` is infinite for a target that was never reached; `diverged` is the figure of a job that diverged.

    `heading` is the column heading of a mean, `unit` that of a difference, `title` the metric's full name, `phrase` its
    name in a sentence; `decimals` is the precision of a mean and of a difference. `value` needs the curve only where
    `needs_curves`. Learning curves show `curve` of each epoch on an axis called `curve_title`.
    """

    name: str
    heading: str
    title: str
    phrase: str
    unit: str
    decimals: int
    higher_is_better: bool
    value: Callable[[JobResult, Curve], float | None]
    diverged: Callable[[JobSpec], float]
    curve: Callable[[EpochMetrics], float | None]
    curve_title: str
    needs_curves: bool = False

    @property
    def comparative(self) -> str:
        """The adjective for the arm with the better figure."""
        return "faster" if self.name in UNITS_TO_TARGET else "better"

    @property
    def missing(self) -> str:
        """Why a job that succeeded has no figure."""
        return f"no {self.name} figure"

    @property
    def goal(self) -> str:
        """ "85 %" where the metric is the way to a target accuracy."""
        return self.heading.partition(" to ")[2]

    def amount(self, text: str) -> str:
        """ "0.40 points of test accuracy", "1.0 epochs to 85 % accuracy": a difference, given as text."""
        if self.name in UNITS_TO_TARGET:
            return f"{text} {self.unit} to {self.goal} accuracy"
        return f"{text} {self.unit} of {self.phrase}"

    def signed(self, difference: float) -> str:
        """A difference with its sign, without its unit; infinite ones are of targets that were never reached."""
        return (
            f"{difference:+.{self.decimals}f}" if math.isfinite(difference) else f"{difference:+}".replace("inf", "∞")
        )

    def text(self, value: float) -> str:
        """A figure or a difference, without its unit; infinite ones are of targets that were never reached."""
        return f"{value:.{self.decimals}f}" if math.isfinite(value) else f"{value}".replace("inf", "∞")


def metric(name: str, target: float | None = None) -> Metric:
    """The metric of that name; `target` is the accuracy in percent for `epochs` and `seconds`, which need one.

    Raises SpecError.
    """
    if name not in NAMES:
        raise SpecError(f"unknown metric '{name}'{nearest(name, NAMES)}")
    if name not in UNITS_TO_TARGET:
        if target is not None:
            raise SpecError(f"--target is for --metric {' or '.join(UNITS_TO_TARGET)}, not for {name}: leave it out")
        return METRICS[name]
    if target is None:
        raise SpecError(f"--metric {name} needs the accuracy to reach, in percent: add --target 85")
    if not 0 < target <= 100:
        raise SpecError(f"--target must be an accuracy in percent, above 0 and at most 100, not {target:g}")
    return _to_target(name, target)


def percent_on_test(figures: EpochMetrics | JobResult) -> float:
    """Test accuracy in percent, computed from the counts so that equal counts give equal figures."""
    return 100 * figures.test_correct / figures.test_total


def percent_on_validation(figures: EpochMetrics | JobResult) -> float | None:
    """Validation accuracy in percent; None without a validation split."""
    if figures.validation_correct is None or not figures.validation_total:
        return None
    return 100 * figures.validation_correct / figures.validation_total


def _chance(spec: JobSpec) -> float:
    """The accuracy of guessing, in percent."""
    return 100 / spec.data.classes


def _best_validation(_: JobResult, curve: Curve) -> float | None:
    found = [percent_on_validation(epoch) for epoch in curve]
    return max((value for value in found if value is not None), default=None)


def _to_target(name: str, target: float) -> Metric:
    """Epochs or seconds until an accuracy is reached, on the validation split where there is one."""

    def value(_: JobResult, curve: Curve) -> float | None:
        seconds = 0.0
        for epoch in curve:
            seconds += epoch.seconds
            validation = percent_on_validation(epoch)
            if (percent_on_test(epoch) if validation is None else validation) >= target:
                return float(epoch.epoch) if name == "epochs" else seconds
        return math.inf if curve else None

    unit = UNITS_TO_TARGET[name]
    return Metric(
        name=name,
        heading=f"{unit} to {target:g} %",
        title=f"{name} to {target:g} % accuracy",
        phrase=f"{name} to {target:g} % accuracy",
        unit=unit,
        decimals=1 if name == "epochs" else 2,
        higher_is_better=False,
        value=value,
        diverged=lambda _: math.inf,
        curve=percent_on_test,
        curve_title="test accuracy (%)",
        needs_curves=True,
    )


UNITS_TO_TARGET = {"epochs": "epochs", "seconds": "s"}  # the metrics that need a target accuracy
METRICS = {
    each.name: each
    for each in (
        Metric(
            name="accuracy",
            heading="test %",
            title="test accuracy (%)",
            phrase="test accuracy",
            unit="points",
            decimals=2,
            higher_is_better=True,
            value=lambda result, _: percent_on_test(result),
            diverged=_chance,
            curve=percent_on_test,
            curve_title="test accuracy (%)",
        ),
        Metric(
            name="validation",
            heading="validation %",
            title="best validation accuracy (%)",
            phrase="best validation accuracy",
            unit="points",
            decimals=2,
            higher_is_better=True,
            value=_best_validation,
            diverged=_chance,
            curve=percent_on_validation,
            curve_title="validation accuracy (%)",
            needs_curves=True,
        ),
        Metric(
            name="loss",
            heading="test loss",
            title="test loss (nats)",
            phrase="test loss",
            unit="nats",
            decimals=4,
            higher_is_better=False,
            value=lambda result, _: result.test_loss,
            diverged=lambda spec: math.log(spec.data.classes),  # of guessing, with equal probabilities
            curve=lambda epoch: epoch.test_loss,
            curve_title="test loss (nats)",
        ),
    )
}
NAMES = (*METRICS, *UNITS_TO_TARGET)
