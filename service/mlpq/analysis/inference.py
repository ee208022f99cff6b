"""Statistics of figures that are paired by seed.

Import it late: numpy and scipy take half a second to load.
"""

from __future__ import annotations

import math
import statistics
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import special

CONFIDENCE = 0.95
ROUNDING = 1e-13  # relative: figures such as 0.8701 are not binary fractions, and often computed
FEWEST_FOR_BOOTSTRAP = 10
BOOTSTRAP_RESAMPLES = 9_999
MOST_FOR_EXACT = 20  # pairs: 2**20 sums are 8 MB and some 20 ms
SIGN_FLIPS = 99_999  # random ones, for more pairs than that
MOST_PAIRS = 1_000_000


@dataclass(frozen=True)
class Interval:
    """A confidence interval, with both ends in the unit of the figures."""

    low: float
    high: float

    @property
    def is_bounded(self) -> bool:
        """Whether both ends are finite."""
        return math.isfinite(self.low) and math.isfinite(self.high)

    @property
    def negated(self) -> Interval:
        """That of B − A, where this is the interval of A − B."""
        return Interval(-self.high, -self.low)


@dataclass(frozen=True)
class Paired:
    """A compared with B over n pairs: the mean difference A − B, its uncertainty and its significance.

    `sd` is the sample standard deviation of the differences, None for a single pair, 0 where all are equal up to
    rounding; `skewness` is theirs, None for fewer than 3 pairs or without a spread. `sd_ratio` is the larger of the
    sample standard deviations of A and of B over the smaller one: infinite where only one is 0, None where both are,
    and for a single pair.

    `t_interval` and `bootstrap_interval` are 95 % confidence intervals of the mean difference. The first is Student's,
    None for a single pair; the second is the studentized bootstrap's, None for fewer than FEWEST_FOR_BOOTSTRAP pairs,
    and where so many differences are equal that resamples often have no spread. `t_simultaneous` and
    `bootstrap_simultaneous` are the same at the confidence level of `paired`, as `better_interval` is.

    `p_value` is that of the two-sided sign-flip permutation test of the mean difference: `exact` for up to
    MOST_FOR_EXACT pairs, otherwise estimated from SIGN_FLIPS random flips.
    `better` estimates P(A > B), where a tie counts one half (Bouthillier et al. 2021, "Accounting for Variance in
    Machine Learning Benchmarks").

    With `by_signs`, some figures may be infinite: `difference` is the median, `p_value` that of the sign test, the
    sign-flip test of the signs of the differences, and the spread, the skewness and the other intervals are None.
    """

    n: int
    difference: float
    sd: float | None
    t_interval: Interval | None
    bootstrap_interval: Interval | None
    p_value: float
    exact: bool
    better: float
    better_interval: Interval
    t_simultaneous: Interval | None = None
    bootstrap_simultaneous: Interval | None = None
    skewness: float | None = None
    sd_ratio: float | None = None
    by_signs: bool = False

    @property
    def simultaneous(self) -> Interval | None:
        """The interval to show: the studentized bootstrap's, else Student's t."""
        return self.bootstrap_simultaneous or self.t_simultaneous


def paired(a: Sequence[float], b: Sequence[float], confidence: float = CONFIDENCE) -> Paired:
    """Compare figures a[i] with b[i], which are of one seed each.

    Raises ValueError unless there is at least one pair and all figures are finite. Deterministic: resamples come from
    a generator with a fixed seed.
    """
    differences = [x - y for x, y in zip(a, b, strict=True)]
    if not all(map(math.isfinite, differences)) or not differences:
        raise ValueError("a comparison needs at least one pair of finite figures")
    n = len(differences)
    rounding = ROUNDING * math.fsum(abs(x) + abs(y) for x, y in zip(a, b, strict=True))
    mean = _zeroed(statistics.fmean(differences), rounding)
    sd = _zeroed(statistics.stdev(differences), rounding) if n > 1 else None
    exact = n <= MOST_FOR_EXACT
    by_t = [None if sd is None else _t_interval(mean, sd, n, level) for level in (CONFIDENCE, confidence)]
    wide_enough = bool(sd) and n >= FEWEST_FOR_BOOTSTRAP
    bootstraps = _bootstrap_t(differences, mean, sd, (CONFIDENCE, confidence)) if sd and wide_enough else [None, None]
    better = _share_better(a, b)
    return Paired(
        n=n,
        difference=mean,
        sd=sd,
        t_interval=by_t[0],
        bootstrap_interval=bootstraps[0],
        p_value=_sign_flip_p(differences, 2 * n * rounding, exact),
        exact=exact,
        better=better,
        better_interval=share_interval(better, n, confidence),
        t_simultaneous=by_t[1],
        bootstrap_simultaneous=bootstraps[1],
        skewness=_skewness(differences) if sd and n > 2 else None,
        sd_ratio=_sd_ratio(a, b, rounding),
    )


