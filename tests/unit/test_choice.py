"""The choice among settings: the best mean, how certain it is, and which seeds choose."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlpq.analysis.choice import choose, choosing_seeds, seeds_enough

SEEDS = range(5)
scores = st.lists(st.lists(st.integers(0, 500), min_size=5, max_size=5), min_size=2, max_size=6)


def by_seed(rows: list[list[int]]) -> list[dict[int, float]]:
    return [{seed: row[seed] / 500 for seed in SEEDS} for row in rows]


def test_the_best_mean_is_chosen_with_its_runner_up_and_margin() -> None:
    found = choose([{0: 0.5, 1: 0.5}, {0: 0.9, 1: 0.7}, {0: 0.7, 1: 0.7}], (0, 1))
    assert (found.best, found.runner_up, found.seeds) == (1, 2, (0, 1))
    assert found.margin == pytest.approx(0.1)
    assert found.shares == pytest.approx((0, 7 / 8, 1 / 8), abs=0.03)  # a tie where seed 1 is drawn twice


def test_equal_settings_are_chosen_equally_often() -> None:
    found = choose([{0: 0.1, 1: 0.2, 2: 0.3}] * 2, (0, 1, 2))
    assert (found.best, found.margin, found.shares) == (0, 0, (0.5, 0.5))


def test_means_that_differ_by_rounding_only_are_a_tie() -> None:
    """0.1 + 0.2 + 0.3 is not 0.3 + 0.2 + 0.1 in binary."""
    counts = np.random.default_rng(0).multinomial(3, [1 / 3] * 3, size=1999)
    first, last = counts[:, 0], counts[:, 2]
    share = float(np.mean((last > first) + (last == first) / 2))
    found = choose([{0: 0.1, 1: 0.2, 2: 0.3}, {0: 0.3, 1: 0.2, 2: 0.1}], (0, 1, 2))
    assert found.shares == pytest.approx((share, 1 - share))


@given(scores)
def test_shares_add_up_and_the_chosen_has_the_best_mean(rows: list[list[int]]) -> None:
    found = choose(by_seed(rows), SEEDS)
    assert sum(found.shares) == pytest.approx(1)
    assert sum(rows[found.best]) == max(map(sum, rows))
    assert found.margin >= 0
    assert found == choose(by_seed(rows), SEEDS)


@given(scores)
def test_the_order_of_settings_changes_no_share(rows: list[list[int]]) -> None:
    turned = choose(by_seed(rows[::-1]), SEEDS).shares[::-1]
    assert turned == pytest.approx(choose(by_seed(rows), SEEDS).shares)


@given(st.integers(1, 60))
def test_the_first_half_of_the_seeds_but_at_least_three_choose(pairs: int) -> None:
    assert choosing_seeds((9, 0, 4, 7, 2, 5, 1, 3)) == (0, 1, 2, 3)
    assert choosing_seeds((0, 1, 2, 3)) == (0, 1, 2)
    n = seeds_enough(pairs)
    assert n - len(choosing_seeds(range(n))) == pairs
    assert n - 1 - len(choosing_seeds(range(n - 1))) < pairs
    assert seeds_enough(pairs, 5) == pairs + 5
