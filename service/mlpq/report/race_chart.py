"""The race of a registered question as a chart: how far each arm is behind the leader, seed by seed."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import altair
from altair import Axis, Data, Scale, X, Y

from mlpq.analysis.inference import Interval
from mlpq.analysis.questions import QuestionState
from mlpq.analysis.race import Race
from mlpq.analysis.sequential import anytime_interval
from mlpq.report.drawing import PAGE, Chart, Style, colors, even_ticks, n_of, strip, titled
from mlpq.report.race_tables import label_of, leader_of, level_of, pair_of

RACE_TITLE = "Race"
MOST_BANDS = 3  # of more arms, only the last interval is drawn
MOST_INTERVALS = 60  # of a band, evenly spaced
SETTLED = 3  # pairs after which a mean may determine the scale


@dataclass(frozen=True, slots=True)
class _Run:
    """An arm behind the leader: the mean difference after 1, 2, … pairs, and the anytime intervals by pairs."""

    label: str
    means: Sequence[float]
    intervals: dict[int, Interval]

    @property
    def last(self) -> Interval:
        return self.intervals[len(self.means)]


def race_chart(state: QuestionState, among: Sequence[str] = (), style: Style = PAGE) -> Chart | None:
    """The arms against the one that leads, or that all are compared with; None before the first look.

    Colors are those in `among`.
    """
    race = state.race
    if race is None or not race.n:
        return None
    leader = leader_of(state, race)
    runs = _runs(state, race, leader)
    order = [*among, *(side.label for side in state.question.terms.sides)]
    runs.sort(key=lambda run: order.index(run.label))
    layers = _layers(state, runs, list(among) or [side.label for side in state.question.terms.sides], style)
    margin = state.question.terms.margin
    within = f" Dotted: the margin of {margin:g}." if margin else ""
    spread = "band" if len(runs) <= MOST_BANDS else "bar at the right"
    caption = (
        f"How far each arm is behind {label_of(state, leader)}: the mean over the first pairs of seeds, "
        f"{n_of([len(run.means) for run in runs])}; {spread}: its anytime {level_of(state)} interval.{within}"
    )
    return titled(altair.layer(*layers), RACE_TITLE, caption, 1.18 * style.height, style)


def _runs(state: QuestionState, race: Race, leader: int) -> list[_Run]:
    found = []
    for arm in range(len(state.settings)):
        pair = pair_of(race, arm, leader)
        if pair is None or not pair.n:
            continue
        behind = pair.differences if pair.a == leader else tuple(-each for each in pair.differences)
        sums = itertools.accumulate(behind)
        means = [each / n for n, each in enumerate(sums, 1)]
        step = max(1, math.ceil(pair.n / MOST_INTERVALS))
        looks = {*range(pair.n, 0, -step)} if len(state.settings) <= MOST_BANDS + 1 else {pair.n}
        unbounded = Interval(-math.inf, math.inf)
        intervals = {n: anytime_interval(behind[:n], pair.level) if pair.is_finite else unbounded for n in looks}
        found.append(_Run(label_of(state, arm), means, intervals))
    return found


def _layers(state: QuestionState, runs: Sequence[_Run], among: Sequence[str], style: Style) -> list[Chart]:
    most = max(len(run.means) for run in runs)
    labels = [run.label for run in runs]
    color, dash = colors(labels, among, style)
    has_bands = len(runs) <= MOST_BANDS
    right = [float(most)] * len(runs) if has_bands else strip(most, len(runs))
    x = X(
        "n:Q",
        title="pairs of seeds",
        scale=Scale(domain=[1, max(2.0, *right)], nice=False),
        axis=Axis(tickMinStep=1, values=even_ticks(most), format="d"),
    )
    domain = Scale(domain=_domain(runs, state.question.terms.margin), nice=True)
    y = Y("mean:Q", title=f"{state.metric.unit} behind", scale=domain)
    points = [{"arm": run.label, "n": n, "mean": mean} for run in runs for n, mean in enumerate(run.means, 1)]
    bounded = {run.label: {n: each for n, each in run.intervals.items() if each.is_bounded} for run in runs}
    bands = [
        {"arm": run.label, "n": n if has_bands else at, "low": each.low, "high": each.high}
        for at, run in zip(right, runs, strict=True)
        for n, each in sorted(bounded[run.label].items())
    ]
    spread = altair.Chart(Data(values=bands))
    shape = spread.mark_area(opacity=0.15, clip=True) if has_bands else spread.mark_rule(clip=True)
    ends = [{"arm": run.label, "n": len(run.means), "mean": run.means[-1]} for run in runs]
    edges = [band for band in bands if band["n"] in {end["n"] for end in ends}] if has_bands else []
    rules = [altair.Chart(Data(values=[{"mean": 0}])).mark_rule(color="#555").encode(y)]
    if margin := state.question.terms.margin:
        marks = altair.Chart(Data(values=[{"mean": margin}, {"mean": -margin}]))
        rules.append(marks.mark_rule(color="#555", strokeDash=[1, 3]).encode(y))
    return [
        *rules,
        altair.Chart(Data(values=edges)).mark_rule(clip=True).encode(x, Y("low:Q", scale=domain), color, y2="high:Q"),
        shape.encode(x, Y("low:Q", scale=domain), color, y2="high:Q"),
        altair.Chart(Data(values=points)).mark_line(clip=True).encode(x, y, color, dash),
        altair.Chart(Data(values=ends)).mark_point(filled=True, opacity=1).encode(x, y, color),
    ]


def _domain(runs: Sequence[_Run], margin: float | None) -> list[float]:
    """The figures of the axis: all last intervals, and all means but the first few, which may be anywhere."""
    ends = [end for run in runs if run.last.is_bounded for end in (run.last.low, run.last.high)]
    means = [mean for run in runs for mean in run.means[min(SETTLED, len(run.means)) - 1 :] if math.isfinite(mean)]
    found = [0.0, *ends, *means, *([margin, -margin] if margin else [])]
    return [min(found), max(found)]
