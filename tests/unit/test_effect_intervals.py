"""Intervals that agree with the tests, differences by their signs, and signs of skewed differences."""

from __future__ import annotations

import math
import statistics

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlpq.analysis.choice import choose, choosing_seeds
from mlpq.analysis.inference import (
    differences_so_far,
    is_skewed,
    paired,
    paired_by_signs,
    share_interval,
)

FIGURES = st.one_of(st.integers(0, 500).map(float), st.just(math.inf))
pairs_of_figures = st.lists(st.tuples(FIGURES, FIGURES), min_size=1, max_size=12)


def test_the_interval_of_a_share_is_that_of_clopper_and_pearson() -> None:
    """Their tables of 1934: 3 of 10 at 95 % are 0.067 to 0.652."""
    found = share_interval(0.3, 10)
    assert (found.low, found.high) == pytest.approx((0.0667, 0.6525), abs=0.0001)
    assert share_interval(1.0, 6).low == pytest.approx(0.025 ** (1 / 6))
    assert (share_interval(0.0, 4).low, share_interval(1.0, 4).high) == (0, 1)


@pytest.mark.parametrize("n", [5, 8, 13])
def test_the_interval_of_a_share_excludes_one_half_where_the_sign_test_rejects(n: int) -> None:
    for wins in range(n + 1):
        found = paired_by_signs([1.0] * wins + [0.0] * (n - wins), [0.5] * n)
        interval = found.better_interval
        assert (found.p_value <= 0.05) == (not interval.low <= 0.5 <= interval.high)


@pytest.mark.parametrize("ties", [0.0, 0.3])
def test_the_interval_of_a_share_covers_it_with_ties_too(ties: float) -> None:
    generator = np.random.default_rng(5)
    truth, covered = 0.7, []
    for _ in range(2000):
        draws = np.where(generator.random(10) < ties, 0.5, generator.random(10) < (truth - ties / 2) / (1 - ties))
        found = share_interval(float(draws.mean()), 10)
        covered.append(found.low <= truth <= found.high)
    assert statistics.fmean(covered) >= 0.95 - 3 * math.sqrt(0.95 * 0.05 / 2000)


def test_intervals_at_a_higher_confidence_are_wider_and_the_95_percent_ones_stay() -> None:
    values, zeros = [0.7, 1.1, -0.4, 2.3, 0.2, 1.6, -1.0, 0.9, 3.1, 0.5], [0.0] * 10
    alone, of_six = paired(values, zeros), paired(values, zeros, 1 - 0.05 / 6)
    assert (of_six.t_interval, of_six.bootstrap_interval) == (alone.t_interval, alone.bootstrap_interval)
    assert (alone.t_simultaneous, alone.bootstrap_simultaneous) == (alone.t_interval, alone.bootstrap_interval)
    for wide, narrow in (
        (of_six.t_simultaneous, alone.t_interval),
        (of_six.bootstrap_simultaneous, alone.bootstrap_interval),
        (of_six.better_interval, alone.better_interval),
    ):
        assert wide is not None
        assert narrow is not None
        assert wide.low <= narrow.low <= narrow.high <= wide.high


@given(pairs_of_figures)
def test_swapping_the_arms_negates_what_is_found_by_signs(pairs: list[tuple[float, float]]) -> None:
    a, b = (list(figures) for figures in zip(*pairs, strict=True))
    one, other = paired_by_signs(a, b), paired_by_signs(b, a)
    assert (other.difference, other.p_value) == (-one.difference, one.p_value)
    assert other.better == pytest.approx(1 - one.better)
    assert differences_so_far(b, a) == [-each for each in differences_so_far(a, b)]


@given(pairs_of_figures)
def test_later_pairs_do_not_change_the_differences_before(pairs: list[tuple[float, float]]) -> None:
    a, b = (list(figures) for figures in zip(*pairs, strict=True))
    whole = differences_so_far(a, b)
    assert all(map(math.isfinite, whole))
    assert [differences_so_far(a[:n], b[:n]) for n in range(len(a))] == [whole[:n] for n in range(len(a))]
    assert [x == y for x, y in pairs] == [each == 0 for each in whole]


def test_a_missed_target_counts_as_the_largest_difference_so_far() -> None:
    assert differences_so_far([3, math.inf, math.inf, 4, 1], [1, 2, math.inf, math.inf, 9]) == [2, 2, 0, -2, -8]
    assert differences_so_far([math.inf], [2]) == [1]


def test_an_arm_that_collapsed_once_makes_skewed_differences() -> None:
    collapsed = paired([0.1, 0.2, 0.0, 0.3, 0.1, -9.0], [0.0] * 6)
    assert collapsed.skewness is not None
    assert collapsed.skewness < -2
    assert is_skewed(collapsed)
    symmetric = paired([0.1, -0.1, 0.2, -0.2, 0.3, -0.3], [0.0] * 6)
    assert symmetric.skewness == pytest.approx(0, abs=1e-9)
    assert not is_skewed(symmetric)
    assert (paired([1.0, 1.0], [0.0, 0.5]).skewness, paired([0.5] * 5, [0.4] * 5).skewness) == (None, None)


def test_the_ratio_of_standard_deviations_is_the_larger_over_the_smaller() -> None:
    assert paired([0, 2, 4], [1, 2, 3]).sd_ratio == pytest.approx(2)
    assert paired([1, 2, 3], [0, 2, 4]).sd_ratio == pytest.approx(2)
    assert paired([1, 1, 1], [0, 2, 4]).sd_ratio == math.inf
    assert (paired([1, 1], [2, 2]).sd_ratio, paired([1], [2]).sd_ratio) == (None, None)


@pytest.mark.slow
def test_the_best_of_six_equal_settings_is_not_better_on_other_seeds_than_chose_it() -> None:
    """Validation and test accuracy of a model are correlated by 0.9. Chosen and compared on the same 16 seeds, the rate
    is far above the nominal one of 8 pairs, of which 2.3 % is on the side of the chosen one."""
    generator = np.random.default_rng(6)
    chosen_on, compared_on = choosing_seeds(range(16)), slice(8, 16)
    same, others = [], []
    for _ in range(1000):
        skill = generator.normal(0, 1, (7, 16))
        validation, test = (skill + generator.normal(0, 1 / 3, skill.shape) for _ in range(2))
        scores = [dict(enumerate(row)) for row in validation[1:].tolist()]
        on_half = paired(test[1 + choose(scores, chosen_on).best][compared_on].tolist(), test[0][compared_on].tolist())
        on_all = paired(
            test[1 + choose(scores, range(8, 16)).best][compared_on].tolist(), test[0][compared_on].tolist()
        )
        others.append(on_half.p_value <= 0.05 and on_half.difference > 0)
        same.append(on_all.p_value <= 0.05 and on_all.difference > 0)
    nominal = 6 / 256  # 12 of the 256 flips of 8 pairs are within 5 %, half of them on that side
    assert statistics.fmean(others) <= nominal + 3 * math.sqrt(nominal / 1000)
    assert statistics.fmean(same) > 2 * nominal
