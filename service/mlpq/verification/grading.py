"""How far a result came out again: pure functions on what was recorded and what the same spec gave now."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

Row = Mapping[str, Any]


class Grade(StrEnum):
    """From the most to the least that can be said for a result."""

    SAME_BITS = "same_bits"  # weights, figures and curve
    SAME_FIGURES = "same_figures"  # within what the order of sums may change
    CONSISTENT = "consistent"  # as another seed, or another draw of images, might have come out
    REFUTED = "refuted"
    NOT_VERIFIED = "not_verified"  # there was nothing to compare with

    @property
    def words(self) -> str:
        return self.replace("_", " ")


ONE_IN = 2000  # images may fall on the other side: 5 of 10,000
LOSS_SHARE = 1e-3  # of the loss, relative
PREDICTION = 0.99
LEAST_SEEDS = 3  # other seeds, for a prediction interval
STANDARD_ERRORS = 4

FIGURES = (
    "test_correct", "test_total", "test_loss", "validation_correct", "validation_total", "validation_loss",
    "best_epoch", "epochs_run", "weights_sha256",
)  # fmt: skip


@dataclass(frozen=True)
class Run:
    """One training that has a result: its row of `job_results`, its epochs, and the facts of its environment."""

    result: Row
    curve: Sequence[Row]
    environment: Row


@dataclass(frozen=True)
class Figure:
    """A figure on both sides. `agrees` says whether it is within the tolerance; None where it is only right exactly."""

    name: str
    recorded: Any
    now: Any
    agrees: bool | None

    @property
    def is_same(self) -> bool:
        return bool(self.recorded == self.now)


@dataclass(frozen=True)
class Difference:
    """A field of the environment that is not the same on both sides; None where a side does not have it."""

    field: str
    recorded: Any
    now: Any


@dataclass(frozen=True)
class Judgement:
    """A grade, why in one line, and what was compared."""

    grade: Grade
    reason: str
    figures: Sequence[Figure] = ()
    differences: Sequence[Difference] = ()


def judge(recorded: Run, now: Run, others: Callable[[], Sequence[float]] = tuple) -> Judgement:
    """Grade a result by what its spec gave now; `others` answers the accuracies of the other seeds of its arm."""
    figures = compare(recorded, now)
    differences = environment_differences(recorded.environment, now.environment)
    agrees = all(figure.agrees for figure in figures if figure.agrees is not None)
    has_same_weights = recorded.result["weights_sha256"] == now.result["weights_sha256"]
    if all(figure.is_same for figure in figures):
        grade, reason = Grade.SAME_BITS, "weights, figures and curve have the same bits"
    elif has_same_weights and not agrees:
        grade, reason = Grade.REFUTED, "its weights have the same bits, and they do not bring the recorded figures"
    elif promises_bits(recorded, now, differences):
        grade = Grade.REFUTED
        reason = "it ran on the CPU in the same environment, where the same spec gives the same bits, and it did not"
    elif agrees:
        most = correct_tolerance(recorded.result["test_total"])
        grade, reason = Grade.SAME_FIGURES, f"counts within ±{most}, losses within {100 * LOSS_SHARE:g} %"
    else:
        grade, reason = _by_chance(recorded.result, now.result, others())
    return Judgement(grade, reason, figures, differences)


def compare(recorded: Run, now: Run) -> list[Figure]:
    """All figures of the result, and the first of the curve that is not the same, if there is one."""
    figures = [_figure(name, recorded.result, now.result) for name in FIGURES]
    for mine, theirs in zip(recorded.curve, now.curve, strict=False):
        for name in mine:
            if name != "seconds" and mine[name] != theirs[name]:
                return [*figures, Figure(f"{name} of epoch {mine['epoch']}", mine[name], theirs[name], None)]
    return figures


def _figure(name: str, recorded: Row, now: Row) -> Figure:
    old, new = recorded[name], now[name]
    if name == "weights_sha256":
        agrees = None
    elif old is None or new is None or not name.endswith(("_loss", "_correct")):
        agrees = old == new
    elif name.endswith("_loss"):
        agrees = math.isclose(old, new, rel_tol=LOSS_SHARE)
    else:
        agrees = abs(old - new) <= correct_tolerance(recorded[name.replace("correct", "total")])
    return Figure(name, old, new, agrees)


def correct_tolerance(total: int) -> int:
    """How many images of `total` may be judged otherwise where the order of sums differs."""
    return max(1, total // ONE_IN)


def environment_differences(recorded: Row, now: Row) -> list[Difference]:
    """The fields that differ, by name; one within another is called outer.inner."""
    old, new = _flat(recorded), _flat(now)
    names = [name for name in {**old, **new} if old.get(name) != new.get(name)]
    return [Difference(name, old.get(name), new.get(name)) for name in sorted(names)]


def _flat(facts: Row, prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in facts.items():
        flat.update(_flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {f"{prefix}{name}": value})
    return flat


def promises_bits(recorded: Run, now: Run, differences: Sequence[Difference]) -> bool:
    """Whether mlpq promises the same bits for these two: on the CPU, in equal environments.

    Jobs of a gang that several processes train together have them only where they were alone.
    """
    sides = (recorded.result, now.result)
    on_cpu = all(side["device"] == "cpu" for side in sides)
    alone = all(side["gang_size"] == 1 or side["world_size"] == 1 for side in sides)
    return on_cpu and alone and not differences


def _by_chance(recorded: Row, now: Row, others: Sequence[float]) -> tuple[Grade, str]:
    """Whether two accuracies may differ as they do by the draw of the seed, or else of the test images."""
    total = recorded["test_total"]
    if now["test_total"] != total:
        return Grade.REFUTED, "it was tested on another number of images"
    old, new = recorded["test_correct"] / total, now["test_correct"] / total
    if len(others) >= LEAST_SEEDS and len(set(others)) > 1:
        low, high = prediction_interval(others)
        interval = (
            f"{100 * low:.2f} to {100 * high:.2f} %, the 99 % prediction interval of its {len(others)} other seeds"
        )
        if low <= old <= high and low <= new <= high:
            return Grade.CONSISTENT, f"recorded and new accuracy lie in {interval}"
        sides = {"recorded": low <= old <= high, "new": low <= new <= high}
        outside = " and ".join(side for side, is_inside in sides.items() if not is_inside)
        return Grade.REFUTED, f"the {outside} accuracy lies outside {interval}"
    distance = standard_errors(recorded["test_correct"], now["test_correct"], total)
    grade = Grade.CONSISTENT if distance <= STANDARD_ERRORS else Grade.REFUTED
    return grade, f"the accuracies differ by {distance:.1f} binomial standard errors, of {STANDARD_ERRORS} that may be"


def prediction_interval(values: Sequence[float]) -> tuple[float, float]:
    """Where the next accuracy lies with probability 0.99, if these are a sample of a normal distribution; n >= 2."""
    from mlpq.analysis import inference

    found = inference.prediction_interval(values, PREDICTION)
    return max(0.0, found.low), min(1.0, found.high)


def standard_errors(one: int, other: int, total: int) -> float:
    """The difference of two counts of `total` each, in binomial standard errors of it under one common accuracy."""
    if one == other:
        return 0.0
    p = (one + other) / (2 * total)
    return abs(one - other) / total / math.sqrt(2 * p * (1 - p) / total)


def shown(value: Any) -> str:
    """A value of a figure or a field in words."""
    return value if isinstance(value, str) else json.dumps(value)
