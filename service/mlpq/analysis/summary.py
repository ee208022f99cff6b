"""Summaries of the figures of several runs, without scipy: `mlpq results` must not wait until that is loaded."""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Summary:
    """The figures of one arm over its n seeds; `sd` is the sample standard deviation, None for a single seed."""

    n: int
    mean: float
    sd: float | None
    least: float
    most: float


def summarize(values: Sequence[float]) -> Summary:
    """Summarize at least one value; the standard deviation has n - 1 in the denominator."""
    return Summary(
        n=len(values),
        mean=statistics.fmean(values),
        sd=statistics.stdev(values) if len(values) > 1 else None,
        least=min(values),
        most=max(values),
    )


def best_of_k(validation: Sequence[float], test: Sequence[float]) -> list[float]:
    """The expected test figure of the best of k settings by validation, for k = 1 … K, from one seed's K settings.

    The mean over all subsets of k settings, that is, without replacement; Dodge et al. 2019, "Show Your Work", draw
    with replacement. Higher is better: negate a loss. Settings that tie in validation are equally likely to be chosen.
    """
    tests = defaultdict(list)
    for score, figure in zip(validation, test, strict=True):
        tests[score].append(figure)
    settings = len(test)
    expected = [0.0] * settings
    upto = 0  # number of settings with a score up to this one
    for score in sorted(tests):
        below, upto = upto, upto + len(tests[score])
        for k in range(1, settings + 1):
            chance = (math.comb(upto, k) - math.comb(below, k)) / math.comb(settings, k)
            expected[k - 1] += chance * statistics.fmean(tests[score])
    return expected
