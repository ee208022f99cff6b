"""Statistics: worked examples from the literature, enumeration by brute force, coverage and errors by simulation."""

from __future__ import annotations

import itertools
import math
import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlpq.analysis.inference import (
    Interval,
    differences_so_far,
    holm,
    mean_interval,
    paired,
    pairs_needed,
    sd_interval,
)
from mlpq.analysis.summary import best_of_k

EXPERIMENTS, PAIRS = 2000, 10

# Accuracies of A and B in counts of 10,000, close enough to tie often.
counts = st.lists(st.tuples(st.integers(8990, 9010), st.integers(8990, 9010)), min_size=1, max_size=10)


def accuracies(values: Sequence[int]) -> list[float]:
    return [value / 10_000 for value in values]


def both(pairs: Sequence[tuple[int, int]]) -> tuple[list[float], list[float]]:
    a, b = zip(*pairs, strict=True)
    return accuracies(a), accuracies(b)


def exact_p(differences: Sequence[int]) -> float:
    """The sign-flip test in integers: the share of all sums of ±differences that are as far from 0 as the given one."""
    sums = Counter({0: 1})
    for difference in differences:
        flipped: Counter[int] = Counter()
        for total, ways in sums.items():
            flipped[total + difference] += ways
            flipped[total - difference] += ways
        sums = flipped
    return sum(ways for total, ways in sums.items() if abs(total) >= abs(sum(differences))) / sum(sums.values())


def covers(interval: Interval | None, value: float) -> bool:
    return interval is not None and interval.low <= value <= interval.high


def near(share: float, experiments: int = EXPERIMENTS) -> object:
    """Within three standard errors of a share, for that many experiments."""
    return pytest.approx(share, abs=3 * math.sqrt(share * (1 - share) / experiments))


def test_the_sleep_data_of_student_1908() -> None:
    """Hours of sleep gained by ten patients on each of two drugs."""
    first = [0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0]
    second = [1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4]
    sleep = paired(second, first)
    assert sleep.n == 10
    assert sleep.difference == pytest.approx(1.58)
    assert sleep.sd == pytest.approx(1.23, abs=0.0005)
    assert sleep.t_interval is not None
    assert (sleep.t_interval.low, sleep.t_interval.high) == pytest.approx((0.7001142, 2.4598858))
    assert sleep.p_value == 4 / 1024  # nine gains and a tie: its sign is free
    assert sleep.better == 0.95
    assert mean_interval([x - y for x, y in zip(second, first, strict=True)]) == pytest.approx(sleep.t_interval)


def test_darwins_maize_as_fisher_tested_it_in_1935() -> None:
    """Heights of cross- minus self-fertilized plants, in eighths of an inch; 1726 of 32768 flips are as far off."""
    heights = [49, -67, 8, 16, 6, 23, 28, 41, 14, 29, 56, 24, 75, 60, -48]
    darwin = paired(heights, [0] * 15)
    assert darwin.p_value == 1726 / 32768
    assert darwin.exact
    assert darwin.t_interval is not None
    assert (darwin.t_interval.low, darwin.t_interval.high) == pytest.approx((0.0312, 41.8355), abs=0.0001)


@given(counts)
def test_rounding_of_accuracies_does_not_change_the_exact_p_value(pairs: list[tuple[int, int]]) -> None:
    assert paired(*both(pairs)).p_value == exact_p([a - b for a, b in pairs])


@given(counts)
def test_the_order_of_pairs_does_not_change_the_exact_p_value(pairs: list[tuple[int, int]]) -> None:
    assert paired(*both(pairs)).p_value == paired(*both(sorted(pairs))).p_value


@given(counts)
def test_swapping_the_arms_negates_differences_and_intervals(pairs: list[tuple[int, int]]) -> None:
    a, b = both(pairs)
    one, other = paired(a, b), paired(b, a)
    assert other.difference == -one.difference
    assert (other.sd, other.p_value) == (one.sd, one.p_value)
    assert other.better == pytest.approx(1 - one.better)
    for mine, theirs in ((one.t_interval, other.t_interval), (one.bootstrap_interval, other.bootstrap_interval)):
        assert (mine is None) == (theirs is None)
        if mine and theirs:
            assert (-theirs.high, -theirs.low) == pytest.approx((mine.low, mine.high))


