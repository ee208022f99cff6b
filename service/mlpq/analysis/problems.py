"""Arms compared over several problems: data sets, models or experiments. Each problem has one vote, however many seeds.

Within a problem the arms are ranked by their means (Friedman 1937; Demšar 2006, "Statistical Comparisons of Classifiers
over Multiple Data Sets"); over the problems the differences of the ranks of two arms are tested by sign flips.
"""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mlpq import formatting
from mlpq.analysis.comparison import ALPHA, Comparison, Side
from mlpq.analysis.grouping import Fields
from mlpq.analysis.inference import fewest_pairs, holm, paired
from mlpq.analysis.metrics import Metric
from mlpq.errors import SpecError
from mlpq.records import JobRecord

MODEL_FIELDS = ("hidden", "bias", "initialisation", "activation", "dropout")
LARGEST_RATIO = 4.0  # up to which profiles are drawn and scored, as AlgoPerf does


@dataclass(frozen=True, slots=True)
class Problem:
    """The comparison of the arms on one data set with one model."""

    name: str
    comparison: Comparison


@dataclass(frozen=True, slots=True)
class RankedArm:
    """An arm over all problems, in their order.

    `ranks` are from 1 for the best; arms that tie share the mean of theirs. `ratios` are its costs, each divided by
    that of the best arm of the problem: of times and losses themselves, of accuracies the share of wrong images.
    Infinite where a target was never reached.
    """

    label: str
    ranks: tuple[float, ...]
    ratios: tuple[float, ...]

    @property
    def mean_rank(self) -> float:
        return statistics.fmean(self.ranks)

    def profile(self, ratio: float) -> float:
        """The performance profile of Dolan & Moré 2002: the share of problems whose ratio is at most this one."""
        return sum(own <= ratio for own in self.ratios) / len(self.ratios)

    @property
    def score(self) -> float:
        """The mean of the profile over the ratios from 1 to LARGEST_RATIO, from 0 to 1, as AlgoPerf scores it."""
        inside = [LARGEST_RATIO - min(own, LARGEST_RATIO) for own in self.ratios]
        return statistics.fmean(inside) / (LARGEST_RATIO - 1)


@dataclass(frozen=True, slots=True)
class RankedPair:
    """Two arms, `a` with the better mean rank: the mean of B's ranks − A's, and the p-value of its sign-flip test."""

    a: RankedArm
    b: RankedArm
    difference: float
    p: float
    p_adjusted: float


@dataclass(frozen=True, slots=True)
class ProblemsComparison:
    """`arms` have figures in every problem, the best mean rank first; `left_out` are the labels of the others."""

    metric: Metric
    problems: tuple[Problem, ...]
    arms: tuple[RankedArm, ...]
    pairs: tuple[RankedPair, ...]
    left_out: tuple[str, ...]

    @property
    def verdict(self) -> str:
        """One sentence over all problems, and how little it proves where they are few."""
        return _verdict(self)


def split_problems(experiment: str, records: Sequence[JobRecord], by: Fields) -> list[tuple[str, list[JobRecord]]]:
    """The jobs of an experiment by problem: by data set, and by model, unless those are what is compared."""
    groups: dict[tuple[str, str], list[JobRecord]] = {}
    for job in records:
        data = "" if "dataset" in by else job.spec.dataset
        model = "" if set(MODEL_FIELDS) & set(by) else formatting.model(job.spec)
        groups.setdefault((data, model), []).append(job)
    differing = [index for index in (0, 1) if len({key[index] for key in groups}) > 1]
    return [
        (": ".join(filter(None, [experiment, ", ".join(key[index] for index in differing)])), jobs)
        for key, jobs in groups.items()
    ]


