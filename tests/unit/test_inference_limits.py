"""Statistics at their limits: numbers of pairs, ties and infinite figures, each with a value known otherwise."""

from __future__ import annotations

import math

import pytest

from mlpq.analysis.inference import (
    Interval,
    Paired,
    differences_so_far,
    fewest_pairs,
    is_skewed,
    mean_interval,
    paired,
    paired_by_signs,
    pairs_needed,
    prediction_interval,
    sd_interval,
    share_interval,
)

SLEEP = [1.2, 2.4, 1.3, 1.3, 0.0, 1.0, 1.8, 0.8, 4.6, 1.4]  # Student 1908


def against_zero(differences: list[float], confidence: float = 0.95) -> Paired:
    return paired(differences, [0.0] * len(differences), confidence)


def test_interval_is_bounded_where_both_ends_are_finite() -> None:
    assert Interval(0.0, 1.0).is_bounded
    assert not Interval(-math.inf, 1.0).is_bounded
    assert not Interval(0.0, math.inf).is_bounded


def test_bootstrap_begins_with_ten_pairs() -> None:
    assert against_zero(SLEEP).bootstrap_interval is not None
    assert against_zero(SLEEP[:9]).bootstrap_interval is None


def test_flips_are_exact_up_to_twenty_pairs_and_99_999_beyond() -> None:
    assert against_zero([1.0] * 20).exact
    assert against_zero([1.0] * 20).p_value == 2 / 2**20
    many = against_zero([1.0] * 40)
    assert not many.exact
    assert many.p_value == 1e-5
    assert paired_by_signs([1.0] * 20, [0.0] * 20).exact
    assert not paired_by_signs([1.0] * 21, [0.0] * 21).exact


def test_simultaneous_intervals_have_the_given_confidence_and_the_others_95_percent() -> None:
    found = against_zero(SLEEP, 0.99)
    assert found.t_interval is not None
    assert found.t_simultaneous is not None
    assert found.bootstrap_interval is not None
    assert found.bootstrap_simultaneous is not None
    assert (found.t_interval.low, found.t_interval.high) == pytest.approx((0.7001, 2.4599), abs=1e-4)  # t = 2.2622
    assert (found.t_simultaneous.low, found.t_simultaneous.high) == pytest.approx((0.3159, 2.8441), abs=1e-4)
    assert found.bootstrap_simultaneous.low < found.bootstrap_interval.low
    assert found.bootstrap_simultaneous.high > found.bootstrap_interval.high
    assert found.simultaneous == found.bootstrap_simultaneous
    assert against_zero(SLEEP[:9]).simultaneous == against_zero(SLEEP[:9]).t_interval


def test_spread_skewness_and_ratio_of_spreads() -> None:
    found = paired([1.0, 2.0, 6.0], [0.0, 0.5, 1.0])
    assert found.sd_ratio == pytest.approx(math.sqrt(7) / 0.5)
    assert found.skewness == pytest.approx(1.63006, abs=1e-5)  # of 1, 1.5 and 5, by scipy.stats.skew(bias=False)
    assert paired([1.0, 2.0], [0.0, 0.5]).skewness is None
    assert paired([1.0], [0.0]).sd_ratio is None
    assert paired([1.0, 1.0], [0.0, 0.0]).sd_ratio is None
    assert paired([1.0, 1.0], [0.0, 0.5]).sd_ratio == math.inf


def test_differences_are_skewed_from_four_pairs_and_a_skewness_above_one_and_two_standard_errors() -> None:
    assert is_skewed(against_zero([0.0] * 19 + [1.0]))
    assert not is_skewed(against_zero([0.0, 0.0, 0.0, 1.0]))  # skewness 2, its standard error 1.014
    assert is_skewed(against_zero([-x for x in [0.0] * 9 + [1.0]]))
    assert not is_skewed(against_zero([0.0, 0.0, 1.0]))
    assert not is_skewed(against_zero([float(x) for x in range(10)]))


def test_only_signs_count_where_figures_may_be_infinite() -> None:
    found = paired_by_signs([math.inf, math.inf, 3.0, 5.0, 1.0], [math.inf, 2.0, 1.0, 1.0, 2.0])
    assert found.by_signs
    assert (found.n, found.difference, found.better) == (5, 2.0, 0.7)
    assert found.p_value == 10 / 16  # of + + + − and a tie
    assert (found.sd, found.t_interval, found.bootstrap_interval) == (None, None, None)
    assert paired_by_signs([math.inf, 0.0], [0.0, math.inf]).difference == 0
    with pytest.raises(ValueError, match="at least one pair"):
        paired_by_signs([], [])


def test_infinite_difference_has_the_largest_magnitude_before_it() -> None:
    assert differences_so_far([math.inf, 3.0, math.inf, 1.0], [0.0, 1.0, math.inf, math.inf]) == [1.0, 2.0, 0.0, -2.0]
    assert differences_so_far([0.1 + 0.2], [0.3]) == [0.0]


@pytest.mark.parametrize(
    ("share", "n", "low", "high"),
    [(0.0, 10, 0.0, 0.3085), (1.0, 10, 0.6915, 1.0), (0.5, 10, 0.1871, 0.8129), (0.8, 20, 0.5634, 0.9427)],
)
def test_interval_of_a_share_is_that_of_clopper_and_pearson(share: float, n: int, low: float, high: float) -> None:
    found = share_interval(share, n)
    assert (found.low, found.high) == pytest.approx((low, high), abs=5e-5)


def test_interval_of_a_mean_of_two() -> None:
    found = mean_interval([1.0, 3.0])
    assert found is not None
    assert (found.low, found.high) == pytest.approx((2 - 12.7062, 2 + 12.7062), abs=1e-4)


def test_prediction_interval_is_wider_than_that_of_the_mean() -> None:
    found = prediction_interval(SLEEP, 0.9)
    assert (found.low, found.high) == pytest.approx((-0.7847, 3.9447), abs=1e-4)  # t = 1.8331, s = 1.22995


def test_standard_deviation_needs_two_values() -> None:
    found = sd_interval(1.0, 2)
    assert (found.low, found.high) == pytest.approx((0.4461, 31.910), abs=1e-3)


@pytest.mark.parametrize(("alpha", "pairs"), [(0.05, 6), (0.05 / 3, 7), (0.0625, 5), (1.0, 2)])
def test_fewest_pairs_that_can_reach_a_level(alpha: float, pairs: int) -> None:
    assert fewest_pairs(alpha) == pairs


def test_pairs_needed_end_at_a_million() -> None:
    effect = 0.0028015845  # needs a million for a power of 0.8
    assert pairs_needed(effect * (1 + 1e-7), 1.0) == 1_000_000
    assert pairs_needed(effect * (1 - 1e-7), 1.0) is None
    assert pairs_needed(1.0, 0.0) == 6


@pytest.mark.parametrize(
    ("share", "low", "high"), [(0.1, 0.0025285785, 0.4450161170), (0.9, 0.5549838830, 0.9974714215)]
)
def test_interval_of_a_share_near_its_end_is_clopper_and_pearsons(share: float, low: float, high: float) -> None:
    """One of ten, and nine of ten, as scipy.stats.binomtest has them."""
    found = share_interval(share, 10)
    assert (found.low, found.high) == pytest.approx((low, high), rel=1e-6)