@given(counts, st.integers(-8000, 9000))
def test_an_equal_gain_of_both_arms_changes_nothing(pairs: list[tuple[int, int]], gain: int) -> None:
    a, b = both(pairs)
    more = paired([x + gain / 10_000 for x in a], [x + gain / 10_000 for x in b])
    plain = paired(a, b)
    assert (more.p_value, more.better) == (plain.p_value, plain.better)
    assert (more.difference, more.sd) == pytest.approx((plain.difference, plain.sd), abs=1e-12)


def test_one_pair_has_no_interval_and_a_p_value_of_one() -> None:
    single = paired([0.9], [0.8])
    assert (single.n, single.p_value, single.better) == (1, 1, 1)
    assert (single.sd, single.t_interval, single.bootstrap_interval) == (None, None, None)


def test_equal_differences_have_no_spread_and_equal_figures_no_difference() -> None:
    base = accuracies(range(8701, 8713))
    apart = paired(accuracies(range(8702, 8714)), base)
    assert apart.difference == pytest.approx(0.0001)
    assert (apart.sd, apart.p_value, apart.bootstrap_interval) == (0, 2 / 2**apart.n, None)
    assert apart.t_interval == Interval(apart.difference, apart.difference)
    same = paired(base, base)
    assert (same.difference, same.sd, same.p_value, same.better) == (0, 0, 1, 0.5)


def test_rounding_errors_are_not_a_difference() -> None:
    """0.1 + 0.2 − 0.3 is not 0 in binary."""
    cancelled = paired([0.1, 0.2, 0.0], [0.0, 0.0, 0.3])
    assert (cancelled.difference, cancelled.p_value) == (0, 1)


@pytest.mark.parametrize(("share", "is_rounding"), [(0.9e-13, True), (1.1e-13, False)])
def test_rounding_is_a_ten_million_millionth_of_the_figures(share: float, is_rounding: bool) -> None:
    """Of the sum of all figures, which is 4 here; of both figures of a pair where pairs are looked at one by one."""
    apart = paired([1 + 8 * share, 1.0], [1.0, 1.0])
    assert apart.difference == (0 if is_rounding else pytest.approx(4 * share, rel=1e-2, abs=0))
    (so_far,) = differences_so_far([1 + 2 * share], [1.0])
    assert so_far == (0 if is_rounding else pytest.approx(2 * share, rel=1e-2, abs=0))


def test_unpaired_and_infinite_figures_are_rejected() -> None:
    for a, b in (([], []), ([math.nan], [0.5]), ([math.inf], [0.5]), ([0.5, 0.5], [0.5, -math.inf])):
        with pytest.raises(ValueError, match=r"^a comparison needs at least one pair of finite figures$"):
            paired(a, b)
    with pytest.raises(ValueError, match="argument 2 is longer than argument 1"):
        paired([0.5], [0.5, 0.6])


def test_differences_of_one_sign_give_the_smallest_p_value() -> None:
    for n in (*range(1, 21), 21, 60):
        all_better = paired([0.1 + i / 100 for i in range(n)], [0.0] * n)
        assert all_better.exact == (n <= 20)
        assert all_better.p_value == (2 / 2**n if n <= 20 else 1 / 100_000)


@pytest.mark.parametrize("shift", [0, 1, 2])
def test_random_flips_approximate_the_exact_p_value(shift: int) -> None:
    differences = [int(x) for x in np.random.default_rng(1).integers(-5, 6, 40) + shift]
    drawn, exact = paired(accuracies(differences), [0.0] * len(differences)), exact_p(differences)
    assert not drawn.exact
    assert drawn.p_value == pytest.approx(exact, abs=3 * math.sqrt(exact / 99_999))
    assert drawn == paired(accuracies(differences), [0.0] * len(differences))