def paired_by_signs(a: Sequence[float], b: Sequence[float], confidence: float = CONFIDENCE) -> Paired:
    """Compare figures as `paired` does, but by the signs of the differences only.

    Infinite figures are beyond all others. Raises ValueError unless there is at least one pair.
    """
    differences = [0.0 if x == y else x - y for x, y in zip(a, b, strict=True)]
    if not differences:
        raise ValueError("a comparison needs at least one pair of figures")
    median = statistics.median(differences)
    n, better = len(differences), _share_better(a, b)
    exact = n <= MOST_FOR_EXACT
    return Paired(
        n=n,
        difference=0.0 if math.isnan(median) else median,
        sd=None,
        t_interval=None,
        bootstrap_interval=None,
        p_value=_sign_flip_p([float((x > 0) - (x < 0)) for x in differences], 0.0, exact),
        exact=exact,
        better=better,
        better_interval=share_interval(better, n, confidence),
        by_signs=True,
    )


def differences_so_far(a: Sequence[float], b: Sequence[float]) -> list[float]:
    """The differences A − B in the order of the pairs, all of them finite, for tests that look after each pair.

    Where only one of a pair is infinite, the difference has its sign and the largest magnitude of the pairs before; so
    later pairs change nothing, and no flip of a sign changes another pair. Two infinite figures are a tie.
    """
    found: list[float] = []
    largest = 0.0
    for x, y in zip(a, b, strict=True):
        if x == y:
            found.append(0.0)
        elif math.isfinite(x - y):
            found.append(_zeroed(x - y, ROUNDING * (abs(x) + abs(y))))
        else:
            found.append(math.copysign(largest or 1.0, x - y))
        largest = max(largest, abs(found[-1]))
    return found


def share_interval(share: float, n: int, confidence: float = CONFIDENCE) -> Interval:
    """The interval of Clopper & Pearson 1934 for a probability, from its share in `n` trials; n >= 1.

    It excludes one half exactly where the sign test without ties rejects. Ties may count one half of a trial each: the
    interval is then too wide rather than too narrow.
    """
    tail, wins = (1 - confidence) / 2, share * n
    low = float(special.betaincinv(wins, n - wins + 1, tail)) if wins > 0 else 0.0
    high = float(special.betaincinv(wins + 1, n - wins, 1 - tail)) if wins < n else 1.0
    return Interval(low, high)


def mean_interval(values: Sequence[float], confidence: float = CONFIDENCE) -> Interval | None:
    """Student's t interval of the mean of normally distributed values; None for fewer than 2."""
    if len(values) < 2:
        return None
    return _t_interval(statistics.fmean(values), statistics.stdev(values), len(values), confidence)


def prediction_interval(values: Sequence[float], confidence: float) -> Interval:
    """The interval that contains the next value with probability `confidence`, from at least 2 normal values.

    mean ± t s sqrt(1 + 1/n), with Student's t of n - 1 degrees of freedom.
    """
    n, mean = len(values), statistics.fmean(values)
    half = float(special.stdtrit(n - 1, (1 + confidence) / 2)) * statistics.stdev(values) * math.sqrt(1 + 1 / n)
    return Interval(mean - half, mean + half)


def sd_interval(sd: float, n: int, confidence: float = CONFIDENCE) -> Interval:
    """The chi-square interval of the standard deviation of normal values; `sd` is that of a sample of `n`.

    Raises ValueError for n < 2.
    """
    if n < 2:
        raise ValueError(f"a standard deviation needs at least 2 values, not {n}")
    tail = (1 - confidence) / 2
    low, high = (sd * math.sqrt((n - 1) / special.chdtri(n - 1, upper)) for upper in (tail, 1 - tail))
    return Interval(low, high)


