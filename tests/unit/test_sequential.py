"""Sequential tests: published data, identities over all sign flips, and the edge cases of few and equal pairs."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlpq.analysis.inference import holm
from mlpq.analysis.sequential import (
    FLIPS,
    _flipped,
    anytime_interval,
    anytime_p,
    cap_for,
    e_values,
    fewest_bets,
    level_at_cap,
    most_evidence,
    rejected_at_cap,
)

SLEEP = [1.2, 2.4, 1.3, 1.3, 0.0, 1.0, 1.8, 0.8, 4.6, 1.4]  # Student 1908: hours that a drug adds to sleep
MAIZE = [49, -67, 8, 16, 6, 23, 28, 41, 14, 29, 56, 24, 75, 60, -48]  # Darwin 1876: eighths of an inch

counts = st.integers(-50, 50).map(lambda count: count / 10_000)


def e_by_definition(differences: list[float], mean: float) -> list[float]:
    """e_n as a mean of products, without logarithms."""
    z = []
    for n in range(1, len(differences) + 1):
        scale = math.sqrt(sum((d - mean) ** 2 for d in differences[:n]) / n)
        z.append((differences[n - 1] - mean) / scale if scale else 0.0)
    bets = [sign * delta * math.sqrt(1 + delta**2) for delta in (0.3, 0.7, 1.8) for sign in (-1, 1)]
    return [sum(math.prod(1 + math.tanh(b * x) for x in z[:n]) for b in bets) / 6 for n in range(1, len(z) + 1)]


def test_sleep_data_have_the_published_p_and_interval() -> None:
    interval = anytime_interval(SLEEP, 0.05)
    assert anytime_p(SLEEP) == pytest.approx(0.0100, abs=5e-5)
    assert (round(interval.low, 2), round(interval.high, 2)) == (0.40, 2.32)


def test_maize_data_have_the_published_p() -> None:
    assert anytime_p(MAIZE) == pytest.approx(0.0759, abs=5e-5)


@given(st.lists(counts | st.floats(-1e6, 1e6).map(lambda x: round(x, 6)), min_size=10, max_size=10))
@settings(max_examples=20, deadline=None)
def test_mean_wealth_over_all_sign_flips_is_one(differences: list[float]) -> None:
    flips = itertools.product([1, -1], repeat=10)
    finals = [e_values([sign * d for sign, d in zip(signs, differences, strict=True)])[-1] for signs in flips]
    assert math.fsum(finals) / 1024 == pytest.approx(1)


@given(st.lists(counts, min_size=1, max_size=12), st.sampled_from([0.0, 0.001, -0.0015]))
@settings(deadline=None)
def test_e_values_are_the_mean_of_the_products(differences: list[float], mean: float) -> None:
    assert e_values(differences, mean) == pytest.approx(e_by_definition(differences, mean), rel=1e-6)


def test_wealth_after_some_pairs_does_not_depend_on_the_pairs_that_follow() -> None:
    assert e_values(MAIZE)[:9] == pytest.approx(e_values(MAIZE[:9]), rel=1e-12)


def test_bets_and_the_look_at_the_cap_together_reject_at_most_alpha_of_all_flips() -> None:
    magnitudes = np.random.default_rng(3).gamma(1.0, size=11)
    rejected = 0
    for signs in itertools.product([1.0, -1.0], repeat=11):
        flipped = [float(d) for d in magnitudes * signs]
        rejected += anytime_p(flipped) <= 0.05 or rejected_at_cap(flipped, 0.05, flips=199, seed=1)
    assert 0.02 <= rejected / 2**11 <= 0.055  # 199 random flips instead of all: the level varies with them


def test_look_at_the_cap_finds_what_the_bets_missed() -> None:
    differences = [1.0, -0.4, 1.2, 0.8, -0.1, 0.9, 0.5]
    assert anytime_p(differences) > 0.05
    assert rejected_at_cap([*differences, 0.6, 0.7, 0.3, 0.2], 0.05)


def test_look_at_the_cap_is_deterministic_and_follows_its_seed() -> None:
    found = {rejected_at_cap(MAIZE, 0.04, flips=99, seed=seed) for seed in range(20)}
    assert found == {True, False}
    assert len({rejected_at_cap(MAIZE, 0.04, flips=99, seed=7) for _ in range(5)}) == 1


def test_level_at_the_cap_is_rejected_at_all_larger_levels() -> None:
    level = level_at_cap(SLEEP, 0.05, tests=15)
    assert level is not None
    tests = round(0.05 / level)
    assert all(rejected_at_cap(SLEEP, 0.05 / k) or anytime_p(SLEEP) <= 0.05 / k for k in range(1, tests + 1))
    assert not rejected_at_cap(SLEEP, 0.05 / (tests + 1))
    assert level_at_cap(MAIZE, 0.01, tests=3) is None


@pytest.mark.parametrize("empty", [[], [0.0], [0.0] * 20])
def test_ties_and_no_pairs_show_nothing(empty: list[float]) -> None:
    assert anytime_p(empty) == 1
    assert not rejected_at_cap(empty, 0.05)
    assert level_at_cap(empty, 0.05, tests=3) is None


def test_interval_is_unbounded_while_so_few_pairs_reject_no_mean() -> None:
    for few in ([], [1.0], [0.4] * 6):
        interval = anytime_interval(few, 0.05)
        assert (interval.low, interval.high) == (-math.inf, math.inf)


def test_interval_of_equal_differences_is_their_value() -> None:
    interval = anytime_interval([0.002] * 10, 0.05)
    assert (interval.low, interval.high) == pytest.approx((0.002, 0.002))
    ties = anytime_interval([0.0] * 10, 0.05)
    assert (ties.low, ties.high) == (0, 0)


@given(st.lists(counts, min_size=7, max_size=30), st.sampled_from([0.05, 0.01]))
@settings(deadline=None)
def test_interval_without_zero_means_p_below_alpha(differences: list[float], alpha: float) -> None:
    interval = anytime_interval(differences, alpha)
    assert interval.low <= interval.high
    if not interval.low <= 0 <= interval.high:
        assert anytime_p(differences) <= alpha


@given(st.lists(st.floats(-10, 10).map(lambda x: round(x, 6)), min_size=7, max_size=20))
@settings(deadline=None)
def test_p_does_not_depend_on_unit_or_direction(differences: list[float]) -> None:
    assert anytime_p([-100 * d for d in differences]) == pytest.approx(anytime_p(differences), rel=1e-6)


def test_evidence_and_p_never_turn_back() -> None:
    p = [anytime_p(SLEEP[:n]) for n in range(11)]
    assert p == sorted(p, reverse=True)
    assert most_evidence(SLEEP) == pytest.approx(1 / anytime_p(SLEEP))


def test_overwhelming_evidence_is_finite_in_p_and_infinite_as_wealth() -> None:
    assert anytime_p([1.0] * 2000) == 0
    assert most_evidence([1.0] * 2000) == math.inf


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_differences_that_are_not_finite_are_refused(value: float) -> None:
    for refused in (anytime_p, anytime_interval, rejected_at_cap):
        with pytest.raises(ValueError, match="finite"):
            refused([0.1, value])


def test_fewest_bets_reach_the_bound_and_one_fewer_does_not() -> None:
    for tests, fewest in ((1, 7), (6, 10), (15, 11)):
        assert fewest_bets(0.05 / tests) == fewest
        assert anytime_p([1.0] * fewest) <= 0.05 / tests < anytime_p([1.0] * (fewest - 1))


def test_cap_depends_on_magnitudes_only() -> None:
    pilot = [0.3, -0.1, 0.25, 0.4, -0.2, 0.1]
    assert cap_for(0.2, pilot, 0.05) == cap_for(0.2, [abs(d) for d in pilot], 0.05)
    assert cap_for(0.5, [1.0, -1.0], 0.05) == math.ceil(1.15 * 34)
    assert cap_for(0.5, [1.0, -1.0], 0.05 / 15) > cap_for(0.5, [1.0, -1.0], 0.05)  # type: ignore[operator]
    assert cap_for(1e-9, [1.0], 0.05) is None
    assert cap_for(0.1, [0.0] * 5, 0.05) == math.ceil(1.15 * 6)
    with pytest.raises(ValueError, match="at least one pair"):
        cap_for(0.1, [], 0.05)


def test_p_goes_through_holm() -> None:
    assert holm([anytime_p(SLEEP), anytime_p(MAIZE)]) == pytest.approx([0.0200, 0.0759], abs=1e-4)


@pytest.mark.parametrize("alpha", [0.0, 1.0])
def test_interval_needs_a_level_between_0_and_1(alpha: float) -> None:
    with pytest.raises(ValueError, match="alpha is between 0 and 1"):
        anytime_interval(SLEEP, alpha)


def test_look_at_the_cap_has_19_999_flips_and_the_differences_themselves() -> None:
    evidence, sums = _flipped(np.ones(30), FLIPS, 0)
    assert len(evidence) == len(sums) == 20_000
    assert (sums[0], evidence[0]) == (30, pytest.approx(most_evidence([1.0] * 30)))


def test_interval_ends_where_the_evidence_reaches_its_bound() -> None:
    interval = anytime_interval(SLEEP, 0.05)
    for end, outside in ((interval.low, interval.low - 1e-6), (interval.high, interval.high + 1e-6)):
        assert most_evidence(SLEEP, end) < 20 <= most_evidence(SLEEP, outside)


def test_difference_below_a_billionth_of_the_largest_is_a_tie() -> None:
    assert e_values([1.0, 1e-10]) == e_values([1.0, 0.0])
    assert e_values([1.0, 1e-8]) != e_values([1.0, 0.0])