def test_the_bootstrap_needs_ten_pairs_that_do_not_mostly_tie() -> None:
    rising = accuracies([i * i for i in range(10)])
    zeros = [0.0] * 10
    assert paired(rising[1:], zeros[1:]).bootstrap_interval is None
    assert covers(paired(rising, zeros).bootstrap_interval, statistics.fmean(rising))
    assert paired([0.1] * 9 + [0.5], zeros).bootstrap_interval is None


def test_the_bootstrap_agrees_with_another_implementation() -> None:
    """With another generator, so equal up to Monte Carlo error."""
    values = np.array([0.7, 1.1, -0.4, 2.3, 0.2, 1.6, -1.0, 0.9, 3.1, 0.5])
    draws = np.random.default_rng(14).choice(values, (200_000, 10))
    least, most = np.quantile((draws.mean(1) - values.mean()) / draws.std(1, ddof=1), [0.025, 0.975])
    interval = paired(values.tolist(), [0.0] * 10).bootstrap_interval
    assert interval is not None
    ends = (values.mean() - interval.low, interval.high - values.mean())
    assert ends == pytest.approx((most * values.std(ddof=1), -least * values.std(ddof=1)), rel=0.02)


def test_intervals_cover_95_percent_and_the_test_keeps_its_level() -> None:
    """With normal differences; 50 / 1024 is the highest level up to 5 % that 10 sign flips can have."""
    truth = 0.3
    draws = np.random.default_rng(11).normal(truth, 1, (EXPERIMENTS, PAIRS)).tolist()
    found = [paired(draw, [truth] * PAIRS) for draw in draws]
    assert statistics.fmean(covers(one.t_interval, 0) for one in found) == near(0.95)
    assert statistics.fmean(covers(one.bootstrap_interval, 0) for one in found) == near(0.95)
    assert statistics.fmean(one.p_value <= 0.05 for one in found) == near(50 / 1024)


def test_the_bootstrap_covers_skewed_differences_better_than_t() -> None:
    draws = np.random.default_rng(12).gamma(4, size=(EXPERIMENTS, PAIRS)).tolist()  # skewness 1, mean 4
    found = [paired(draw, [4.0] * PAIRS) for draw in draws]
    by_bootstrap = statistics.fmean(covers(one.bootstrap_interval, 0) for one in found)
    assert by_bootstrap == near(0.95)
    assert by_bootstrap > statistics.fmean(covers(one.t_interval, 0) for one in found)


def test_an_interval_needs_two_values() -> None:
    assert mean_interval([0.5]) is None
    assert mean_interval([]) is None
    assert mean_interval([0.5, 0.5]) == Interval(0.5, 0.5)
    assert asdict(mean_interval([1, 2, 3, 4, 5], 0.99) or Interval(0, 0)) == pytest.approx(
        {"low": 3 - 4.604095 * math.sqrt(0.5), "high": 3 + 4.604095 * math.sqrt(0.5)}  # Student's t table, 4 df
    )


@pytest.mark.parametrize(
    ("n", "low", "high"), [(2, 0.45, 31.91), (5, 0.60, 2.87), (10, 0.69, 1.83), (25, 0.78, 1.39), (100, 0.88, 1.16)]
)
def test_the_interval_of_a_standard_deviation_agrees_with_tables(n: int, low: float, high: float) -> None:
    interval = sd_interval(2.0, n)
    assert (interval.low / 2, interval.high / 2) == pytest.approx((low, high), abs=0.005)


def test_a_single_value_has_no_standard_deviation() -> None:
    with pytest.raises(ValueError, match="at least 2 values, not 1"):
        sd_interval(0.0, 1)


@pytest.mark.parametrize(("effect", "pairs"), [(0.1, 787), (0.2, 199), (0.4, 52), (0.5, 34), (0.8, 15), (1.0, 10)])
def test_pairs_needed_for_cohens_effects(effect: float, pairs: int) -> None:
    """The results of G*Power for two-sided paired t tests with power 0.8 at 5 %."""
    assert pairs_needed(effect, 1.0) == pairs_needed(-3 * effect, 3.0) == pairs


