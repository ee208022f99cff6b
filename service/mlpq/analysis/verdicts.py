"""Verdicts in words: which arm is better and by how much, or how many more seeds it would take to tell."""

from __future__ import annotations

from mlpq import formatting
from mlpq.analysis.comparison import ALPHA, Comparison, Pair
from mlpq.analysis.inference import Paired, fewest_pairs, pairs_needed
from mlpq.analysis.metrics import Metric

POWER = 0.8
MANY = 1000  # more seeds than anybody will file for one answer


def overall(comparison: Comparison) -> str | None:
    """Which arms can't be told from the one with the best mean, and which can; None for fewer than three."""
    best = comparison.sides[0]
    with_best = [pair for pair in comparison.pairs if best in (pair.a, pair.b)]
    if len(with_best) < 2:
        return None
    groups: dict[str, list[str]] = {"tied": [], "worse": [], "better": [], "untested": []}
    for pair in with_best:
        other = pair.b if pair.a is best else pair.a
        told = "tied" if pair.p_adjusted > ALPHA else "worse" if pair.a is best else "better"
        groups[told if pair.paired else "untested"].append(other.label)
    sentences = {
        "tied": "{} can't be told from it",
        "worse": "{} {} worse",
        "better": "{} {} better on the seeds that both have",
        "untested": "{} can't be compared with it",
    }
    parts = [
        sentences[name].format(formatting.listed(labels), "are" if len(labels) > 1 else "is")
        for name, labels in groups.items()
        if labels
    ]
    return "; ".join([f"{best.label} has the best mean", *parts])


def verdict(pair: Pair, metric: Metric, tests: int = 1) -> str:
    """The verdict on one of so many pairs that are tested at once."""
    found = pair.paired
    if found is None:
        return f"can't compare {pair.a.label} and {pair.b.label}: no seed has a figure in both"
    figures = f"{_difference(found, metric)} (n = {formatting.count_of(found.n, 'pair')}, {p_phrase(pair.p_adjusted)})"
    if pair.p_adjusted <= ALPHA:
        return f"{pair.a.label} is {metric.comparative} than {pair.b.label} by {figures}"
    return f"can't tell {pair.a.label} from {pair.b.label}: {figures}; {_needed(found, tests)}"


def _difference(found: Paired, metric: Metric) -> str:
    """ "0.40 ± 0.21 points": the mean difference in favour of the first, and half the width of its t interval."""
    spread = ""
    if found.t_interval is not None:
        spread = f" ± {metric.text((found.t_interval.high - found.t_interval.low) / 2)}"
    return f"{metric.text(abs(found.difference))}{spread} {metric.unit}"


def _needed(found: Paired, tests: int) -> str:
    """What it would take to tell, at 5 % and with a power of 80 %, after the correction for so many tests."""
    if found.n < fewest_pairs(ALPHA):
        return f"no result of {formatting.count_of(found.n, 'pair')} could: at least {fewest_pairs(ALPHA)} are needed"
    if not found.difference or not found.sd:
        return "the differences are all equal" if found.difference else "the means are equal"
    needed = pairs_needed(found.difference, found.sd, POWER, ALPHA / tests)
    if needed is None or needed - found.n > MANY:
        return f"more than {MANY} more seeds would be needed for a difference this small"
    if needed <= found.n:
        return "a few more seeds may tell"
    return f"about {formatting.count_of(needed - found.n, 'more seed')} would be needed for a difference this small"


def p_text(p: float) -> str:
    """ "0.21", "0.004" or "< 0.001"."""
    return "< 0.001" if p < 0.001 else f"{p:.3f}" if p < 0.0995 else f"{p:.2f}"


def p_phrase(p: float) -> str:
    """ "p = 0.004" or "p < 0.001"."""
    return f"p {p_text(p)}" if p < 0.001 else f"p = {p_text(p)}"
