"""The charts of a comparison and of a job, for pages and files."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import altair
from altair import Axis, Data, Scale, X, Y

from mlpq.analysis.arms import Arm, arms
from mlpq.analysis.best_of_k import BestOf
from mlpq.analysis.comparison import Comparison
from mlpq.analysis.experiment_comparison import ExperimentComparison
from mlpq.analysis.grouping import Fields, by_label
from mlpq.analysis.labels import arm_labels, spec_labels
from mlpq.analysis.metrics import Curve, Metric, percent_on_test, percent_on_validation
from mlpq.records import EpochMetrics, JobRecord
from mlpq.report.chart_text import pair_labels
from mlpq.report.comparison_tables import level_text, shown_pairs
from mlpq.report.drawing import COLORS, LOOKS, PAGE, Chart, Style, colors, even_ticks, n_of, strip, titled

Point = dict[str, Any]  # a datum of a Vega-Lite chart: JSON

# Alternative texts of the charts, by their names.
CHART_TITLES = {
    "curves": "Learning curves: mean and band over the seeds, by epoch",
    "differences": "Paired differences: each seed, their mean and its interval",
    "rates": "Accuracy against the learning rate",
    "tuning": "Expected accuracy of the best of k settings",
}
JOB_CHART_TITLES = {"loss": "Loss by epoch", "accuracy": "Accuracy by epoch"}
CURVES_SO_FAR_TITLE = "Learning curves of all jobs, running and finished, by epoch"
BEST_OF_K_TITLE = "Expected best of k settings"

FAINT_POINTS = 5000  # beyond this many, thin lines are slow to draw and cover each other
MOST_BANDS = 5  # of learning curves; more cover each other
LOSS_CAPTION = "Training: the mean during each epoch. Validation and test: after it."


def charts(compared: ExperimentComparison, style: Style = PAGE) -> list[Chart]:
    """The charts that the jobs of an experiment allow."""
    return list(named_charts(compared, style).values())


def named_charts(compared: ExperimentComparison, style: Style = PAGE) -> dict[str, Chart]:
    """The same, by their names in CHART_TITLES."""
    found = {name: named_chart(compared, name, style) for name in CHART_TITLES}
    return {name: chart for name, chart in found.items() if chart is not None}


def named_chart(compared: ExperimentComparison, name: str, style: Style = PAGE) -> Chart | None:
    """The chart of that name in CHART_TITLES; None where the jobs do not allow it."""
    comparison, labels = compared.comparison, [side.label for side in compared.comparison.sides]
    match name:
        case "curves":
            return learning_curves(comparison, compared.curves, style)
        case "differences":
            return paired_differences(comparison, style)
        case "rates":
            return by_learning_rate(arms(compared.records, compared.ancestors), labels, style)
        case "tuning":
            return best_of_k(compared.tuned, labels, style)
    raise AssertionError(f"there is no chart {name}")


def job_charts(curve: Curve, style: Style = PAGE) -> dict[str, Chart]:
    """The losses and the accuracies of one job by epoch, by their names in JOB_CHART_TITLES; empty without an epoch."""
    if not curve:
        return {}
    loss: dict[str, Callable[[EpochMetrics], float | None]] = {
        "train": lambda epoch: epoch.train_loss,
        "validation": lambda epoch: epoch.validation_loss,
        "test": lambda epoch: epoch.test_loss,
    }
    accuracy: dict[str, Callable[[EpochMetrics], float | None]] = {
        "validation": percent_on_validation,
        "test": percent_on_test,
    }
    splits = [split for split in loss if loss[split](curve[0]) is not None]
    counted = [split for split in splits if split in accuracy]
    losses, accuracies = _points(curve, loss, splits), _points(curve, accuracy, counted)
    found = {
        "loss": _lines(losses, (splits, splits), ("Loss", "mean loss (nats)", LOSS_CAPTION), style),
        "accuracy": _lines(accuracies, (counted, splits), ("Accuracy", "accuracy (%)", "After each epoch."), style),
    }
    assert found.keys() == JOB_CHART_TITLES.keys(), "each chart has a title"
    return found


def _points(
    curve: Curve, figures: Mapping[str, Callable[[EpochMetrics], float | None]], splits: Sequence[str]
) -> list[Point]:
    return [{"arm": split, "epoch": epoch.epoch, "value": figures[split](epoch)} for split in splits for epoch in curve]


def _lines(
    points: Sequence[Point], labels: tuple[Sequence[str], Sequence[str]], texts: tuple[str, str, str], style: Style
) -> Chart:
    """A line for each of the first labels, in the colors that they have among the second.

    `texts` are the title, the unit and the caption.
    """
    title, unit, caption = texts
    color, dash = colors(*labels, style)
    x, y = X("epoch:Q", title="epoch", axis=Axis(tickMinStep=1)), Y("value:Q", title=unit, scale=Scale(zero=False))
    drawn = altair.Chart(Data(values=list(points))).mark_line(point=len(points) < 100).encode(x, y, color, dash)
    return titled(drawn, title, caption, style.height, style)


def learning_curves(comparison: Comparison, curves: Mapping[str, Curve], style: Style = PAGE) -> Chart | None:
    """Mean and band over the seeds by epoch, and a thin line for each seed; `curves` are by job id."""
    figure, title = comparison.metric.curve, comparison.metric.curve_title
    seeds = [
        {"arm": side.label, "seed": job.spec.seed, "epoch": epoch.epoch, "value": value}
        for side in comparison.sides
        for job in side.arm.records
        if job.spec.seed in side.values
        for epoch in curves.get(job.id, ())
        if (value := figure(epoch)) is not None
    ]
    if not seeds:
        return None
    together = _by_arm_and_epoch(seeds)
    n = n_of([len(values) for values in together.values()])
    labels = [side.label for side in comparison.sides]
    drawn, spread = _curves(seeds, together, labels, title, style)
    caption = f"Mean over the seeds, {n}; {spread.format('seed')}."
    return titled(drawn, "Learning curves", caption, 1.18 * style.height, style)


def curves_so_far(
    records: Sequence[JobRecord], by: Fields, curves: Mapping[str, Curve], metric: Metric, style: Style = PAGE
) -> Chart | None:
    """The learning curves of all jobs, running ones too, grouped by the fields `by` or else by arm.

    Arms too many to be told apart are grouped by optimizer. None without an epoch; `curves` are by job id.
    """
    figure, title = metric.curve, metric.curve_title
    specs = [job.spec for job in records]
    labels = [by_label(spec, by, specs) for spec in specs] if by else spec_labels(specs)
    if not by and len({*labels}) > LOOKS:
        labels = [by_label(spec, ("optimizer",)) for spec in specs]
    points = [
        {"arm": label, "seed": job.id, "epoch": epoch.epoch, "value": value}
        for job, label in zip(records, labels, strict=True)
        for epoch in curves.get(job.id, ())
        if (value := figure(epoch)) is not None
    ]
    if not points:
        return None
    together = _by_arm_and_epoch(points)
    drawn, spread = _curves(points, together, sorted({arm for arm, _ in together}), title, style)
    n = n_of([len(values) for values in together.values()])
    caption = f"All jobs up to their latest epoch: mean, {n}; {spread.format('job')}."
    return titled(drawn, "Training now", caption, style.height, style)


def _by_arm_and_epoch(points: Sequence[Point]) -> dict[tuple[str, int], list[float]]:
    together: dict[tuple[str, int], list[float]] = {}
    for point in points:
        together.setdefault((point["arm"], point["epoch"]), []).append(point["value"])
    return together


def _curves(
    seeds: Sequence[Point],
    together: Mapping[tuple[str, int], list[float]],
    labels: Sequence[str],
    title: str,
    style: Style,
) -> tuple[Chart, str]:
    """Mean and spread of the values of each arm and epoch in `together`, and what the caption says of the spread.

    The spread is a band around few lines, and a bar at the end of each of many; on a page there is a thin line for each
    of `seeds` too.
    """
    means = [{"arm": arm, "epoch": epoch, **_band(values)} for (arm, epoch), values in sorted(together.items())]
    shown = [label for label in labels if any(arm == label for arm, _ in together)]
    color, dash = colors(shown, labels, style)
    x = X("epoch:Q", title="epoch", axis=Axis(tickMinStep=1))
    y = Y("mean:Q", title=title, scale=Scale(zero=False))
    base = altair.Chart(Data(values=means))
    lines = base.mark_line().encode(x, y, color, dash)
    if len(shown) > MOST_BANDS:
        return _with_bars(means, shown, (color, dash), y), "bar at the right: ± 1 standard deviation at the end"
    layers = [base.mark_area(opacity=0.15).encode(x, Y("low:Q"), color, y2="high:Q"), lines]
    if style.fits or len(seeds) > FAINT_POINTS:
        return altair.layer(*layers), "band: ± 1 standard deviation"
    each = altair.Chart(Data(values=list(seeds))).mark_line(opacity=0.25, strokeWidth=0.7)
    layers.insert(1, each.encode(x, Y("value:Q"), color, dash, detail="seed:N"))
    return altair.layer(*layers), "band: ± 1 standard deviation; thin: each {}"


def _with_bars(means: Sequence[Point], labels: Sequence[str], looks: tuple[Any, Any], y: Any) -> Chart:
    """The lines of many arms, and to the right of them the spread at the end of each."""
    color, dash = looks
    last = max(mean["epoch"] for mean in means)
    ends = {mean["arm"]: mean for mean in means}  # the last of each arm
    right = strip(last, len(labels))
    bars = [{**ends[label], "epoch": at} for label, at in zip(labels, right, strict=True)]
    domain = Scale(domain=[min(1, last - 1), right[-1]], nice=False)
    x = X("epoch:Q", title="epoch", scale=domain, axis=Axis(values=even_ticks(last), format="d"))
    return altair.layer(
        altair.Chart(Data(values=list(means))).mark_line().encode(x, y, color, dash),
        altair.Chart(Data(values=bars)).mark_rule().encode(x, Y("low:Q"), color, y2="high:Q"),
    )


def paired_differences(comparison: Comparison, style: Style = PAGE) -> Chart | None:
    """The differences by seed of each pair that is shown, their mean and its interval."""
    pairs = [
        (pair, pair.paired.difference, pair.paired.t_simultaneous)
        for pair in shown_pairs(comparison)
        if pair.paired is not None and pair.paired.t_simultaneous is not None
    ]
    if not pairs:
        return None
    counts = [len(pair.seeds) for pair, _, _ in pairs]
    own_n = [f" (n = {n})" if min(counts) < max(counts) else "" for n in counts]
    names = [(pair.a.label, f"{pair.b.label}{n}") for (pair, _, _), n in zip(pairs, own_n, strict=True)]
    found = pair_labels(names, style.label_room, style.labels)
    points: list[Point] = []
    means: list[Point] = []
    for label, (pair, mean, interval) in zip(found.labels, pairs, strict=True):
        points += [{"pair": label, "value": pair.a.values[seed] - pair.b.values[seed]} for seed in pair.seeds]
        means.append({"pair": label, "mean": mean, "low": interval.low, "high": interval.high})
    x = X(
        "value:Q",
        scale=Scale(padding=0.5 * style.labels),
        title=f"difference in {comparison.metric.title.replace('(%)', '(points)')}",
    )
    shift = -0.5 * (found.lines - 1) * style.labels
    lines = Axis(labelExpr="split(datum.label, '\\n')", labelOffset=shift, labelOverlap=False)
    y = Y("pair:N", title=None, sort=list(found.labels), axis=lines)
    base = altair.Chart(Data(values=means))
    zero = altair.Chart(Data(values=[{"zero": 0}])).mark_rule(color="#888", strokeDash=[4, 3])
    ticks = altair.Chart(Data(values=points)).mark_tick(
        opacity=0.5, thickness=0.75 * style.line, size=1.2 * style.labels, color=COLORS[0]
    )
    layers = altair.layer(
        zero.encode(X("zero:Q")),
        ticks.encode(x, y),
        base.mark_rule(strokeWidth=style.line, color=COLORS[1]).encode(X("low:Q"), y, x2="high:Q"),
        base.mark_point(filled=True, size=30 * style.line, color=COLORS[1], opacity=1).encode(X("mean:Q"), y),
    )
    level = f"{level_text(comparison)} % interval (Student's t)"
    caption = f"Ticks: each seed, {n_of(counts)}. Dot and bar: the mean and its {level}."
    return titled(layers, "Paired differences", caption, style.step(found.lines), style, found.key)


def by_learning_rate(found: Sequence[Arm], among: Sequence[str] = (), style: Style = PAGE) -> Chart | None:
    """Final test accuracy against the learning rate, for optimizers with several; colors are those in `among`."""
    groups: dict[str, list[Arm]] = {}
    for arm, label in zip(found, arm_labels(found, without=("lr",)), strict=True):
        if arm.parent is None and any(job.result is not None for job in arm.records):
            groups.setdefault(label, []).append(arm)
    drawn = [arm for arms in groups.values() if len({arm.spec.lr for arm in arms}) > 1 for arm in arms]
    together: dict[str, dict[float, list[float]]] = {}
    for arm, label in zip(drawn, arm_labels(drawn, without=("lr",)), strict=True):
        values = [percent_on_test(job.result) for job in arm.records if job.result is not None]
        together.setdefault(label, {}).setdefault(arm.spec.lr, []).extend(values)
    if not together:
        return None
    points = [
        {"arm": name, "lr": rate, **_band(values)}
        for name, rates in together.items()
        for rate, values in sorted(rates.items())
    ]
    color, dash = colors(list(together), among, style)
    ticks = Axis(values=sorted({rate for rates in together.values() for rate in rates}), format="~g", labelOverlap=True)
    x = X(
        "lr:Q",
        title="learning rate (log scale)",
        scale=Scale(type="log", nice=False, padding=6 * style.line),
        axis=ticks,
    )
    y = Y("mean:Q", title="test accuracy (%)", scale=Scale(zero=False))
    base = altair.Chart(Data(values=points))
    layers = altair.layer(
        base.mark_rule().encode(x, Y("low:Q"), color, y2="high:Q"),
        base.mark_line(point=True).encode(x, y, color, dash),
    )
    n = n_of([len(values) for rates in together.values() for values in rates.values()])
    caption = f"Mean and ± 1 standard deviation over the seeds, {n} at each rate."
    return titled(layers, "Accuracy against learning rate", caption, style.height, style)


def best_of_k(tuned: Sequence[BestOf], among: Sequence[str] = (), style: Style = PAGE) -> Chart | None:
    """Expected test accuracy of the best of k settings by validation accuracy; colors are those in `among`."""
    tuned = [each for each in tuned if each.expected]
    if not tuned:
        return None
    points = [
        {"arm": each.optimizer, "k": k, **_ends(summary.mean, summary.sd)}
        for each in tuned
        for k, summary in enumerate(each.expected, 1)
    ]
    color, dash = colors([each.optimizer for each in tuned], among, style)
    ticks = Axis(values=even_ticks(max(len(each.expected) for each in tuned)), format="d")
    x = X("k:Q", title="settings tried", axis=ticks, scale=Scale(nice=False))
    y = Y("mean:Q", title="expected test accuracy (%)", scale=Scale(zero=False))
    base = altair.Chart(Data(values=points))
    layers = altair.layer(
        base.mark_area(opacity=0.15).encode(x, Y("low:Q"), color, y2="high:Q"),
        base.mark_line(point=True).encode(x, y, color, dash),
    )
    n = n_of([len(each.seeds) for each in tuned])
    caption = f"The best setting by validation accuracy: mean ± 1 sd over the seeds, {n}."
    return titled(layers, BEST_OF_K_TITLE, caption, style.height, style)


def _band(values: Sequence[float]) -> dict[str, float]:
    return _ends(statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None)


def _ends(mean: float, sd: float | None) -> dict[str, float]:
    return {"mean": mean, "low": mean - (sd or 0), "high": mean + (sd or 0)}
