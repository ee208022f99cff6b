"""Statistics as pure functions."""

from __future__ import annotations

import statistics
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