def test_the_pairs_needed_have_the_power_and_fewer_do_not() -> None:
    def power(n: int) -> float:
        draws = np.random.default_rng(13).normal(0.8, 1, (EXPERIMENTS, n)).tolist()
        return 1 - statistics.fmean(covers(mean_interval(draw), 0) for draw in draws)

    n = pairs_needed(0.8, 1.0, power=0.9)
    assert n == 19
    error = math.sqrt(0.9 * 0.1 / EXPERIMENTS)
    assert 0.9 - 3 * error < power(n) < 0.93
    assert power(n - 2) < 0.9


def test_pairs_needed_are_never_fewer_than_the_test_can_use() -> None:
    assert pairs_needed(5.0, 1.0) == pairs_needed(1.0, 0.0) == pairs_needed(1e300, 1e-5) == 6
    assert pairs_needed(5.0, 1.0, alpha=0.05 / 3) == 7
    assert 2 / 2**6 <= 0.05 < 2 / 2**5


def test_a_difference_of_zero_can_not_be_detected() -> None:
    assert pairs_needed(0.0, 1.0) is None
    assert pairs_needed(1e-5, 1.0) is None
    assert pairs_needed(0.003, 1.0) == 872_098


def test_holm_rejects_three_of_the_fifteen_hypotheses_of_benjamini_and_hochberg_1995() -> None:
    p = [
        0.0001,
        0.0004,
        0.0019,
        0.0095,
        0.0201,
        0.0278,
        0.0298,
        0.0344,
        0.0459,
        0.3240,
        0.4262,
        0.5719,
        0.6528,
        0.7590,
        1,
    ]
    assert holm(p)[:4] == pytest.approx([0.0015, 0.0056, 0.0247, 0.114])
    assert sum(adjusted <= 0.05 for adjusted in holm(p)) == 3


def test_holm_keeps_the_given_order() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.8]) == [1, 1]
    assert holm([]) == []


@given(st.lists(st.integers(0, 1000), min_size=1, max_size=8), st.integers(1, 500))
def test_adjusted_p_values_reject_what_the_procedure_of_holm_rejects(thousandths: list[int], level: int) -> None:
    """Step down from the smallest p-value: stop at the first with p > alpha / hypotheses left."""
    left = sorted(thousandths)
    while left and left[0] * len(left) <= level:
        left.pop(0)
    adjusted = holm([p / 1000 for p in thousandths])
    assert sum(p <= level / 1000 + 1e-12 for p in adjusted) == len(thousandths) - len(left)


def test_the_best_of_more_settings_by_validation_is_not_always_better_in_the_test() -> None:
    """Two of the three pairs of settings contain the best by validation, whose test figure is 0.6."""
    assert best_of_k([0.9, 0.7, 0.8], [0.6, 0.5, 0.7]) == pytest.approx([0.6, 0.6 * 2 / 3 + 0.7 / 3, 0.6])
    assert best_of_k([0.5], [0.4]) == [0.4]
    assert best_of_k([-math.inf, 0.5], [0.1, 0.4]) == pytest.approx([0.25, 0.4])
    with pytest.raises(ValueError, match="shorter"):
        best_of_k([0.5, 0.6], [0.4])


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 100)), min_size=1, max_size=8))
def test_the_expected_best_of_k_is_the_mean_over_all_subsets(settings: list[tuple[int, int]]) -> None:
    def chosen(subset: Sequence[tuple[int, int]]) -> float:
        top = max(validation for validation, _ in subset)
        return statistics.fmean(test for validation, test in subset if validation == top)

    by_enumeration = [
        statistics.fmean(map(chosen, itertools.combinations(settings, k))) for k in range(1, len(settings) + 1)
    ]
    validation, test = zip(*settings, strict=True)
    assert best_of_k(validation, test) == pytest.approx(by_enumeration)
