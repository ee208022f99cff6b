"""Figures of several runs summed up, by the standard library alone: `mlpq results` must not wait for scipy."""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Summary:
    """Figures of one arm over its seeds; `sd` is the sample standard deviation, None for a single seed."""

    n: int
    mean: float
    sd: float | None
    least: float
    most: float


def summarize(values: Sequence[float]) -> Summary:
    """n, mean, standard deviation (n - 1 in the denominator), least and most of at least one value."""
    return Summary(
        n=len(values),
        mean=statistics.fmean(values),
        sd=statistics.stdev(values) if len(values) > 1 else None,
        least=min(values),
        most=max(values),
    )


def best_of_k(validation: Sequence[float], test: Sequence[float]) -> list[float]:
    """The test figure to expect of the best of k settings by validation, for k = 1 … K, from one seed's K settings.

    The mean over all subsets of k settings, so k settings tried out of these K without replacement; the curve of
    Dodge et al. 2019, "Show Your Work", is the version with replacement. Higher is better: negate a loss. Of settings
    that tie in validation, each is picked as often.
    """
    tests = defaultdict(list)
    for score, figure in zip(validation, test, strict=True):
        tests[score].append(figure)
    settings = len(test)
    expected = [0.0] * settings
    upto = 0  # settings with a lower score, and then those with this score too
    for score in sorted(tests):
        below, upto = upto, upto + len(tests[score])
        for k in range(1, settings + 1):
            chance = (math.comb(upto, k) - math.comb(below, k)) / math.comb(settings, k)
            expected[k - 1] += chance * statistics.fmean(tests[score])
    return expected
