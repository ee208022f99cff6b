"""Races between arms: a decision depends on the scores in order of seed only, and decided arms need no more."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlpq.analysis.race import Race, RaceRules, run_race
from mlpq.analysis.sequential import anytime_p, level_at_cap
from mlpq.question_records import Verdict


def rules(
    arms: int, cap: int, margin: float | None = None, against: int | None = None, alpha: float = 0.05
) -> RaceRules:
    pairs = list(itertools.combinations(range(arms), 2))
    if against is not None:
        pairs = [(against, other) for other in range(arms) if other != against]
    return RaceRules(pairs, [cap] * len(pairs), margin, alpha, eliminates=against is None)


def normal(means: Sequence[float], n: int, seed: int = 0) -> list[list[float]]:
    generator = np.random.default_rng(seed)
    return [[float(x) for x in mean + generator.normal(0, 1, n)] for mean in means]


def decided(race: Race) -> list[tuple[str, int, int, int]]:
    return [(str(pair.verdict), pair.a, pair.b, pair.n) for pair in race.pairs]


def test_clearly_better_arm_is_decided_by_the_fewest_pairs() -> None:
    race = run_race([[1.0] * 20, [0.0] * 20], rules(2, cap=20))
    assert (race.verdict, race.best, race.n) == (Verdict.BETTER, 0, 7)
    assert race.is_over
    assert race.lead.p == pytest.approx(anytime_p([1.0] * 7))
    assert race.lead.evidence >= race.lead.bound == 20


def test_race_waits_for_the_scores_of_active_arms() -> None:
    race = run_race([[1.0] * 5, [0.0] * 3], rules(2, cap=20))
    assert (race.verdict, race.n, race.active) == (Verdict.UNDECIDED, 3, frozenset({0, 1}))
    assert run_race([[], []], rules(2, cap=20)).lead.interval.high == math.inf


@given(st.integers(0, 40), st.integers(0, 5000), st.sampled_from([None, 0.7]))
@settings(deadline=None, max_examples=30)
def test_decision_is_the_same_whenever_one_looks(upto: int, seed: int, margin: float | None) -> None:
    scores = normal([0.9, 0.4, 0.0], 40, seed)
    whole = run_race(scores, rules(3, 30, margin))
    early = run_race([each[:upto] for each in scores], rules(3, 30, margin))
    assert whole.is_over
    if early.is_over:
        assert early == whole
    for before, after in zip(early.pairs, whole.pairs, strict=True):
        assert before.verdict in (after.verdict, Verdict.UNDECIDED)
        assert before.n <= after.n


def test_arm_that_is_worse_than_another_needs_no_more_scores() -> None:
    generator = np.random.default_rng(1)
    close = [[float(x) for x in generator.normal(10, 1, 60)] for _ in range(2)]
    race = run_race([*close, [0.0] * 12, [0.5, -0.5] * 6], rules(4, cap=60))
    assert race.beaten >= {2, 3}
    lost = [pair for pair in race.pairs if {pair.a, pair.b} == {2, 3}]
    assert lost[0].verdict is Verdict.UNDECIDED
    assert lost[0].n == 10
    assert race.n > 10


def test_each_arm_is_decided_against_the_reference() -> None:
    race = run_race([[0.0] * 30, [1.0] * 30, [-1.0] * 30], rules(3, 30, against=0))
    assert decided(race) == [("better", 1, 0, 8), ("better", 0, 2, 8)]
    assert race.is_over
    assert (race.verdict, race.best) == (Verdict.BETTER, 1)


def test_reference_that_is_beaten_goes_on_against_the_others() -> None:
    noise = normal([0.0, 0.0], 20, seed=5)
    race = run_race([noise[0], [9.0] * 20, noise[1]], rules(3, 20, against=0))
    assert decided(race)[0][0] == "better"
    assert race.pairs[1].n == 20


def test_equal_arms_are_equivalent_only_with_a_margin() -> None:
    scores = normal([0, 0], 60, seed=2)
    with_margin = run_race(scores, rules(2, 60, margin=2.0))
    assert (with_margin.verdict, with_margin.best) == (Verdict.EQUIVALENT, None)
    assert with_margin.lead.equivalence is not None
    assert with_margin.lead.equivalence >= with_margin.lead.equivalence_bound
    assert -2 < with_margin.lead.interval.low < with_margin.lead.interval.high < 2
    without = run_race(scores, rules(2, 60))
    assert (without.verdict, without.n, without.is_over) == (Verdict.UNDECIDED, 60, True)
    assert without.lead.looked_at_cap


def test_look_at_the_cap_decides_once() -> None:
    differences = [1.0, -0.4, 1.2, 0.8, -0.1, 0.9, 0.5, 0.6, 0.7, 0.3, 0.2]
    scores = [differences, [0.0] * 11]
    race = run_race(scores, rules(2, cap=11))
    assert anytime_p(differences) > 0.05
    assert level_at_cap(differences, 0.05, 1) == 0.05
    assert (race.verdict, race.best, race.lead.looked_at_cap) == (Verdict.BETTER, 0, True)
    assert run_race(scores, rules(2, cap=12)).verdict is Verdict.UNDECIDED


def test_pair_without_significance_at_its_cap_can_be_better_when_others_are() -> None:
    """Holm's method: the level of the last pair is alpha, once all others are rejected."""
    weak = [1.0, -0.4, 1.2, 0.8, -0.3, 0.9, 0.5, 0.3, 0.7, 0.3, -0.2]
    pairs, caps = [(0, 1), (2, 3)], [11, 30]
    strong = [1.0, -1.0, 1.0, 1.0, -1.0, *[1.0] * 25]
    race = run_race([weak, [0.0] * 11, strong, [0.0] * 30], RaceRules(pairs, caps, None, 0.05, False))
    assert level_at_cap(weak, 0.05, 2) == 0.05
    assert [pair.verdict for pair in race.pairs] == [Verdict.BETTER, Verdict.BETTER]
    assert race.pairs[0].n == 11


def test_ties_are_never_decided_as_better() -> None:
    race = run_race([[1.0] * 30, [1.0] * 30], rules(2, 30))
    assert (race.verdict, race.n) == (Verdict.UNDECIDED, 30)
    assert run_race([[1.0] * 30, [1.0] * 30], rules(2, 30, margin=0.5)).verdict is Verdict.EQUIVALENT


def test_infinite_scores_count_as_the_worst() -> None:
    race = run_race([[-3.0] * 10, [-math.inf] * 10], rules(2, 10))
    assert (race.verdict, race.best) == (Verdict.BETTER, 0)
