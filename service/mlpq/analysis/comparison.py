"""Arms compared by one metric, paired by seed. Findings only: `verdicts` and `fairness` put them into sentences."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from mlpq import formatting
from mlpq.analysis.arms import Arm, arms
from mlpq.analysis.grouping import Fields, Selection, select_settings
from mlpq.analysis.inference import Interval, Paired, holm, mean_interval, paired
from mlpq.analysis.metrics import Curve, Metric
from mlpq.analysis.params import ComparisonParams
from mlpq.analysis.summary import Summary, summarize
from mlpq.errors import SpecError
from mlpq.jobs import Status
from mlpq.records import JobRecord, UnreadableJob
from mlpq.spec.job import JobSpec

ALPHA = 0.05


@dataclass(frozen=True, slots=True)
class MissingFigure:
    """Why an arm has no figure for a seed; `is_lost` where its job failed or was cancelled, so that none will come."""

    reason: str
    is_lost: bool = False


@dataclass(frozen=True, slots=True)
class Side:
    """An arm as one side of a comparison: its figures by seed, and for the comparison's other seeds why it has none."""

    selection: Selection
    values: Mapping[int, float]
    missing: Mapping[int, MissingFigure]

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
        """Of `values`; None without a figure."""
        return summarize(list(self.values.values())) if self.values else None

    @property
    def interval(self) -> Interval | None:
        """The 95 % interval of the mean (Student's t); None for fewer than two figures."""
        return mean_interval(list(self.values.values()))


@dataclass(frozen=True, slots=True)
class Pair:
    """Two sides on the seeds that both have: `a` is the one with the better mean on those.

    `paired` is None without a common seed; `p_adjusted` is Holm's p-value over all pairs of the comparison.
    `standard_error_images` of the mean difference is over new seeds and new test images, see mlpq.analysis.crossed.
    """

    a: Side
    b: Side
    seeds: tuple[int, ...]
    paired: Paired | None
    p_adjusted: float
    standard_error_images: float | None = None


@dataclass(frozen=True, slots=True)
class Comparison:
    """`sides` are in the order of their means, the best first and those without a figure last.

    `has_unselected`: settings that agree in `by` are compared by themselves, since they have no validation figures.
    `unreadable` are the jobs of the experiment that are left out because their rows can't be read.
    """

    by: Fields
    metric: Metric
    sides: tuple[Side, ...]
    pairs: tuple[Pair, ...]
    has_unselected: bool
    unreadable: tuple[UnreadableJob, ...] = ()

    @property
    def tests(self) -> int:
        """How many pairs were tested, the number for which Holm's method corrects."""
        return sum(pair.paired is not None for pair in self.pairs)


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
    selections, has_unselected = select_settings(arms(records, ancestors), by)
    seeds = {job.spec.seed for selection in selections for job in selection.arm.records}
    sides = [_side(selection, curves, metric, seeds) for selection in selections]
    sides.sort(key=lambda side: _rank(side, metric))
    to_compare = _pairs_of(sides, params.against)
    if pairs_at_most is not None and len(to_compare) > pairs_at_most:
        raise SpecError(
            f"{len(sides)} arms make {len(to_compare)} pairs, more than the {pairs_at_most} that can be compared here: "
            "group the arms by a field, such as optimizer, or compare with one arm only"
        )
    return Comparison(by, metric, tuple(sides), tuple(_compared(to_compare, metric)), has_unselected)


def _side(selection: Selection, curves: Mapping[str, Curve], metric: Metric, seeds: set[int]) -> Side:
    values: dict[int, float] = {}
    missing = dict.fromkeys(sorted(seeds), MissingFigure("not submitted"))
    for job in sorted(selection.arm.records, key=lambda job: job.spec.seed):
        value = None if job.result is None else metric.value(job.result, curves.get(job.id, ()))
        if value is None:
            missing[job.spec.seed] = _missing(job, metric)
        else:
            values[job.spec.seed] = value
            del missing[job.spec.seed]
    return Side(selection, values, missing)


def _missing(job: JobRecord, metric: Metric) -> MissingFigure:
    if job.result is not None:
        return MissingFigure(metric.missing)
    return MissingFigure(formatting.status(job), is_lost=job.status in (Status.FAILED, Status.CANCELLED))


def _rank(side: Side, metric: Metric) -> float:
    if side.summary is None:
        return float("inf")
    return -side.summary.mean if metric.higher_is_better else side.summary.mean


def _pairs_of(sides: Sequence[Side], against: str) -> list[tuple[Side, Side]]:
    pairs = list(itertools.combinations(sides, 2))
    if not against:
        return pairs
    reference = _side_with_label(against, sides)
    return [(a, b) for a, b in pairs if reference is a or reference is b]


def _compared(pairs: Sequence[tuple[Side, Side]], metric: Metric) -> list[Pair]:
    compared = [_pair(a, b, metric) for a, b in pairs]
    adjusted = iter(holm([pair.paired.p_value for pair in compared if pair.paired]))
    return [replace(pair, p_adjusted=next(adjusted)) if pair.paired else pair for pair in compared]


def _pair(a: Side, b: Side, metric: Metric) -> Pair:
    seeds = tuple(seed for seed in a.values if seed in b.values)
    if not seeds:
        return Pair(a, b, seeds, None, 1.0)
    found = paired([a.values[seed] for seed in seeds], [b.values[seed] for seed in seeds])
    if found.difference and (found.difference > 0) != metric.higher_is_better:
        return _pair(b, a, metric)  # b is better on the common seeds, though a is over all of its own
    return Pair(a, b, seeds, found, found.p_value)


def _side_with_label(label: str, sides: Sequence[Side]) -> Side:
    labels = [side.label for side in sides]
    found = [side for side in sides if side.label == label] or [side for side in sides if side.label.startswith(label)]
    if len(found) != 1:
        problem = "no arm is called" if not found else "several arms begin with"
        raise SpecError(f"{problem} '{label}': type one of {'; '.join(labels)}")
    return found[0]
