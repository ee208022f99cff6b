"""What arms can be compared by: one figure a job."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mlpq.errors import SpecError, nearest

Row = Mapping[str, Any]
Curve = Sequence[Row]


@dataclass(frozen=True)
class Metric:
    """`value` takes a row of the view and its curve; None where the job has no such figure.

    `heading` and `unit` stand over a mean and behind a difference, `title` says in full what it is; `decimals` are
    those of a mean and of a difference.
    """

    name: str
    heading: str
    title: str
    unit: str
    decimals: int
    higher_is_better: bool
    value: Callable[[Row, Curve], float | None]
    needs_curves: bool = False

    @property
    def comparative(self) -> str:
        """How an arm is called that has the better figure."""
        return "faster" if self.name in SOON else "better"

    @property
    def missing(self) -> str:
        """Why a job that succeeded has no figure."""
        return f"never reached {self.heading.partition(' to ')[2]}" if self.name in SOON else f"without {self.name}"

    def signed(self, difference: float) -> str:
        """The difference with its sign."""
        return f"{difference:+.{self.decimals}f}"

    def text(self, value: float) -> str:
        """The figure, or a difference, without its unit."""
        return f"{value:.{self.decimals}f}"


def metric(name: str, target: float | None = None) -> Metric:
    """The metric of that name; `target` is an accuracy in percent, for those that say how soon it is reached.

    Raises SpecError.
    """
    if name not in NAMES:
        raise SpecError(f"unknown metric '{name}'{nearest(name, NAMES)}")
    if name not in SOON:
        if target is not None:
            raise SpecError(f"--target goes with --metric {' or '.join(SOON)}, not with {name}: leave it out")
        return METRICS[name]
    if target is None:
        raise SpecError(f"--metric {name} needs the accuracy that is to be reached, in percent: add --target 85")
    if not 0 < target <= 100:
        raise SpecError(f"--target is an accuracy in percent, above 0 and at most 100, not {target:g}")
    return _soon(name, target)


def percent(row: Row, side: str) -> float | None:
    """Accuracy in percent, from the counts: equal counts are equal figures."""
    correct, total = row[f"{side}_correct"], row[f"{side}_total"]
    return None if correct is None else 100 * correct / total


def _loss(row: Row, _: Curve) -> float | None:
    found: float | None = row["test_loss"]
    return found


def _best_validation(_: Row, curve: Curve) -> float | None:
    found = [percent(epoch, "validation") for epoch in curve]
    return max((value for value in found if value is not None), default=None)


def _soon(name: str, target: float) -> Metric:
    """Epochs or seconds until an accuracy is reached: on the validation split where there is one."""

    def value(_: Row, curve: Curve) -> float | None:
        seconds = 0.0
        for epoch in curve:
            seconds += epoch["seconds"]
            held_out = percent(epoch, "validation")
            if (percent(epoch, "test") if held_out is None else held_out) >= target:  # type: ignore[operator]
                return float(epoch["epoch"]) if name == "epochs" else seconds
        return None

    unit = SOON[name]
    return Metric(
        name, f"{unit} to {target:g} %", f"{name} to {target:g} % accuracy", unit, 1 if name == "epochs" else 2, False,
        value, needs_curves=True,
    )  # fmt: skip


SOON = {"epochs": "epochs", "seconds": "s"}
METRICS = {
    "accuracy": Metric(
        "accuracy", "test %", "test accuracy (%)", "points", 2, True, lambda row, _: percent(row, "test")
    ),
    "validation": Metric(
        "validation", "validation %", "best validation accuracy (%)", "points", 2, True, _best_validation, True
    ),
    "loss": Metric("loss", "test loss", "test loss (nats)", "nats", 4, False, _loss),
}
NAMES = (*METRICS, *SOON)