def is_skewed(found: Paired) -> bool:
    """Whether the differences are so skewed that the sign-flip test, which assumes symmetric ones, is in doubt.

    The skewness is above 1 and more than twice its standard error for normal differences.
    """
    n = found.n
    if found.skewness is None or n < 4:
        return False
    error = math.sqrt(6 * n * (n - 1) / ((n - 2) * (n + 1) * (n + 3)))
    return abs(found.skewness) > max(1.0, 2 * error)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's adjusted p-values, in the given order: the procedure rejects the hypotheses with values up to alpha.

    The probability of any false rejection stays below alpha, however the tests depend on each other.
    Holm 1979, "A Simple Sequentially Rejective Multiple Test Procedure".
    """
    adjusted = [0.0] * len(p_values)
    largest = 0.0
    for rank, i in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[i]))
        adjusted[i] = largest
    return adjusted


def fewest_pairs(alpha: float) -> int:
    """The smallest number of pairs with which the sign-flip test of `paired` can reach alpha: 6 for 0.05."""
    return max(2, math.ceil(math.log2(2 / alpha)))


def pairs_needed(difference: float, sd: float, power: float = 0.8, alpha: float = 0.05) -> int | None:
    """The smallest number of pairs that detects a true mean difference at level `alpha` with probability `power`.

    Computed for the two-sided paired t test from the noncentral t distribution (Cohen 1988), for differences with
    standard deviation `sd`, but never fewer than `fewest_pairs`. At a power of 0.8 the sign-flip test has less power,
    by up to 0.17 with 6 pairs, 0.03 with 7, 0.02 with 8 or 9. None where `difference` is 0, or so small that it takes
    more than MOST_PAIRS.
    """
    fewest = fewest_pairs(alpha)
    if difference == 0:
        return None
    if sd == 0:
        return fewest

    def reached(n: int) -> float:
        critical = special.stdtrit(n - 1, 1 - alpha / 2)
        shift = abs(difference) / sd * math.sqrt(n)
        return float(1 - special.nctdtr(n - 1, shift, critical) + special.nctdtr(n - 1, shift, -critical))

    n = fewest + bisect_left(range(fewest, MOST_PAIRS + 1), power, key=reached)
    return n if n <= MOST_PAIRS else None


def _zeroed(value: float, rounding: float) -> float:
    return 0.0 if abs(value) <= rounding else value


def _share_better(a: Sequence[float], b: Sequence[float]) -> float:
    return sum((x > y) + (x == y) / 2 for x, y in zip(a, b, strict=True)) / len(a)


def _skewness(values: Sequence[float]) -> float:
    """The adjusted Fisher-Pearson coefficient of at least 3 values with a spread; 0 for symmetric ones."""
    n, mean = len(values), statistics.fmean(values)
    second, third = (statistics.fmean((value - mean) ** power for value in values) for power in (2, 3))
    return math.sqrt(n * (n - 1)) / (n - 2) * third / math.sqrt(second) ** 3


def _sd_ratio(a: Sequence[float], b: Sequence[float], rounding: float) -> float | None:
    if len(a) < 2:
        return None
    low, high = sorted(_zeroed(statistics.stdev(values), rounding) for values in (a, b))
    return high / low if low else math.inf if high else None


def _t_interval(mean: float, sd: float, n: int, confidence: float) -> Interval:
    half = float(special.stdtrit(n - 1, (1 + confidence) / 2)) * sd / math.sqrt(n)
    return Interval(mean - half, mean + half)


def _bootstrap_t(
    differences: Sequence[float], mean: float, sd: float, levels: Sequence[float]
) -> list[Interval | None]:
    """For each level the equal-tailed studentized bootstrap: Efron & Tibshirani 1993, chapter 12; Hall 1988.

    Quantiles of the resamples' t statistics, each with its own mean and standard deviation, replace those of Student's
    t. With 10 normal differences its coverage is 95 %, where the percentile and BCa bootstraps have 90 %; it exceeds
    that of the t interval for skewed differences and falls short of it for heavy-tailed ones.
    """
    n = len(differences)
    counts = _resamples(n)
    standard = (np.asarray(differences) - mean) / sd
    means = counts @ standard / n
    spreads = np.sqrt(np.maximum(counts @ standard**2 / n - means**2, 0) * n / (n - 1))
    flat = spreads < 1e-6  # n times the same value, up to rounding
    t = means / np.where(flat, 1, spreads)
    t[flat & (np.abs(means) > 1e-6)] *= np.inf
    found: list[Interval | None] = []
    for level in levels:
        tail = (1 - level) / 2
        least, most = np.quantile(t, [tail, 1 - tail], method="inverted_cdf")
        interval = Interval(mean - float(most) * sd, mean - float(least) * sd) if np.isfinite(most - least) else None
        found.append(interval)
    return found


@lru_cache(maxsize=1)
def _resamples(n: int) -> NDArray[np.float64]:
    """How often each resample contains each of n values, shape (BOOTSTRAP_RESAMPLES, n)."""
    return np.random.default_rng(0).multinomial(n, [1 / n] * n, size=BOOTSTRAP_RESAMPLES).astype(np.float64)


def _sign_flip_p(differences: Sequence[float], rounding: float, exact: bool) -> float:
    """The share of sign flips whose sum is as far from 0 as the sum of the differences: Fisher 1935, section 21.

    The given signs count as one more random flip, so that the test keeps its level (Phipson & Smyth 2010). Sums that
    differ only by rounding are equal here, but not in scipy's permutation_test; accuracies tie often.
    """
    if exact:
        sums = np.zeros(1)
        for difference in differences:
            sums = np.concatenate([sums + difference, sums - difference])
    else:
        generator = np.random.default_rng(0)
        sums = np.zeros(SIGN_FLIPS)
        for difference in differences:
            sums += generator.choice([difference, -difference], SIGN_FLIPS)
    as_far = int(np.count_nonzero(np.abs(sums) >= abs(math.fsum(differences)) - rounding))
    return as_far / len(sums) if exact else (as_far + 1) / (len(sums) + 1)
