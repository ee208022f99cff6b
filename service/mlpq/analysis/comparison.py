"""Arms compared by one metric, paired by seed. Findings only: `verdicts` and `fairness` put them into sentences."""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from mlpq import formatting
from mlpq.analysis.arms import Arm, arms
from mlpq.analysis.grouping import Fields, Selection, find_label, select_settings
from mlpq.analysis.inference import (
    Interval,
    Paired,
    differences_so_far,
    holm,
    mean_interval,
    paired,
    paired_by_signs,
)
from mlpq.analysis.metrics import Curve, Metric
from mlpq.analysis.params import ComparisonParams
from mlpq.analysis.sequential import anytime_interval, anytime_p
from mlpq.analysis.summary import Summary, summarize
from mlpq.errors import SpecError
from mlpq.jobs import Status
from mlpq.records import JobRecord, UnreadableJob
from mlpq.spec.job import JobSpec

ALPHA = 0.05


@dataclass(frozen=True, slots=True)
class MissingFigure:
    """Why an arm has no figure for a seed.

    `is_lost` where its job failed or was cancelled, so that none will come; `is_pending` where it is not finished.
    """

    reason: str
    is_lost: bool = False
    is_pending: bool = False


@dataclass(frozen=True, slots=True)
class Side:
    """An arm as one side of a comparison: its figures by seed, and for the comparison's other seeds why it has none.

    `diverged` are those of its seeds that diverged; they have the metric's figure of such runs. The figure of a run
    that never reached the target is infinite.
    """

    selection: Selection
    values: Mapping[int, float]
    missing: Mapping[int, MissingFigure]
    diverged: tuple[int, ...] = ()

    @property
    def missed(self) -> tuple[int, ...]:
        """The seeds that never reached the target, without those that diverged."""
        return tuple(seed for seed, value in self.values.items() if math.isinf(value) and seed not in self.diverged)

    @property
    def label(self) -> str:
        return self.selection.label

    @property
    def arm(self) -> Arm:
        return self.selection.arm

    @property
    def spec(self) -> JobSpec:
        """The spec of a job that represents the arm."""
        return self.selection.arm.spec

    @property
    def summary(self) -> Summary | None:
        """Of `values`; None without a figure, and where one is infinite."""
        return summarize(list(self.values.values())) if self.values and self._is_finite else None

    @property
    def median(self) -> float | None:
        """Of `values`; None without a figure."""
        return statistics.median(self.values.values()) if self.values else None

    @property
    def interval(self) -> Interval | None:
        """The 95 % interval of the mean (Student's t); None for fewer than two figures and where one is infinite."""
        return mean_interval(list(self.values.values())) if self._is_finite else None

    @property
    def _is_finite(self) -> bool:
        return all(map(math.isfinite, self.values.values()))


@dataclass(frozen=True, slots=True)
class Anytime:
    """The test of a pair by betting, which is valid however often one looks, on its first `n` pairs by seed.

    Pairs after a seed that is not finished have to wait, since the order is fixed. `p_adjusted` is Holm's p-value;
    `interval` of the mean difference is simultaneous, None where some figure is infinite, and as long as no end is
    bounded.
    """

    n: int
    p: float
    p_adjusted: float
    interval: Interval | None


@dataclass(frozen=True, slots=True)
class Pair:
    """Two sides on the seeds that both have: `a` is the one with the better mean on those.

    `paired` and `anytime` are None without a common seed, and `anytime` as long as a choice of settings may change;
    `p_adjusted` is Holm's p-value over all pairs of the comparison. `standard_error_images` of the mean difference is
    over new seeds and new test images, see mlpq.analysis.crossed.
    """

    a: Side
    b: Side
    seeds: tuple[int, ...]
    paired: Paired | None
    p_adjusted: float
    anytime: Anytime | None = None
    standard_error_images: float | None = None

    @property
    def differences(self) -> list[float]:
        """A − B in the order of the seeds, all of them finite; see `differences_so_far`."""
        return differences_so_far(
            [self.a.values[seed] for seed in self.seeds], [self.b.values[seed] for seed in self.seeds]
        )


@dataclass(frozen=True, slots=True)
class Comparison:
    """`sides` are in the order of their means, the best first and those without a figure last.

    `has_unselected`: settings that agree in `by` are compared by themselves, since they have no validation figures.
    Others were chosen on the seeds `choosing`, which are left out of the comparison, unless `is_shared`. `is_running`:
    further figures are to come, from unfinished jobs or for an open question, so that one looks more than once.
    `unreadable` are the jobs of the experiment that are left out because their rows can't be read, `odd_questions` says
    of each registered question that is left out why.
    """

    by: Fields
    metric: Metric
    sides: tuple[Side, ...]
    pairs: tuple[Pair, ...]
    has_unselected: bool
    choosing: tuple[int, ...] = ()
    is_shared: bool = False
    is_running: bool = False
    unreadable: tuple[UnreadableJob, ...] = ()
    odd_questions: tuple[str, ...] = ()

    @property
    def tests(self) -> int:
        """How many pairs were tested, the number for which Holm's method corrects."""
        return sum(pair.paired is not None for pair in self.pairs)

    @property
    def confidence(self) -> float:
        """The level of each interval of a difference, so that all of them hold with 95 % (Bonferroni)."""
        return 1 - ALPHA / max(1, self.tests)


