"""Verdicts: which arm is better and by how much, or how many more seeds it would take to detect a difference."""

from __future__ import annotations

from mlpq import formatting
from mlpq.analysis.comparison import ALPHA, Comparison, Pair
from mlpq.analysis.inference import Paired, fewest_pairs, pairs_needed
from mlpq.analysis.metrics import Metric

POWER = 0.8
MANY = 1000  # beyond this many more seeds, their exact number is of no use


def overall(comparison: Comparison) -> str | None:
    """How the other arms compare with the one with the best mean; None where fewer than three arms are compared."""
    best = comparison.sides[0]
    with_best = [pair for pair in comparison.pairs if best in (pair.a, pair.b)]
    if len(with_best) < 2:
        return None
    groups: dict[str, list[str]] = {"tied": [], "worse": [], "better": [], "untested": []}
    for pair in with_best:
        other = pair.b if pair.a is best else pair.a
        if pair.paired is None:
            group = "untested"
        elif pair.p_adjusted > ALPHA:
            group = "tied"
        else:
            group = "worse" if pair.a is best else "better"
        groups[group].append(other.label)
    sentences = {
        "tied": "no detectable difference from {labels}",
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
    return "; ".join([f"{best.label} has the best mean", *parts])


def verdict(pair: Pair, metric: Metric, tests: int = 1) -> str:
    """The verdict on one of `tests` pairs that are tested together."""
    found = pair.paired
    if found is None:
        return f"{pair.a.label} and {pair.b.label} can't be compared: no seed has a figure in both"
    figures = f"{_difference(found, metric)} (n = {formatting.count_of(found.n, 'pair')}, {p_phrase(pair.p_adjusted)})"
    if pair.p_adjusted <= ALPHA:
        return f"{pair.a.label} is {metric.comparative} than {pair.b.label} by {figures}"
    return f"no detectable difference between {pair.a.label} and {pair.b.label}: {figures}; {_needed(found, tests)}"


def _difference(found: Paired, metric: Metric) -> str:
    """ "0.40 ± 0.21 points": the mean difference in favor of the first, and half the width of its t interval."""
    spread = ""
    if found.t_interval is not None:
        spread = f" ± {metric.text((found.t_interval.high - found.t_interval.low) / 2)}"
    return f"{metric.text(abs(found.difference))}{spread} {metric.unit}"


def _needed(found: Paired, tests: int) -> str:
    """What it takes to detect the difference at 5 % with a power of 80 %, corrected for `tests` tests."""
    if found.n < fewest_pairs(ALPHA):
        fewest = fewest_pairs(ALPHA)
        return f"{formatting.count_of(found.n, 'pair')} can't give a significant result: at least {fewest} are needed"
    if not found.difference or not found.sd:
        return "all differences are equal" if found.difference else "the means are equal"
    needed = pairs_needed(found.difference, found.sd, POWER, ALPHA / tests)
    if needed is None or needed - found.n > MANY:
        return f"a difference this small takes more than {MANY} more seeds to detect"
    if needed <= found.n:
        return "a few more seeds may be enough"
    return f"a difference this small takes about {formatting.count_of(needed - found.n, 'more seed')} to detect"


def p_text(p: float) -> str:
    """ "0.21", "0.004" or "< 0.001"."""
    return "< 0.001" if p < 0.001 else f"{p:.3f}" if p < 0.0995 else f"{p:.2f}"


def p_phrase(p: float) -> str:
    """ "p = 0.004" or "p < 0.001"."""
    return f"p {p_text(p)}" if p < 0.001 else f"p = {p_text(p)}"
