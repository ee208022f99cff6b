"""Rules of a race, held against a plain computation: Holm's bound, the margin, and the pair that a verdict rests on."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from mlpq.analysis.inference import holm
from mlpq.analysis.race import RaceRules, run_race
from mlpq.analysis.sequential import fewest_bets, most_evidence
from mlpq.question_records import Verdict

ALPHA = 0.05


def rules(arms: int, cap: int, margin: float | None = None, eliminates: bool = False) -> RaceRules:
    pairs = list(itertools.combinations(range(arms), 2))
    return RaceRules(pairs, [cap] * len(pairs), margin, ALPHA, eliminates, flips=99)


def normal(means: list[float], n: int, seed: int) -> list[list[float]]:
    draws = np.random.default_rng(seed).normal(0, 1, (len(means), n))
    return [[mean + float(x) for x in row] for mean, row in zip(means, draws, strict=True)]


@pytest.mark.parametrize("seed", range(6))
def test_pairs_are_decided_at_the_first_seed_at_which_holm_rejects_them(seed: int) -> None:
    scores = normal([2.0, 1.2, 0.0], 40, seed)
    race = run_race(scores, rules(3, cap=99))
    decided: dict[int, int] = {}
    for n in range(1, race.n + 1):
        p = [
            0.0 if i in decided else 1 / most_evidence([x - y for x, y in zip(scores[a], scores[b], strict=True)][:n])
            for i, (a, b) in enumerate(itertools.combinations(range(3), 2))
        ]
        decided |= {i: n for i, adjusted in enumerate(holm(p)) if adjusted <= ALPHA and i not in decided}
    assert {i: pair.n for i, pair in enumerate(race.pairs) if pair.verdict is Verdict.BETTER} == decided
    assert decided


def test_pairs_of_equal_evidence_need_the_bound_of_all_tests() -> None:
    race = run_race([[2.0] * 20, [1.0] * 20, [0.0] * 20], rules(3, cap=20))
    assert {pair.n for pair in race.pairs} == {fewest_bets(ALPHA / 3)} == {9}
    assert (race.verdict, race.best, race.beaten) == (Verdict.BETTER, 0, frozenset({1, 2}))
    assert {(pair.level, pair.equivalence_bound) for pair in race.pairs} == {(ALPHA / 3, 3 / ALPHA)}
    waiting = run_race([[2.0] * 4, [1.0] * 4, [0.0] * 4], rules(3, cap=20))
    assert {pair.bound for pair in waiting.pairs} == {3 / ALPHA}
    assert [pair.p for pair in waiting.pairs] == pytest.approx([3 / most_evidence([1.0] * 4)] * 3)


def test_equivalent_pairs_have_the_evidence_of_all_tests_and_a_mean_within_the_margin() -> None:
    found = [pair for seed in range(4) for pair in run_race(normal([0.2, 0.0, 0.1], 70, seed), rules(3, 99, 1.6)).pairs]
    equivalent = [pair for pair in found if pair.verdict is Verdict.EQUIVALENT]
    assert len(equivalent) > 5
    for pair in equivalent:
        ends = [most_evidence(pair.differences, end) for end in (-1.6, 1.6)]
        assert pair.equivalence == pytest.approx(min(ends))
        assert min(ends) >= 3 / ALPHA
        before = [most_evidence(pair.differences[:-1], end) for end in (-1.6, 1.6)]
        assert min(before) < 3 / ALPHA
        assert 0 <= pair.mean < 1.6


def test_arms_beyond_the_margin_are_not_equivalent() -> None:
    """The bets reject both ends of the margin, but the mean is beyond one of them."""
    race = run_race([[3.0, 3.2] * 20, [0.0, 0.0] * 20], rules(2, 40, margin=1.0))
    assert race.verdict is Verdict.BETTER
    assert race.lead.equivalence is not None


def test_better_arm_of_a_pair_comes_first_with_differences_in_its_favor() -> None:
    race = run_race([[0.0] * 10, [1.0] * 10], rules(2, 20))
    (pair,) = race.pairs
    assert (pair.a, pair.b, pair.differences, pair.mean) == (1, 0, (1.0,) * 7, 1.0)
    assert (race.best, race.beaten) == (1, frozenset({0}))
    assert run_race([[], []], rules(2, 20)).lead.mean == 0


def test_verdict_rests_on_the_least_certain_pair_of_the_best_arm() -> None:
    best, near, far = normal([2.0, 1.2, -3.0], 60, 1)
    race = run_race([near, best, far], rules(3, 60))
    assert (race.verdict, race.best) == (Verdict.BETTER, 1)
    assert (race.lead.a, race.lead.b) == (1, 0)
    assert race.lead.p == max(pair.p for pair in race.pairs if pair.a == 1)


def test_verdict_of_equivalence_rests_on_arms_that_are_not_beaten() -> None:
    one, two = normal([0.0, 0.0], 60, 2)
    race = run_race([[-9.0] * 60, one, two], rules(3, 60, margin=2.0, eliminates=True))
    assert (race.verdict, race.best, race.beaten) == (Verdict.EQUIVALENT, None, frozenset({0}))
    assert {race.lead.a, race.lead.b} == {1, 2}
    against = RaceRules([(0, 1), (0, 2)], [60, 60], 2.0, ALPHA, eliminates=False, flips=99)
    apart = run_race([[-9.0] * 60, one, two], against)  # the other two were not compared
    assert (apart.verdict, apart.best, apart.is_over) == (Verdict.UNDECIDED, None, True)


NOISY = [*[5.0, -5.0] * 5, *[4.0] * 40]  # against 0: undecided in the first 26 pairs, and better later
STEADY = [[0.0] * 50, [-1.0] * 50]  # the first beats the second before


@pytest.mark.parametrize(("n", "verdict"), [(24, Verdict.UNDECIDED), (50, Verdict.BETTER)])
def test_verdict_does_not_rest_on_a_pair_that_stopped_since_its_arm_was_beaten(n: int, verdict: Verdict) -> None:
    race = run_race([NOISY[:n], *(each[:n] for each in STEADY)], rules(3, 60, eliminates=True))
    against_second, against_third, _ = race.pairs
    assert (race.verdict, against_third.verdict, race.beaten >= {2}) == (verdict, Verdict.UNDECIDED, True)
    assert against_second.p < against_third.p
    assert (race.lead.a, race.lead.b) == (0, 1)


def test_better_arm_within_the_margin_is_better() -> None:
    """The bets reach all three bounds with the same pair."""
    assert run_race([[0.5] * 10, [0.0] * 10], rules(2, 20, margin=1.0)).verdict is Verdict.BETTER


def test_pair_that_the_bets_decide_at_the_cap_needs_no_look() -> None:
    race = run_race([[1.0] * 7, [0.0] * 7], rules(2, 7))
    assert (race.verdict, race.lead.looked_at_cap) == (Verdict.BETTER, False)


def test_interval_of_scores_that_are_infinite_is_unbounded() -> None:
    race = run_race([[-3.0] * 10, [-math.inf] * 10], rules(2, 10))
    assert (race.lead.is_finite, race.lead.interval.low, race.lead.interval.high) == (False, -math.inf, math.inf)
    finite = run_race([[3.0] * 10, [1.0] * 10], rules(2, 10)).lead
    assert (finite.is_finite, finite.interval.is_bounded) == (True, True)


def test_look_at_the_cap_is_taken_once_and_at_the_cap() -> None:
    scores = normal([0.0, 0.0], 12, 3)
    before, at = (run_race([each[:n] for each in scores], rules(2, 12)) for n in (11, 12))
    assert (before.lead.looked_at_cap, before.is_over, before.n) == (False, False, 11)
    assert (at.lead.looked_at_cap, at.is_over, at.n) == (True, True, 12)
