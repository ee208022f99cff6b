"""How many seeds a comparison needs, from the spread that was measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.table import Table

from mlpq.analysis.comparison import ALPHA, Comparison, Pair
from mlpq.analysis.inference import Interval, pairs_needed, sd_interval
from mlpq.analysis.metrics import Metric
from mlpq.errors import SpecError
from mlpq.report.tables import plain_table

Row = Mapping[str, Any]

LOST = ("failed", "diverged", "cancelled")


@dataclass(frozen=True)
class Need:
    """What a pair of arms needs: `needed` pairs by the measured spread, `range` by both ends of its 95 % interval."""

    pair: Pair
    sd: float
    sd_range: Interval
    needed: int
    range: tuple[int, int]


def needs(comparison: Comparison, difference: float, power: float) -> list[Need]:
    """For each pair of arms, how many seeds show a true mean difference of that size with that probability.

    Pairs with fewer than two figured seeds in common are left out: their spread is not known. Raises SpecError where
    that leaves none.
    """
    alpha = ALPHA / max(1, comparison.tests)
    found = []
    for pair in comparison.pairs:
        if pair.paired is None or pair.paired.sd is None:
            continue
        spread = sd_interval(pair.paired.sd, pair.paired.n)
        counts = [pairs_needed(difference, sd, power, alpha) for sd in (pair.paired.sd, spread.low, spread.high)]
        needed, low, high = (_possible(count, comparison.metric, difference) for count in counts)
        found.append(Need(pair, pair.paired.sd, spread, needed, (low, high)))
    if not found:
        raise SpecError(
            "no two arms have two seeds in common, so no spread is known: submit --seeds 0..4 of both first"
        )
    return found


def seeds_for(comparison: Comparison, n: int) -> list[int]:
    """So many seeds for every arm: those that are there, but for lost ones, then the next that none has."""
    filed = {seed for side in comparison.sides for seed in (*side.values, *side.lacking)}
    lost = {seed for side in comparison.sides for seed, why in side.lacking.items() if why in LOST}
    kept = sorted(filed - lost)[:n]
    first = max(filed, default=-1) + 1
    return [*kept, *range(first, first + n - len(kept))]


def seeds_missing(comparison: Comparison, seeds: Sequence[int]) -> list[tuple[Row, list[int]]]:
    """For each arm that lacks some, a row that stands for it and those of `seeds` that were not submitted."""
    found = []
    for side in comparison.sides:
        there = {row["seed"] for row in side.arm.rows}
        if own := [seed for seed in seeds if seed not in there]:
            found.append((side.arm.first, own))
    return found


def needs_document(found: Sequence[Need]) -> list[dict[str, Any]]:
    """The same as JSON."""
    return [
        {
            "a": need.pair.a.label, "b": need.pair.b.label, "seeds": list(need.pair.seeds), "sd": need.sd,
            "sd_interval": [need.sd_range.low, need.sd_range.high], "seeds_needed": need.needed,
            "seeds_needed_interval": list(need.range),
        }
        for need in found
    ]  # fmt: skip


def needs_table(found: Sequence[Need], metric: Metric) -> Table:
    """One line a pair of arms."""
    table = plain_table("arms", ">seeds now", ">sd of differences (95 %)", ">seeds needed (95 %)")
    for need in found:
        ends = f"{metric.text(need.sd_range.low)} to {metric.text(need.sd_range.high)}"
        table.add_row(
            f"{need.pair.a.label} − {need.pair.b.label}", str(len(need.pair.seeds)), f"{metric.text(need.sd)} ({ends})",
            f"{need.needed} ({need.range[0]} to {need.range[1]})",
        )  # fmt: skip
    return table


def _possible(count: int | None, metric: Metric, difference: float) -> int:
    if count is None:
        raise SpecError(f"no number of seeds shows a difference of {difference:g} {metric.unit}: ask for a larger one")
    return count
