"""Verdicts: which arm is better and by how much, in one sentence that names the data and the metric."""

from __future__ import annotations

from collections.abc import Iterable

from mlpq import formatting
from mlpq.analysis.comparison import ALPHA, Comparison, Pair
from mlpq.analysis.inference import Interval, Paired, fewest_pairs
from mlpq.analysis.metrics import Metric

FIXED_N = "valid only if n was fixed beforehand"  # of the p-value of the sign-flip test


def overall(comparison: Comparison) -> str | None:
    """How the other arms compare with the one with the best mean; None where fewer than three arms are compared."""
    best = comparison.sides[0]
    with_best = [pair for pair in comparison.pairs if best in (pair.a, pair.b)]
    if len(with_best) < 2:
        return None
    is_running = comparison.is_running
    groups: dict[str, list[str]] = {"tied": [], "few": [], "worse": [], "better": [], "untested": []}
    for pair in with_best:
        other = pair.b if pair.a is best else pair.a
        if pair.paired is None:
            group = "untested"
        elif not is_decided(pair, is_running):
            group = "few" if pair.paired.n < fewest_pairs(ALPHA / comparison.tests) else "tied"
        else:
            group = "worse" if pair.a is best else "better"
        groups[group].append(other.label)
    sentences = {
        "tied": "not decided yet against {labels}" if is_running else "no detectable difference from {labels}",
        "few": "too few pairs to show a difference from {labels}",
        "worse": "{labels} {are} worse",
        "better": "{labels} {are} better on the common seeds",
        "untested": "{labels} {have} no seed in common with it",
    }
    parts = [
        sentences[group].format(
            labels=formatting.listed(labels),
            are="are" if len(labels) > 1 else "is",
            have="have" if len(labels) > 1 else "has",
        )
        for group, labels in groups.items()
        if labels
    ]
    average = "mean" if all(side.summary is not None for side in comparison.sides if side.values) else "median"
    data = on_data(side.spec.dataset for side in comparison.sides)
    so_far = "so far, " if is_running else ""
    return "; ".join([f"{so_far}{best.label} has the best {average} {comparison.metric.phrase} {data}", *parts])


def is_decided(pair: Pair, is_running: bool) -> bool:
    """Whether the pair differs at 5 %: by the anytime test while jobs are running, else by that of a fixed n."""
    if is_running:
        return pair.anytime is not None and pair.anytime.p_adjusted <= ALPHA
    return pair.p_adjusted <= ALPHA


def verdict(pair: Pair, metric: Metric, tests: int = 1, is_running: bool = False) -> str:
    """The verdict on one of `tests` pairs that are tested together; `is_running`: figures are still to come."""
    found, a, b = pair.paired, pair.a.label, pair.b.label
    data = on_data(side.spec.dataset for side in (pair.a, pair.b))
    if found is None:
        return f"{a} and {b} can't be compared in {metric.phrase} {data}: no seed has a figure in both"
    p_name = "p (Holm)" if tests > 1 else "p"
    figures = f"{_difference(found, metric)} {data} {_evidence(pair, metric, p_name, is_running)}{_diverged(pair)}"
    so_far = "so far, " if is_running else ""
    if is_decided(pair, is_running):
        return f"{so_far}{a} is {metric.comparative} than {b} by {figures}"
    if is_running:
        return f"not decided yet between {a} and {b}: {figures}"
    if found.n < fewest_pairs(ALPHA / tests):
        return f"undecided between {a} and {b}: {figures}; {_too_few(found, tests)}"
    equal = "" if found.difference or found.by_signs else "; the means are equal"
    return f"no detectable difference between {a} and {b}: {figures}{equal}"


def _difference(found: Paired, metric: Metric) -> str:
    """ "0.40 ± 0.21 points of test accuracy": the mean difference in favor of the first, and half the width of its t
    interval; the median where a figure is infinite."""
    spread = ""
    if found.t_simultaneous is not None:
        spread = f" ± {metric.text((found.t_simultaneous.high - found.t_simultaneous.low) / 2)}"
    amount = metric.amount(f"{metric.text(abs(found.difference))}{spread}")
    return f"{amount} (median)" if found.by_signs else amount


def _evidence(pair: Pair, metric: Metric, p_name: str, is_running: bool) -> str:
    """ "(n = 8 pairs, p = 0.008, valid only if n was fixed beforehand; anytime p = 0.02, interval 0.1 to 0.7)"."""
    assert pair.paired is not None
    parts = []
    if not is_running:
        test = "sign test, " if pair.paired.by_signs else ""
        p = p_phrase(pair.p_adjusted, p_name)
        parts.append(f"n = {formatting.count_of(pair.paired.n, 'pair')}, {test}{p}, {FIXED_N}")
    if pair.anytime is not None:
        n = f"n = {formatting.count_of(pair.anytime.n, 'pair')}, " if is_running else ""
        interval = f", interval {interval_text(pair.anytime.interval, metric)}" if pair.anytime.interval else ""
        parts.append(f"{n}anytime {p_phrase(pair.anytime.p_adjusted, p_name)}{interval}")
    elif is_running:
        parts.append("the choice of settings is not final")
    return f"({'; '.join(parts)})"


def _diverged(pair: Pair) -> str:
    """ "; 5 of 12 seeds of sgd diverged"."""
    counts = [(side, sum(seed in side.diverged for seed in pair.seeds)) for side in (pair.a, pair.b)]
    return "".join(
        f"; {count} of {formatting.count_of(len(pair.seeds), 'seed')} of {side.label} diverged"
        for side, count in counts
        if count
    )


def _too_few(found: Paired, tests: int) -> str:
    """That no figures of so many pairs could be significant, and how many could."""
    correction = f" after Holm's correction for {tests} tests" if tests > 1 else ""
    pairs = formatting.count_of(found.n, "pair")
    return f"{pairs} can't give a significant result{correction}: at least {fewest_pairs(ALPHA / tests)} are needed"


def on_data(names: Iterable[str]) -> str:
    """ "on digits": the data sets of these names."""
    return f"on {formatting.listed(list(dict.fromkeys(names)))}"


def interval_text(found: Interval, metric: Metric) -> str:
    """ "0.10 to 0.70"."""
    return f"{metric.text(found.low)} to {metric.text(found.high)}"


def p_text(p: float) -> str:
    """ "0.21", "0.004" or "< 0.001"."""
    return "< 0.001" if p < 0.001 else f"{p:.3f}" if p < 0.0995 else f"{p:.2f}"


def p_phrase(p: float, name: str = "p") -> str:
    """ "p = 0.004" or "p < 0.001"."""
    return f"{name} {p_text(p)}" if p < 0.001 else f"{name} = {p_text(p)}"