def compare(
    records: Sequence[JobRecord],
    ancestors: Sequence[JobRecord],
    curves: Mapping[str, Curve],
    params: ComparisonParams,
    pairs_at_most: int | None = None,
) -> Comparison:
    """Compare the arms of `records` as `params` say; `curves` are by job id, for metrics that need them.

    `ancestors` are the jobs outside `records` that some of them continue from. With `params.against`, each side is
    compared with that one only, otherwise each with each. Raises SpecError for params that are not valid, and where
    there are more pairs than `pairs_at_most`.
    """
    metric, by = params.parsed_metric(), params.parsed_by()
    selected = select_settings(arms(records, ancestors), by, params.parsed_choose_seeds())
    seeds = {job.spec.seed for selection in selected.selections for job in selection.arm.records}
    if not selected.is_shared:
        seeds -= set(selected.choosing)
    sides = [_side(selection, curves, metric, seeds) for selection in selected.selections]
    _sort(sides, metric)
    to_compare = _pairs_of(sides, params.against)
    if pairs_at_most is not None and len(to_compare) > pairs_at_most:
        raise SpecError(
            f"{len(sides)} arms make {len(to_compare)} pairs, more than the {pairs_at_most} that can be compared here: "
            "group the arms by a field, such as optimizer, or compare with one arm only"
        )
    is_running = any(
        not job.status.is_finished
        for selection in selected.selections
        for arm in selection.tried
        for job in arm.records
    )
    return Comparison(
        by, metric, tuple(sides), tuple(_compared(to_compare, metric)), selected.has_unselected, selected.choosing,
        selected.is_shared, is_running,
    )  # fmt: skip


def _side(selection: Selection, curves: Mapping[str, Curve], metric: Metric, seeds: set[int]) -> Side:
    values: dict[int, float] = {}
    arm = selection.arm
    missing = dict.fromkeys(sorted(seeds), MissingFigure("not submitted"))
    for job in sorted(arm.records, key=lambda job: job.spec.seed):
        seed = job.spec.seed
        if seed not in seeds:
            continue
        if seed in arm.diverged:
            value: float | None = metric.diverged(job.spec)
        else:
            value = None if job.result is None else metric.value(job.result, curves.get(job.id, ()))
        if value is None:
            missing[seed] = _missing(job, metric)
        else:
            values[seed] = value
            del missing[seed]
    return Side(selection, values, missing, tuple(seed for seed in values if seed in arm.diverged))


def _missing(job: JobRecord, metric: Metric) -> MissingFigure:
    if job.result is not None:
        return MissingFigure(metric.missing)
    is_lost = job.status in (Status.FAILED, Status.CANCELLED)
    return MissingFigure(formatting.status(job), is_lost, not job.status.is_finished)


def _sort(sides: list[Side], metric: Metric) -> None:
    """The best mean first, or the best median where some figures are infinite; equal ones by their labels."""
    by_mean = all(side.summary is not None for side in sides if side.values)
    sign = -1 if metric.higher_is_better else 1

    def rank(side: Side) -> tuple[bool, float, str]:
        value = side.summary.mean if by_mean and side.summary else side.median
        return value is None, sign * (value or 0.0), side.label

    sides.sort(key=rank)


def _pairs_of(sides: Sequence[Side], against: str) -> list[tuple[Side, Side]]:
    pairs = list(itertools.combinations(sides, 2))
    if not against:
        return pairs
    label = find_label(against, [side.label for side in sides])
    reference = next(side for side in sides if side.label == label)
    return [(a, b) for a, b in pairs if reference is a or reference is b]


def _compared(pairs: Sequence[tuple[Side, Side]], metric: Metric) -> list[Pair]:
    seeds = [tuple(seed for seed in a.values if seed in b.values) for a, b in pairs]
    alpha = ALPHA / max(1, sum(map(bool, seeds)))
    compared = [_pair(a, b, metric, common, alpha) for (a, b), common in zip(pairs, seeds, strict=True)]
    adjusted = iter(holm([pair.paired.p_value for pair in compared if pair.paired]))
    anytime = iter(holm([pair.anytime.p for pair in compared if pair.anytime]))
    return [
        replace(
            pair,
            p_adjusted=next(adjusted) if pair.paired else pair.p_adjusted,
            anytime=replace(pair.anytime, p_adjusted=next(anytime)) if pair.anytime else None,
        )
        for pair in compared
    ]


def _pair(a: Side, b: Side, metric: Metric, seeds: tuple[int, ...], alpha: float) -> Pair:
    """The pair, tested at level `alpha`."""
    if not seeds:
        return Pair(a, b, seeds, None, 1.0)
    figures = [a.values[seed] for seed in seeds], [b.values[seed] for seed in seeds]
    is_finite = all(map(math.isfinite, itertools.chain(*figures)))
    found = (paired if is_finite else paired_by_signs)(*figures, 1 - alpha)
    advantage = found.difference if is_finite else found.better - 0.5
    if advantage and (advantage > 0) != metric.higher_is_better:
        return _pair(b, a, metric, seeds, alpha)  # b is better on the common seeds, though a is over all of its own
    pair = Pair(a, b, seeds, found, found.p_value)
    return replace(pair, anytime=_anytime(pair, is_finite, alpha))


def _anytime(pair: Pair, is_finite: bool, alpha: float) -> Anytime | None:
    if pair.a.selection.pending or pair.b.selection.pending:
        return None
    pending = [
        seed
        for side, other in ((pair.a, pair.b), (pair.b, pair.a))
        for seed, missing in side.missing.items()
        if missing.is_pending and not (seed in other.missing and other.missing[seed].is_lost)
    ]
    n = sum(seed < min(pending, default=seed + 1) for seed in pair.seeds)
    differences = pair.differences[:n]
    p = anytime_p(differences)
    interval = anytime_interval(differences, alpha) if is_finite else None
    return Anytime(n, p, p, interval if interval and interval.is_bounded else None)
