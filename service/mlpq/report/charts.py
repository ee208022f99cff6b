"""The charts of a comparison and of a job, for pages and files."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import altair
from altair import Axis, Data, Scale, X, Y

from mlpq import formatting
from mlpq.analysis.arms import Arm, arms
from mlpq.analysis.best_of_k import BestOf
from mlpq.analysis.comparison import Comparison
from mlpq.analysis.experiment_comparison import ExperimentComparison
from mlpq.analysis.grouping import Fields, arm_label, by_label
from mlpq.analysis.metrics import Curve, Metric, percent_on_test, percent_on_validation
from mlpq.records import EpochMetrics, JobRecord
from mlpq.report.comparison_tables import level_text, shown_pairs
from mlpq.report.drawing import COLORS, Chart, colors, n_of, titled

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
LOSS_CAPTION = "Training: the mean during each epoch. Validation and test: after it."


def charts(compared: ExperimentComparison) -> list[Chart]:
    """The charts that the jobs of an experiment allow."""
    return list(named_charts(compared).values())


def named_charts(compared: ExperimentComparison) -> dict[str, Chart]:
    """The same, by their names in CHART_TITLES."""
    comparison, labels = compared.comparison, [side.label for side in compared.comparison.sides]
    found = {
        "curves": learning_curves(comparison, compared.curves),
        "differences": paired_differences(comparison),
        "rates": by_learning_rate(arms(compared.records, compared.ancestors), labels),
        "tuning": best_of_k(compared.tuned, labels),
    }
    assert found.keys() == CHART_TITLES.keys(), "each chart has a title"
    return {name: chart for name, chart in found.items() if chart is not None}


def job_charts(curve: Curve) -> dict[str, Chart]:
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
        "loss": _lines(losses, (splits, splits), "Loss", "mean loss (nats)", LOSS_CAPTION),
        "accuracy": _lines(accuracies, (counted, splits), "Accuracy", "accuracy (%)", "After each epoch."),
    }
    assert found.keys() == JOB_CHART_TITLES.keys(), "each chart has a title"
    return found


def _points(
    curve: Curve, figures: Mapping[str, Callable[[EpochMetrics], float | None]], splits: Sequence[str]
) -> list[Point]:
    return [{"arm": split, "epoch": epoch.epoch, "value": figures[split](epoch)} for split in splits for epoch in curve]


def _lines(
    points: Sequence[Point], labels: tuple[Sequence[str], Sequence[str]], title: str, unit: str, caption: str
) -> Chart:
    """A line for each of the first labels, in the colors that they have among the second."""
    color, dash = colors(*labels)
    x, y = X("epoch:Q", title="epoch", axis=Axis(tickMinStep=1)), Y("value:Q", title=unit, scale=Scale(zero=False))
    drawn = (
        altair.Chart(Data(values=list(points)))
        .mark_line(point=len(points) < 100, strokeWidth=2)
        .encode(x, y, color, dash)
    )
    return titled(drawn, title, caption, 220)


def learning_curves(comparison: Comparison, curves: Mapping[str, Curve]) -> Chart | None:
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
    faint, thin = _faint(seeds, "seed")
    caption = f"Mean over the seeds, {n}; band: ± 1 standard deviation{thin}."
    labels = [side.label for side in comparison.sides]
    return titled(_curves(faint, together, labels, title), "Learning curves", caption, 260)


def curves_so_far(
    records: Sequence[JobRecord], by: Fields, curves: Mapping[str, Curve], metric: Metric
) -> Chart | None:
    """The learning curves of all jobs, running ones too, grouped by the fields `by` or else by optimizer.

    None without an epoch; `curves` are by job id.
    """
    figure, title = metric.curve, metric.curve_title
    fields = by or ("optimizer",)
    points = [
        {"arm": by_label(job.spec, fields), "seed": job.id, "epoch": epoch.epoch, "value": value}
        for job in records
        for epoch in curves.get(job.id, ())
        if (value := figure(epoch)) is not None
    ]
    if not points:
        return None
    together = _by_arm_and_epoch(points)
    labels = sorted({arm for arm, _ in together})
    n = n_of([len(values) for values in together.values()])
    faint, thin = _faint(points, "job")
    caption = f"All jobs up to their latest epoch: mean, {n}; band: ± 1 standard deviation{thin}."
    return titled(_curves(faint, together, labels, title), "Training now", caption, 220)


def _faint(points: Sequence[Point], of: str) -> tuple[Sequence[Point], str]:
    """The points of the thin lines, and their description in the caption; none where they are too many."""
    return (points, f"; thin: each {of}") if len(points) <= FAINT_POINTS else ((), "")


def _by_arm_and_epoch(points: Sequence[Point]) -> dict[tuple[str, int], list[float]]:
    together: dict[tuple[str, int], list[float]] = {}
    for point in points:
        together.setdefault((point["arm"], point["epoch"]), []).append(point["value"])
    return together


def _curves(
    seeds: Sequence[Point], together: Mapping[tuple[str, int], list[float]], labels: Sequence[str], title: str
) -> Chart:
    """Mean and band of the values of each arm and epoch in `together`, and a thin line for each of `seeds`."""
    means = [{"arm": arm, "epoch": epoch, **_band(values)} for (arm, epoch), values in sorted(together.items())]
    color, dash = colors([label for label in labels if any(arm == label for arm, _ in together)], labels)
    x = X("epoch:Q", title="epoch", axis=Axis(tickMinStep=1))
    each = altair.Chart(Data(values=list(seeds))).mark_line(opacity=0.25, strokeWidth=0.7)
    base = altair.Chart(Data(values=means))
    return altair.layer(
        base.mark_area(opacity=0.15).encode(x, Y("low:Q"), color, y2="high:Q"),
        each.encode(x, Y("value:Q"), color, dash, detail="seed:N"),
        base.mark_line(strokeWidth=2).encode(x, Y("mean:Q", title=title, scale=Scale(zero=False)), color, dash),
    )


def paired_differences(comparison: Comparison) -> Chart | None:
    """The differences by seed of each pair that is shown, their mean and its interval."""
    points: list[Point] = []
    means: list[Point] = []
    labels: list[str] = []
    for pair in shown_pairs(comparison):
        if pair.paired is not None and pair.paired.t_simultaneous is not None:
            label = f"{pair.a.label} − {pair.b.label} (n = {pair.paired.n})"
            interval = pair.paired.t_simultaneous
            labels.append(label)
            points += [{"pair": label, "value": pair.a.values[seed] - pair.b.values[seed]} for seed in pair.seeds]
            means.append({"pair": label, "mean": pair.paired.difference, "low": interval.low, "high": interval.high})
    if not labels:
        return None
    title = f"difference in {comparison.metric.title.replace('(%)', '(points)')}"
    y = Y("pair:N", title=None, sort=labels, axis=Axis(labelLimit=330))
    base = altair.Chart(Data(values=means))
    zero = altair.Chart(Data(values=[{"zero": 0}])).mark_rule(color="#888", strokeDash=[4, 3])
    ticks = altair.Chart(Data(values=points)).mark_tick(opacity=0.5, thickness=1.5, color=COLORS[0])
    layers = altair.layer(
        zero.encode(X("zero:Q")),
        ticks.encode(X("value:Q", title=title), y),
        base.mark_rule(strokeWidth=2, color=COLORS[1]).encode(X("low:Q"), y, x2="high:Q"),
        base.mark_point(filled=True, size=60, color=COLORS[1], opacity=1).encode(X("mean:Q"), y),
    )
    level = f"{level_text(comparison)} % interval (Student's t)"
    caption = f"Ticks: each seed. Dot and bar: the mean and its {level}."
    return titled(layers, "Paired differences", caption, altair.Step(24))


def by_learning_rate(found: Sequence[Arm], among: Sequence[str] = ()) -> Chart | None:
    """Final test accuracy against the learning rate, for optimizers with several; colors are those in `among`."""
    together: dict[str, dict[float, list[float]]] = {}
    for arm in found:
        values = [percent_on_test(job.result) for job in arm.records if job.result is not None]
        if values and arm.parent is None:
            rates = together.setdefault(arm_label(arm, found, formatting.optimizer_without_rate), {})
            rates.setdefault(arm.spec.lr, []).extend(values)
    together = {name: rates for name, rates in together.items() if len(rates) > 1}
    if not together:
        return None
    points = [
        {"arm": name, "lr": rate, **_band(values)}
        for name, rates in together.items()
        for rate, values in sorted(rates.items())
    ]
    color, dash = colors(list(together), among)
    ticks = Axis(values=sorted({rate for rates in together.values() for rate in rates}), format="~g", labelOverlap=True)
    x = X("lr:Q", title="learning rate (log scale)", scale=Scale(type="log", nice=False, padding=12), axis=ticks)
    y = Y("mean:Q", title="test accuracy (%)", scale=Scale(zero=False))
    base = altair.Chart(Data(values=points))
    layers = altair.layer(
        base.mark_rule(strokeWidth=1.5).encode(x, Y("low:Q"), color, y2="high:Q"),
        base.mark_line(point=True, strokeWidth=2).encode(x, y, color, dash),
    )
    n = n_of([len(values) for rates in together.values() for values in rates.values()])
    caption = f"Mean and ± 1 standard deviation over the seeds, {n} at each rate."
    return titled(layers, "Accuracy against learning rate", caption, 220)


def best_of_k(tuned: Sequence[BestOf], among: Sequence[str] = ()) -> Chart | None:
    """Expected test accuracy of the best of k settings by validation accuracy; colors are those in `among`."""
    tuned = [each for each in tuned if each.expected]
    if not tuned:
        return None
    points = [
        {"arm": each.optimizer, "k": k, **_ends(summary.mean, summary.sd)}
        for each in tuned
        for k, summary in enumerate(each.expected, 1)
    ]
    color, dash = colors([each.optimizer for each in tuned], among)
    x = X("k:Q", title="settings tried", axis=Axis(tickMinStep=1), scale=Scale(nice=False))
    y = Y("mean:Q", title="expected test accuracy (%)", scale=Scale(zero=False))
    base = altair.Chart(Data(values=points))
    layers = altair.layer(
        base.mark_area(opacity=0.15).encode(x, Y("low:Q"), color, y2="high:Q"),
        base.mark_line(point=True, strokeWidth=2).encode(x, y, color, dash),
    )
    n = n_of([len(each.seeds) for each in tuned])
    caption = f"The best setting by validation accuracy: mean ± 1 sd over the seeds, {n}."
    return titled(layers, BEST_OF_K_TITLE, caption, 220)


def _band(values: Sequence[float]) -> dict[str, float]:
    return _ends(statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None)


def _ends(mean: float, sd: float | None) -> dict[str, float]:
    return {"mean": mean, "low": mean - (sd or 0), "high": mean + (sd or 0)}
