"""The choice of the best of several settings on some seeds, and how certain it is. Pure.

The seeds that choose must not be those on which the chosen setting is compared: the luck by which it was chosen would
count in its favor (the winner's curse).
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

LEAST_SEEDS = 3  # that choose
RESAMPLES = 1_999


@dataclass(frozen=True, slots=True)
class Choice:
    """Which of several settings has the best mean score over `seeds`; settings are numbered from 0.

    `runner_up` has the second best mean, `margin` below that of `best`, in the unit of the scores. `shares` has for
    each setting in which share of resamples of the seeds its mean is the best, from 0 to 1; settings that tie share.
    """

    best: int
    runner_up: int
    margin: float
    shares: tuple[float, ...]
    seeds: tuple[int, ...]


def choose(scores: Sequence[Mapping[int, float]], seeds: Sequence[int]) -> Choice:
    """Choose among at least two settings with a score, higher is better, for each of `seeds`; the first of equal ones.

    Deterministic: seeds are resampled with replacement (the bootstrap of Efron 1979) by a generator with a fixed seed.
    """
    import numpy as np  # here: commands that choose nothing must not wait for it

    table = np.array([[setting[seed] for seed in seeds] for setting in scores])
    means = [statistics.fmean(row) for row in table.tolist()]
    best, runner_up, *_ = sorted(range(len(means)), key=lambda setting: -means[setting])
    counts = np.random.default_rng(0).multinomial(len(seeds), [1 / len(seeds)] * len(seeds), size=RESAMPLES)
    resampled = counts @ table.T / len(seeds)
    # Means of equal figures, summed in another order, differ by rounding.
    wins = resampled >= resampled.max(axis=1, keepdims=True) - 1e-12 * np.abs(table).max()
    shares = (wins / wins.sum(axis=1, keepdims=True)).mean(axis=0)
    return Choice(best, runner_up, means[best] - means[runner_up], tuple(shares.tolist()), tuple(seeds))


def choosing_seeds(common: Sequence[int]) -> tuple[int, ...]:
    """The seeds that choose, of those that all settings have: the first half, but at least LEAST_SEEDS."""
    return tuple(sorted(common)[: max(LEAST_SEEDS, len(common) // 2)])


def seeds_enough(pairs: int, choosing: int | None = None) -> int:
    """How many common seeds leave `pairs` to compare on; `choosing` is how many choose, by default as above."""
    return pairs + (max(LEAST_SEEDS, pairs - 1) if choosing is None else choosing)
