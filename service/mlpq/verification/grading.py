"""Grades a result by a rerun of the same spec: pure functions of both runs."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from statistics import NormalDist
from typing import Any

from mlpq import formatting
from mlpq.image_records import ResultImages
from mlpq.records import EpochMetrics, JobResult
from mlpq.verification_records import EnvironmentDifference, FigureCheck, Grade

ONE_IN = 2000  # images that may be classified differently: 5 of 10,000
LOSS_SHARE = 1e-3  # relative tolerance of a loss
CHANCE = 0.01  # that a call refutes any honest result by chance; and that it refutes any honest arm
LEAST_SEEDS = 3  # other seeds that a prediction interval needs
STANDARD_ERRORS = 4

BEST_EPOCH_FIGURES = (
    "test_correct", "test_total", "test_loss", "validation_correct", "validation_total", "validation_loss",
)  # fmt: skip
COMPARED_FIGURES = (*BEST_EPOCH_FIGURES, "best_epoch", "epochs_run", "weights_sha256")
_EPOCH_FIGURES = tuple(field.name for field in fields(EpochMetrics) if field.name != "seconds")


@dataclass(frozen=True, slots=True)
class Run:
    """One training with a result; `environment` has the facts of its environment.

    `images` is None for results of versions before 0.2.
    """

    result: JobResult
    curve: Sequence[EpochMetrics]
    environment: Mapping[str, Any]
    images: ResultImages | None = None


@dataclass(frozen=True, slots=True)
class Judgment:
    """A grade, its reason in one line, and what was compared.

    `gain` is the recorded accuracy minus the new one where the grade depends on whether chance explains it, else None.
    """

    grade: Grade
    reason: str
    figures: Sequence[FigureCheck] = ()
    differences: Sequence[EnvironmentDifference] = ()
    gain: float | None = None


def judge(recorded: Run, now: Run, others: Callable[[], Sequence[float]] = tuple, checks: int = 1) -> Judgment:
    """Grade a recorded result by a rerun; `others` returns the accuracies of the other seeds of its arm.

    `checks` is how many accuracies one call checks, over which it splits CHANCE: two for each result.
    """
    figures = compare(recorded, now)
    differences = environment_differences(recorded.environment, now.environment)
    gain = None
    agrees = all(figure.agrees for figure in figures if figure.agrees is not None)
    has_same_weights = recorded.result.weights_sha256 == now.result.weights_sha256
    if all(figure.is_same for figure in figures):
        grade, reason = Grade.SAME_BITS, "weights, figures and curve have the same bits"
    elif has_same_weights and not agrees:
        grade, reason = Grade.REFUTED, "the weights have the same bits, but do not give the recorded figures"
    elif guarantee := guaranteed_bits(recorded, now, differences):
        grade, reason = Grade.REFUTED, f"{guarantee} the same spec gives the same bits, and this rerun did not"
    elif agrees:
        most = correct_tolerance(recorded.result.test_total)
        grade, reason = Grade.SAME_FIGURES, f"counts within ±{most}, losses within {100 * LOSS_SHARE:g} %"
    else:
        grade, reason = _by_chance(recorded.result, now.result, others(), CHANCE / checks)
        gain = recorded.result.test_accuracy - now.result.test_accuracy
    if grade is not Grade.SAME_BITS and (names := _different_rounding(recorded.result, now.result)):
        reason += f"; {names}"
    return Judgment(grade, reason, figures, differences, gain)


def refute_arms(arms: Sequence[Sequence[Judgment]]) -> list[list[Judgment]]:
    """Refute what chance explains in each result but not in its arm: recorded accuracies that exceed the new ones.

    Each of `arms` holds the judgments of its results. An honest record is as likely above as below its rerun, so the
    gains of an arm are tested by the two-sided sign-flip test, at the level CHANCE over all arms (Holm).
    """
    from mlpq.analysis import inference  # here: it loads numpy and scipy, which take half a second

    gains = [[judgment.gain for judgment in arm if judgment.gain is not None] for arm in arms]
    tested = [inference.paired(own, [0.0] * len(own)) if own else None for own in gains]
    adjusted = iter(inference.holm([found.p_value for found in tested if found]))
    return [
        list(arm) if found is None else _refuted(arm, found.difference, found.n, next(adjusted))
        for arm, found in zip(arms, tested, strict=True)
    ]


def _refuted(arm: Sequence[Judgment], difference: float, n: int, p: float) -> list[Judgment]:
    if p > CHANCE:
        return list(arm)
    reason = (
        f"over {n} seeds of its arm the recorded accuracies differ from the new ones by {100 * difference:+.2f} points "
        f"on average, which chance does not explain (sign-flip test, p = {p:.2g})"
    )
    return [
        judgment if judgment.gain is None else replace(judgment, grade=Grade.REFUTED, reason=reason) for judgment in arm
    ]


def compare(recorded: Run, now: Run) -> list[FigureCheck]:
    """All figures of the result and of its images, and the first figure of the curve that differs, if any."""
    figures = [_check(name, recorded.result, now.result) for name in COMPARED_FIGURES]
    if recorded.images is not None and now.images is not None:
        figures += _check_images(recorded, now, recorded.images, now.images)
    for old, new in zip(recorded.curve, now.curve, strict=False):
        for name in _EPOCH_FIGURES:
            then, again = getattr(old, name), getattr(new, name)
            if then != again:
                return [*figures, FigureCheck(f"{name} of epoch {old.epoch}", then, again, None)]
    return figures


def _check(name: str, recorded: JobResult, now: JobResult) -> FigureCheck:
    old, new = getattr(recorded, name), getattr(now, name)
    agrees: bool | None
    if name == "weights_sha256":
        agrees = None
    elif old is None or new is None or not name.endswith(("_loss", "_correct")):
        agrees = old == new
    elif name.endswith("_loss"):
        agrees = math.isclose(old, new, rel_tol=LOSS_SHARE)
    else:
        agrees = abs(old - new) <= correct_tolerance(getattr(recorded, name.replace("correct", "total")))
    return FigureCheck(name, old, new, agrees)


def _check_images(recorded: Run, now: Run, old: ResultImages, new: ResultImages) -> list[FigureCheck]:
    """How many images are classified correctly by one run only, and the hash over all that is said about the images.

    Equal weights must agree about all but a few images, as their counts do; those of two runs may err elsewhere.
    """
    different = old.different_images(new)
    has_same_weights = recorded.result.weights_sha256 == now.result.weights_sha256
    agrees = different <= correct_tolerance(recorded.result.test_total) if has_same_weights else None
    return [
        FigureCheck("different_images", 0, different, agrees),
        FigureCheck("images_sha256", old.sha256, new.sha256, None),
    ]


def correct_tolerance(total: int) -> int:
    """How many of `total` images may be classified differently where the order of sums differs."""
    return max(1, total // ONE_IN)


def environment_differences(recorded: Mapping[str, Any], now: Mapping[str, Any]) -> list[EnvironmentDifference]:
    """The fields that differ, sorted by name; a nested one is named outer.inner."""
    old, new = _flat(recorded), _flat(now)
    names = [name for name in {**old, **new} if old.get(name) != new.get(name)]
    return [EnvironmentDifference(name, old.get(name), new.get(name)) for name in sorted(names)]


def _flat(facts: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in facts.items():
        flat.update(_flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {f"{prefix}{name}": value})
    return flat


def guaranteed_bits(recorded: Run, now: Run, differences: Sequence[EnvironmentDifference]) -> str:
    """Where mlpq guarantees equal bits for these two runs, as the beginning of a sentence; empty where it doesn't.

    The kernel guarantees them wherever the numbers of the arithmetic agree. Torch's engines do so on the CPU, in equal
    environments, and for a job that several processes train only where it was not part of a gang. On a GPU nothing is
    guaranteed: the bits depend on the gang too, also on those in which a resumed job was trained before.
    """
    results = (recorded.result, now.result)
    arithmetics = {result.arithmetic for result in results}
    if arithmetics != {None}:
        number = recorded.result.arithmetic
        return f"with arithmetic {number}, on every CPU," if len(arithmetics) == 1 else ""
    on_cpu = all(result.device == "cpu" for result in results)
    alone = all(result.gang_size == 1 or result.world_size == 1 for result in results)
    equal = not differences and recorded.result.engine is now.result.engine
    return "on the CPU in the same environment" if on_cpu and alone and equal else ""


def _different_rounding(recorded: JobResult, now: JobResult) -> str:
    """Which arithmetics, engines or gangs make the two results round differently; empty where they agree."""
    old, new = formatting.engine(recorded), formatting.engine(now)
    if old == new and recorded.device == now.device == "cuda" and recorded.gang_size != now.gang_size:
        sizes = f"recorded in a gang of {recorded.gang_size}, now in one of {now.gang_size}"
        return f"{sizes}, which round differently on a GPU"
    return "" if old == new else f"recorded by {old}, now by {new}, which round differently"


def _by_chance(recorded: JobResult, now: JobResult, others: Sequence[float], alpha: float) -> tuple[Grade, str]:
    """Whether the draw of the seed, or else of the test images, explains the difference of two accuracies.

    `alpha` is the probability with which one accuracy of an honest result is outside its interval.
    """
    total = recorded.test_total
    if now.test_total != total:
        return Grade.REFUTED, "the rerun has another number of test images"
    old, new = recorded.test_correct / total, now.test_correct / total
    if len(others) >= LEAST_SEEDS and len(set(others)) > 1:
        low, high = prediction_interval(others, 1 - alpha)
        level = f"{100 * (1 - alpha):.6g} % prediction interval of its {len(others)} other seeds"
        interval = f"{100 * low:.2f} to {100 * high:.2f} %, the {level}"
        if low <= old <= high and low <= new <= high:
            return Grade.CONSISTENT, f"recorded and new accuracy are within {interval}"
        inside = {"recorded": low <= old <= high, "new": low <= new <= high}
        outside = [name for name, is_inside in inside.items() if not is_inside]
        verb = "accuracies are" if len(outside) > 1 else "accuracy is"
        return Grade.REFUTED, f"the {' and '.join(outside)} {verb} outside {interval}"
    distance = standard_errors(recorded.test_correct, now.test_correct, total)
    allowed = max(STANDARD_ERRORS, NormalDist().inv_cdf(1 - alpha / 2))
    grade = Grade.CONSISTENT if distance <= allowed else Grade.REFUTED
    return grade, f"the accuracies differ by {distance:.1f} binomial standard errors; {allowed:.3g} are allowed"


def prediction_interval(values: Sequence[float], confidence: float = 1 - CHANCE) -> tuple[float, float]:
    """The interval of the next accuracy with that probability, for a sample of a normal distribution; n >= 2."""
    from mlpq.analysis import inference  # here: it loads numpy and scipy, which take half a second

    found = inference.prediction_interval(values, confidence)
    return max(0.0, found.low), min(1.0, found.high)


def standard_errors(one: int, other: int, total: int) -> float:
    """The difference of two counts of `total` each, in binomial standard errors under one common accuracy."""
    if one == other:
        return 0.0
    p = (one + other) / (2 * total)
    return abs(one - other) / total / math.sqrt(2 * p * (1 - p) / total)
