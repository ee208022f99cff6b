"""The charts of a comparison: learning curves, paired differences, accuracy against learning rate, best of k."""

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
from mlpq.analysis.grouping import Fields, arm_label, by_label
from mlpq.analysis.metrics import Curve, Metric, percent
from mlpq.experiment import Compared
from mlpq.report.comparison_tables import shown_pairs
from mlpq.report.drawing import COLORS, Chart, colors, n_of, titled

Row = Mapping[str, Any]

FAINT_POINTS = 5000  # more make a picture slow, and a blot
ON_LOSS = "Training: the mean during each epoch. Validation and test: after it."


def charts(compared: Compared) -> list[Chart]:
    """The charts that these jobs allow."""
    return list(named_charts(compared).values())


def named_charts(compared: Compared) -> dict[str, Chart]:
    """The same, by a name that is fit for a file."""
    comparison, labels = compared.comparison, [side.label for side in compared.comparison.sides]
    found = {
        "curves": learning_curves(comparison, compared.curves),
        "differences": paired_differences(comparison),
        "rates": by_learning_rate(arms(compared.rows, compared.ancestors), labels),
        "tuning": best_of_k(compared.tuned, labels),
    }
    return {name: chart for name, chart in found.items() if chart is not None}


def job_charts(curve: Curve) -> dict[str, Chart]:
    """The losses and the accuracies of one job by epoch."""
    sides = [side for side in ("train", "validation", "test") if curve and curve[0].get(f"{side}_loss") is not None]
    losses = [
        {"arm": side, "epoch": epoch["epoch"], "value": epoch[f"{side}_loss"]} for side in sides for epoch in curve
    ]
    counted = [side for side in sides if side != "train"]
    accuracies = [
        {"arm": side, "epoch": epoch["epoch"], "value": percent(epoch, side)} for side in counted for epoch in curve
    ]
    if not curve:
        return {}
    return {
        "loss": _lines(losses, sides, sides, "Loss", "mean loss (nats)", ON_LOSS),
        "accuracy": _lines(accuracies, counted, sides, "Accuracy", "accuracy (%)", "After each epoch."),
    }


def _lines(
    points: Sequence[Row], labels: Sequence[str], among: Sequence[str], title: str, unit: str, caption: str
) -> Chart:
    color, dash = colors(labels, among)
    x, y = X("epoch:Q", title="epoch", axis=Axis(tickMinStep=1)), Y("value:Q", title=unit, scale=Scale(zero=False))
    drawn = (
        altair.Chart(Data(values=list(points)))
        .mark_line(point=len(points) < 100, strokeWidth=2)
        .encode(x, y, color, dash)
    )
    return titled(drawn, title, caption, 220)


def learning_curves(comparison: Comparison, curves: Mapping[str, Curve]) -> Chart | None:
    """Mean and band over the seeds by epoch, each seed faint."""
    figure, title = _by_epoch(comparison.metric)
    seeds = [
        {"arm": side.label, "seed": row["seed"], "epoch": epoch["epoch"], "value": value}
        for side in comparison.sides
        for row in side.arm.rows
        if row["seed"] in side.values
        for epoch in curves.get(row["id"], ())
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


def curves_so_far(rows: Sequence[Row], by: Fields, curves: Mapping[str, Curve], metric: Metric) -> Chart | None:
    """The curves of jobs that still train among the others, by what `by` tells apart; without it, by optimizer."""
    figure, title = _by_epoch(metric)
    fields = by or ("optimizer",)
    points = [
        {"arm": by_label(row, fields), "seed": row["id"], "epoch": epoch["epoch"], "value": value}
        for row in rows
        for epoch in curves.get(row["id"], ())
        if (value := figure(epoch)) is not None
    ]
    if not points:
        return None
    together = _by_arm_and_epoch(points)
    labels = sorted({arm for arm, _ in together})
    n = n_of([len(values) for values in together.values()])
    faint, thin = _faint(points, "job")
    caption = f"All jobs, as far as they have come: mean, {n}; band: ± 1 standard deviation{thin}."
    return titled(_curves(faint, together, labels, title), "Training now", caption, 220)


def _faint(points: Sequence[Row], of: str) -> tuple[Sequence[Row], str]:
    """What is drawn of each by itself, and the caption's words for it."""
    return (points, f"; thin: each {of}") if len(points) <= FAINT_POINTS else ((), "")


def _by_arm_and_epoch(points: Sequence[Row]) -> dict[tuple[str, int], list[float]]:
    together: dict[tuple[str, int], list[float]] = {}
    for point in points:
        together.setdefault((point["arm"], point["epoch"]), []).append(point["value"])
    return together


def _curves(
    seeds: Sequence[Row], together: Mapping[tuple[str, int], list[float]], labels: Sequence[str], title: str
) -> Chart:
    """Mean and band of what is `together`, and each of `seeds` faint."""
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
    """The differences by seed of each pair that is shown, their mean and its 95 % interval."""
    points, means, labels = [], [], []
    for pair in shown_pairs(comparison):
        if pair.paired is not None and pair.paired.t_interval is not None:
            label = f"{pair.a.label} − {pair.b.label} (n = {pair.paired.n})"
            interval = pair.paired.t_interval
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
    caption = "Ticks: each seed. Dot and bar: the mean and its 95 % interval (Student's t, each by itself)."
    return titled(layers, "Paired differences", caption, altair.Step(24))


def by_learning_rate(found: Sequence[Arm], among: Sequence[str] = ()) -> Chart | None:
    """Final test accuracy against the learning rate, for optimizers that were tried at several."""
    together: dict[str, dict[float, list[float]]] = {}
    for arm in found:
        values = [value for row in arm.rows if (value := percent(row, "test")) is not None]
        if values and arm.parent is None:
            rates = together.setdefault(arm_label(arm, found, formatting.optimizer_without_rate), {})
            rates.setdefault(arm.first["lr"], []).extend(values)
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
    """Expected test accuracy of the best of k settings, chosen by validation accuracy."""
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
    caption = f"Best by validation accuracy, shown on the test set: mean ± 1 sd over the seeds, {n}."
    return titled(layers, "What tuning buys", caption, 220)


def _by_epoch(metric: Metric) -> tuple[Callable[[Row], float | None], str]:
    """What the curves show, and what it is called."""
    if metric.name == "loss":
        return lambda epoch: float(epoch["test_loss"]), metric.title
    side = "validation" if metric.name == "validation" else "test"
    return lambda epoch: percent(epoch, side), f"{side} accuracy (%)"


def _band(values: Sequence[float]) -> dict[str, float]:
    return _ends(statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None)


def _ends(mean: float, sd: float | None) -> dict[str, float]:
    return {"mean": mean, "low": mean - (sd or 0), "high": mean + (sd or 0)}
