"""Tests of paired differences that stay valid however often one looks: betting on their signs.

The null hypothesis is that of the sign-flip test: given their magnitudes, the signs of the differences from a mean m
are independent and as often + as −. A bettor who starts with 1 and stakes a part of it on the sign of each pair in
turn then has, on average, 1 after any number of pairs, and reaches 1 / alpha at any time with a probability of at most
alpha (Ville's inequality; Ramdas et al. 2023, "Game-Theoretic Statistics and Safe Anytime-Valid Inference",
arXiv 2210.01948). For such bets on exchangeable signs see Vovk & Wang, arXiv 2208.08925, and Koning, arXiv 2310.01153.

With z_i(m) = (d_i − m) / sqrt(mean over j ≤ i of (d_j − m)²), 0 where that is 0, the wealth after n pairs is

    e_n(m) = mean over b in BETS of the product over i ≤ n of (1 + tanh(b z_i(m))).

The order of the pairs must be fixed in advance, as by their seeds. Import it late: numpy and scipy take half a second
to load.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mlpq.analysis.inference import Interval, pairs_needed

ALPHA = 0.05
FLIPS = 19_999  # random ones of the exact look at the cap; with the data themselves a round number
POWER = 0.8
CAP_FACTOR = 1.15  # what the bets cost in pairs, against the test with a fixed number of them
_DELTAS = np.array([0.3, 0.7, 1.8])  # means, in standard deviations, at which the bets aim
_BETS = _DELTAS * np.sqrt(1 + _DELTAS**2)  # each of them is made on + and on −
_SAME = 1e-9  # of the largest magnitude so far: less is a difference of 0, which rounding blurs
_GRID = 256  # points in which an end of the interval is searched for, before bisection
_BISECTIONS = 60
_DOUBLINGS = 60

Floats = NDArray[np.float64]


def e_values(differences: Sequence[float], mean: float = 0.0) -> list[float]:
    """The wealth e_1(mean) … e_n(mean) of a bettor against `mean`, one number after each pair; infinite above 1e308.

    Its mean over all sign flips of the differences from `mean` is 1, for every n.
    """
    with np.errstate(over="ignore"):
        return [float(value) for value in np.exp(_log_e(np.asarray(differences, float), np.array([mean]))[0])]


def most_evidence(differences: Sequence[float], mean: float = 0.0) -> float:
    """The largest of e_0 = 1, e_1(mean), … e_n(mean); `mean` is rejected at level alpha where it is 1 / alpha or more.

    Infinite above 1e308.
    """
    return max([1.0, *e_values(differences, mean)])


def anytime_p(differences: Sequence[float]) -> float:
    """The p-value of mean 0 that is valid at every look: 1 / `most_evidence`; 1 for no differences.

    Raises ValueError unless all differences are finite.
    """
    found = _finite(differences)
    return math.exp(-max(0.0, float(_log_e(found, np.zeros(1)).max(initial=0.0))))


def anytime_interval(differences: Sequence[float], alpha: float = ALPHA) -> Interval:
    """The means that the bets have not rejected at level `alpha` after any pair; in the unit of the differences.

    The interval of all looks covers the mean with probability 1 − alpha, and lies in those of the looks before. It is
    1.4 to 1.7 times as wide as Student's t. Its ends are infinite where so few pairs can reject no mean: below 7 for
    an alpha of 0.05. Where the rejected means leave gaps, the interval spans them; where none is left, it is the mean
    with the least evidence against it. Raises ValueError unless all differences are finite and 0 < alpha < 1.
    """
    found = _finite(differences)
    if not 0 < alpha < 1:
        raise ValueError(f"alpha is between 0 and 1, not {alpha}")
    bound = -math.log(alpha)
    if _log_limits(len(found)).max(initial=0.0) < bound:
        return Interval(-math.inf, math.inf)
    counts = np.arange(1, len(found) + 1)
    inside = np.unique([*found, *(np.cumsum(found) / counts), float(np.median(found))])
    evidence = _log_e(found, inside).max(axis=1)
    left = inside[evidence < bound]
    if not left.size:
        least = float(inside[np.argmin(evidence)])
        return Interval(least, least)
    return Interval(_end(found, float(left[0]), bound, -1), _end(found, float(left[-1]), bound, 1))


def rejected_at_cap(differences: Sequence[float], alpha: float = ALPHA, flips: int = FLIPS, seed: int = 0) -> bool:
    """The one exact look at all pairs of a number that was fixed beforehand: whether mean 0 is rejected.

    Of `flips` random sign flips and the differences themselves, at most alpha may have e_n of 1 / alpha or more after
    any pair, or a sum as far from 0 as that of the differences. So the bets before and this look together keep
    alpha. Deterministic: the flips come from a generator with `seed`. False for no differences; raises ValueError
    unless all are finite.
    """
    found = _finite(differences)
    return bool(len(found)) and _is_rejected(*_flipped(found, flips, seed), alpha)


def level_at_cap(
    differences: Sequence[float], alpha: float, tests: int, flips: int = FLIPS, seed: int = 0
) -> float | None:
    """The smallest of the levels alpha, alpha / 2, … alpha / tests at which mean 0 is rejected; None where at none.

    It is what Holm's procedure needs after the exact look: the levels count from alpha downward, until the first at
    which neither the bets reached its bound nor `rejected_at_cap` holds.
    """
    found = _finite(differences)
    evidence, sums = _flipped(found, flips, seed)
    level = None
    for divisor in range(1, tests + 1 if len(found) else 1):
        if evidence[0] < divisor / alpha and not _is_rejected(evidence, sums, alpha / divisor):
            break
        level = alpha / divisor
    return level


def fewest_bets(alpha: float) -> int:
    """The number of pairs with equal differences after which e_n reaches 1 / alpha: 7 for 0.05, 10 for 0.05 / 6."""
    n = 1
    while _log_limits(n)[-1] < -math.log(alpha):
        n += 1
    return n


def cap_for(difference: float, pilot: Sequence[float], alpha: float) -> int | None:
    """The number N of pairs to end with, for the smallest difference that matters, from the differences of a pilot.

    ⌈CAP_FACTOR · `pairs_needed`⌉ for a power of POWER. The spread is sqrt(mean d²), which depends on the magnitudes
    only: all sign flips of the pilot give the same N, so the tests stay exact. None where it takes more pairs than
    `pairs_needed` computes. Raises ValueError for an empty pilot.
    """
    found = _finite(pilot)
    if not len(found):
        raise ValueError("a pilot needs at least one pair")
    needed = pairs_needed(difference, float(np.sqrt(np.mean(found**2))), POWER, alpha)
    return None if needed is None else math.ceil(round(CAP_FACTOR * needed, 9))


def _finite(differences: Sequence[float]) -> Floats:
    found = np.asarray(differences, float)
    if not np.isfinite(found).all():
        raise ValueError("the differences must be finite")
    return found


def _standardized(differences: Floats, means: Floats) -> Floats:
    """z_i(m), shape (means, n)."""
    shifted = differences - means[:, None]
    largest = np.maximum.accumulate(np.abs(differences)) + np.abs(means)[:, None]
    shifted[np.abs(shifted) <= _SAME * largest] = 0
    scale = np.sqrt(np.cumsum(shifted**2, axis=1) / np.arange(1, len(differences) + 1))
    return np.divide(shifted, scale, out=np.zeros_like(shifted), where=scale > 0)


def _log_e(differences: Floats, means: Floats) -> Floats:
    """log e_i(m), shape (means, n). log(1 + tanh x) = x − log cosh x."""
    z = _standardized(differences, means)
    return _log_wealth(np.cumsum(z, axis=1), _log_costs(z))


def _log_costs(z: Floats) -> Floats:
    """The sums over j ≤ i of log cosh(b z_j), which no sign flip changes; shape (*z.shape, bets)."""
    x = np.abs(z[..., None] * _BETS)
    costs: Floats = np.cumsum(x + np.log1p(np.exp(-2 * x)) - math.log(2), axis=-2)
    return costs


def _log_wealth(sums: Floats, costs: Floats) -> Floats:
    """log e from the sums of z, and the costs of as many pairs."""
    x = np.abs(sums[..., None] * _BETS)
    wealth = x + np.log1p(np.exp(-2 * x)) - math.log(2) - costs  # the mean of the bets on + and on −
    return np.asarray(np.logaddexp.reduce(wealth, axis=-1) - math.log(len(_BETS)))


def _log_limits(n: int) -> Floats:
    """log e_1 … e_n where all z_i are 1: those of equal differences, and of a mean far away from all differences."""
    limits: Floats = _log_e(np.ones(n), np.zeros(1))[0]
    return limits


def _end(differences: Floats, inside: float, bound: float, sign: int) -> float:
    """The last mean in the direction `sign` that is not rejected, from `inside`, which is not."""
    reach = float(np.ptp(differences)) or abs(inside) or 1.0
    outside = inside
    for _ in range(_DOUBLINGS):
        outside = inside + sign * reach
        if _log_e(differences, np.array([outside])).max() >= bound and (sign * (outside - differences)).min() > 0:
            break
        reach *= 2
    else:
        return sign * math.inf
    grid = np.linspace(inside, outside, _GRID + 1)
    kept = np.flatnonzero(_log_e(differences, grid).max(axis=1) < bound)
    low, high = (float(grid[kept[-1]]), float(grid[kept[-1] + 1])) if kept.size else (inside, outside)
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        if _log_e(differences, np.array([middle])).max() < bound:
            low = middle
        else:
            high = middle
    return low


def _flipped(differences: Floats, flips: int, seed: int) -> tuple[Floats, Floats]:
    """The most evidence and the sum of the differences themselves (first) and of random sign flips."""
    z = _standardized(differences, np.zeros(1))[0]
    costs = _log_costs(z)
    generator = np.random.default_rng(seed)
    evidence, walk, sums = np.ones(flips + 1), np.zeros(flips + 1), np.zeros(flips + 1)
    with np.errstate(over="ignore"):
        for i in range(len(differences)):
            signs = np.concatenate([[1.0], 2.0 * generator.integers(0, 2, flips) - 1])
            walk += signs * z[i]
            sums += signs * differences[i]
            wealth = np.zeros(flips + 1)
            for bet, cost in zip(_BETS, costs[i], strict=True):  # without logarithms, which take most of the time
                wealth += np.exp(bet * walk - cost) + np.exp(-bet * walk - cost)
            np.maximum(evidence, wealth / (2 * len(_BETS)), out=evidence)
    return evidence, sums


def _is_rejected(evidence: Floats, sums: Floats, alpha: float) -> bool:
    as_extreme = (evidence >= 1 / alpha) | (np.abs(sums) >= abs(sums[0]) * (1 - _SAME))
    return int(np.count_nonzero(as_extreme)) <= alpha * len(sums)
