"""How many seeds a comparison needs, from the spread of the seeds that it has."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mlpq.analysis.comparison import ALPHA, Comparison, Pair
from mlpq.analysis.inference import Interval, pairs_needed, sd_interval
from mlpq.analysis.metrics import Metric
from mlpq.errors import SpecError
from mlpq.records import JobRecord


@dataclass(frozen=True, slots=True)
class SeedsNeeded:
    """How many seeds a pair of arms needs: `needed` by the measured spread, `range` by both ends of its 95 % interval.

    `sd` and `sd_range` are those of the paired differences, in the metric's unit.
    """

    pair: Pair
    sd: float
    sd_range: Interval
    needed: int
    range: tuple[int, int]


@dataclass(frozen=True, slots=True)
class Power:
    """The difference to detect, in the metric's unit, and the probability with which it must be detected."""

    difference: float
    power: float

    def check(self) -> None:
        """Raise SpecError where a value is not valid."""
        if not 0 < self.difference < float("inf"):
            raise SpecError(f"--difference must be a number above 0, not {self.difference:g}")
        if not 0 < self.power < 1:
            raise SpecError(f"--power is a probability between 0 and 1, not {self.power:g}: 0.8 is usual")


def needs(comparison: Comparison, difference: float, power: float) -> list[SeedsNeeded]:
    """For each pair of arms, how many seeds detect a true mean difference of that size with that probability.

    Pairs with fewer than two common seeds are left out: their spread is unknown. Raises SpecError where that leaves
    none, and where no number of seeds is enough.
    """
    alpha = ALPHA / max(1, comparison.tests)
    found = []
    for pair in comparison.pairs:
        if pair.paired is None or pair.paired.sd is None:
            continue
        spread = sd_interval(pair.paired.sd, pair.paired.n)
        counts = [pairs_needed(difference, sd, power, alpha) for sd in (pair.paired.sd, spread.low, spread.high)]
        needed, low, high = (_possible(count, comparison.metric, difference) for count in counts)
        found.append(SeedsNeeded(pair, pair.paired.sd, spread, needed, (low, high)))
    if not found:
        raise SpecError(
            "no two arms have two seeds in common, so their spread is unknown: submit --seeds 0..4 of both first"
        )
    return found


def seeds_for(comparison: Comparison, n: int) -> list[int]:
    """`n` seeds to compare on: those submitted, except where the job of any arm failed, and then unused ones.

    A diverged run is a figure like any other: its seed stays.
    """
    submitted = {seed for side in comparison.sides for seed in (*side.values, *side.missing)}
    lost = {seed for side in comparison.sides for seed, missing in side.missing.items() if missing.is_lost}
    kept = sorted(submitted - lost)[:n]
    first = max((*submitted, *comparison.choosing), default=-1) + 1
    return [*kept, *range(first, first + n - len(kept))]


def seeds_missing(comparison: Comparison, seeds: Sequence[int]) -> list[tuple[JobRecord, list[int]]]:
    """For each arm that lacks some, a job that represents it and those of `seeds` that were not submitted."""
    found = []
    for side in comparison.sides:
        submitted = {job.spec.seed for job in side.arm.records}
        if own := [seed for seed in seeds if seed not in submitted]:
            found.append((side.arm.first, own))
    return found


def _possible(count: int | None, metric: Metric, difference: float) -> int:
    if count is None:
        raise SpecError(
            f"no number of seeds detects a difference of {difference:g} {metric.unit}: plan for a larger one"
        )
    return count
