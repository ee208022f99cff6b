"""Arms compared by one metric, paired by seed. What is computed here is worded and drawn elsewhere."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from mlpq import formatting
from mlpq.analysis.arms import Arm, arms
from mlpq.analysis.grouping import Choice, Fields, choose
from mlpq.analysis.inference import Interval, Paired, holm, mean_interval, paired
from mlpq.analysis.metrics import Curve, Metric
from mlpq.analysis.summary import Summary, summarize
from mlpq.errors import SpecError

Row = Mapping[str, Any]

ALPHA = 0.05


@dataclass(frozen=True)
class Side:
    """An arm as one side of a comparison.

    `values` are its figures by seed; `lacking` says of the other seeds why they have none.
    """

    choice: Choice
    values: Mapping[int, float]
    lacking: Mapping[int, str]

    @property
    def label(self) -> str:
        return self.choice.label

    @property
    def arm(self) -> Arm:
        return self.choice.arm

    @property
    def summary(self) -> Summary | None:
        return summarize(list(self.values.values())) if self.values else None

    @property
    def interval(self) -> Interval | None:
        """95 %, Student's t, for the mean."""
        return mean_interval(list(self.values.values()))


@dataclass(frozen=True)
class Pair:
    """Two sides on the seeds that both have: the first is the one with the better mean on those.

    `paired` is None without a common seed; `p_adjusted` is Holm's over all pairs of the comparison.
    """

    a: Side
    b: Side
    seeds: tuple[int, ...]
    paired: Paired | None
    p_adjusted: float


@dataclass(frozen=True)
class Comparison:
    """`sides` in order of their means, the best first; those without a figure last.

    `unchosen`: arms that agree in `by` stand side by side, since there was no validation figure to choose by.
    """

    by: Fields
    metric: Metric
    sides: tuple[Side, ...]
    pairs: tuple[Pair, ...]
    unchosen: bool

    @property
    def tests(self) -> int:
        """How many pairs were tested, which is what Holm's correction is for."""
        return sum(pair.paired is not None for pair in self.pairs)


def compare(
    rows: Sequence[Row],
    ancestors: Sequence[Row],
    curves: Mapping[str, Curve],
    metric: Metric,
    by: Fields = (),
    against: str | None = None,
    pairs_at_most: int | None = None,
) -> Comparison:
    """The arms of `rows` side by side.

    `by` makes sides of arms (see `sides.choose`). With `against`, each side is compared only with that one; else each
    with each. Raises SpecError, also where there would be more pairs than `pairs_at_most`.
    """
    found = arms(rows, ancestors)
    choices, unchosen = choose(found, by)
    seeds = {row["seed"] for choice in choices for row in choice.arm.rows}
    sides = [_side(choice, curves, metric, seeds) for choice in choices]
    sides.sort(key=lambda side: _rank(side, metric))
    chosen = _chosen(sides, against)
    if pairs_at_most is not None and len(chosen) > pairs_at_most:
        raise SpecError(
            f"{len(sides)} arms make {len(chosen)} pairs, and more than {pairs_at_most} are not compared here: choose "
            "fewer arms by a field, as optimizer, or one arm to compare with"
        )
    return Comparison(by, metric, tuple(sides), tuple(_pairs(chosen, metric)), unchosen)


def _side(choice: Choice, curves: Mapping[str, Curve], metric: Metric, seeds: set[int]) -> Side:
    values, lacking = {}, dict.fromkeys(sorted(seeds), "not submitted")
    for row in sorted(choice.arm.rows, key=lambda row: row["seed"]):
        succeeded = row["status"] == "succeeded"
        value = metric.value(row, curves.get(row["id"], ())) if succeeded else None
        if value is None:
            lacking[row["seed"]] = metric.missing if succeeded else formatting.status(row)
        else:
            values[row["seed"]] = value
            del lacking[row["seed"]]
    return Side(choice, values, lacking)


def _rank(side: Side, metric: Metric) -> float:
    if side.summary is None:
        return float("inf")
    return -side.summary.mean if metric.higher_is_better else side.summary.mean


def _chosen(sides: Sequence[Side], against: str | None) -> list[tuple[Side, Side]]:
    chosen = list(itertools.combinations(sides, 2))
    if against is None:
        return chosen
    reference = _named(against, sides)
    return [(a, b) for a, b in chosen if reference is a or reference is b]


def _pairs(chosen: Sequence[tuple[Side, Side]], metric: Metric) -> list[Pair]:
    compared = [_pair(a, b, metric) for a, b in chosen]
    adjusted = iter(holm([pair.paired.p_value for pair in compared if pair.paired]))
    return [replace(pair, p_adjusted=next(adjusted)) if pair.paired else pair for pair in compared]


def _pair(a: Side, b: Side, metric: Metric) -> Pair:
    seeds = tuple(seed for seed in a.values if seed in b.values)
    if not seeds:
        return Pair(a, b, seeds, None, 1.0)
    found = paired([a.values[seed] for seed in seeds], [b.values[seed] for seed in seeds])
    if found.difference and (found.difference > 0) != metric.higher_is_better:
        return _pair(b, a, metric)  # on the seeds that both have it is the other way round
    return Pair(a, b, seeds, found, found.p_value)


def _named(label: str, sides: Sequence[Side]) -> Side:
    labels = [side.label for side in sides]
    found = [side for side in sides if side.label == label] or [side for side in sides if side.label.startswith(label)]
    if len(found) != 1:
        many = "no arm is called" if not found else "several arms begin with"
        raise SpecError(f"{many} '{label}': type one of {'; '.join(labels)}")
    return found[0]