def compare_problems(problems: Sequence[Problem], against: str = "") -> ProblemsComparison:
    """Rank the arms over at least two problems; with `against`, only pairs with the arm of that label are tested.

    Raises SpecError for fewer problems, and where fewer than two arms have figures in all of them.
    """
    if len(problems) < 2:
        raise SpecError("one problem has no verdict over several: mlpq compare EXPERIMENT compares on one")
    figures = [{side.label: side for side in each.comparison.sides if side.values} for each in problems]
    labels = [label for label in figures[0] if all(label in each for each in figures)]
    others = sorted({label for each in figures for label in each} - set(labels))
    if len(labels) < 2:
        raise SpecError(
            "fewer than two arms have figures in every problem: name fields that all have in common, as --by optimizer"
        )
    metric = problems[0].comparison.metric
    scores = [_scores([each[label] for label in labels]) for each in figures]
    ranks = [_ranks([score if not metric.higher_is_better else -score for score in own]) for own in scores]
    ratios = [_ratios(own, metric) for own in scores]
    arms = sorted(
        (
            RankedArm(label, tuple(own[i] for own in ranks), tuple(own[i] for own in ratios))
            for i, label in enumerate(labels)
        ),
        key=lambda arm: (arm.mean_rank, arm.label),
    )
    return ProblemsComparison(metric, tuple(problems), tuple(arms), tuple(_pairs(arms, against)), tuple(others))


def _scores(sides: Sequence[Side]) -> list[float]:
    """The means, or the medians where some run never reached the target."""
    means = [side.summary.mean for side in sides if side.summary is not None]
    return means if len(means) == len(sides) else [statistics.median(side.values.values()) for side in sides]


def _ranks(costs: Sequence[float]) -> list[float]:
    """From 1 for the lowest; equal ones get the mean of the ranks that they share."""
    return [sum(other < cost for other in costs) + (sum(other == cost for other in costs) + 1) / 2 for cost in costs]


def _ratios(scores: Sequence[float], metric: Metric) -> list[float]:
    costs = [100 - score for score in scores] if metric.higher_is_better else list(scores)
    best = min(costs)
    return [1.0 if cost == best < math.inf else cost / best if 0 < best < math.inf else math.inf for cost in costs]


def _pairs(arms: Sequence[RankedArm], against: str) -> list[RankedPair]:
    pairs = [(a, b) for a, b in itertools.combinations(arms, 2) if not against or against in (a.label, b.label)]
    if not pairs:
        raise SpecError(f"no arm is called '{against}': type one of {'; '.join(arm.label for arm in arms)}")
    tests = [paired(b.ranks, a.ranks) for a, b in pairs]
    adjusted = holm([test.p_value for test in tests])
    return [
        RankedPair(a, b, test.difference, test.p_value, p)
        for (a, b), test, p in zip(pairs, tests, adjusted, strict=True)
    ]


def _verdict(found: ProblemsComparison) -> str:
    best, n = found.arms[0], len(found.problems)
    decided: Mapping[bool, list[str]] = {True: [], False: []}
    for pair in found.pairs:
        if best in (pair.a, pair.b):
            decided[pair.p_adjusted <= ALPHA].append((pair.b if pair.a is best else pair.a).label)
    parts = [
        f"over {n} problems {best.label} has the best mean rank in {found.metric.phrase}, {best.mean_rank:.2f} of "
        f"{len(found.arms)}"
    ]
    if decided[True]:
        verb = "are" if len(decided[True]) > 1 else "is"
        parts.append(f"{formatting.listed(decided[True])} {verb} worse")
    fewest = fewest_pairs(ALPHA / max(1, len(found.pairs)))
    if decided[False]:
        parts.append(f"no detectable difference from {formatting.listed(decided[False])}")
    if n < fewest:
        correction = f" after Holm's correction for {len(found.pairs)} tests" if len(found.pairs) > 1 else ""
        parts.append(
            f"{n} problems can't give a significant result{correction}, at least {fewest} are needed: this ranking "
            "says little about other problems"
        )
    return "; ".join(parts)
