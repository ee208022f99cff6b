"""Which of several arms is better, decided as their scores come in. Pure: nothing but the scores, in order of seed.

Scores are looked at after every seed, however many have come since: what is decided, and with how many pairs, depends
on the scores only and not on when one looked. All pairs of arms advance together, since Holm's correction depends on
all of them. Import it late: numpy and scipy take half a second to load.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from mlpq.analysis.inference import Interval, differences_so_far, holm
from mlpq.analysis.sequential import FLIPS, anytime_interval, e_values, level_at_cap
from mlpq.question_records import Verdict

ROUNDING = 1 + 1e-9  # alpha / k times k / alpha is 1


@dataclass(frozen=True, slots=True)
class RaceRules:
    """What is fixed before the first look. `pairs` are those of arms to compare, each with its cap in `caps`.

    `margin` is the largest difference that counts as equivalent, None where equivalence is no possible verdict.
    `eliminates`: an arm that is worse than another needs no more scores, whatever is open between it and a third one.
    `flips` is the number of random sign flips of the look at the cap, drawn with `seed`.
    """

    pairs: Sequence[tuple[int, int]]
    caps: Sequence[int]
    margin: float | None
    alpha: float
    eliminates: bool
    flips: int = FLIPS
    seed: int = 0


@dataclass(frozen=True, slots=True)
class RacePair:
    """Two arms after n pairs: `a` is the one with the better mean of those, `differences` are a − b in order of seed.

    `p` is Holm's anytime p-value over all pairs of the race. `evidence` is the most that the bets against a difference
    of 0 had, `bound` what they need by Holm's method as it stands, or needed when the pair was decided. `equivalence`
    is the less evident of the differences −margin and +margin, and needs `equivalence_bound`; None without a margin.
    `looked_at_cap`: the exact look at the cap was taken. `level` is alpha / pairs. `is_finite`: no score is
    infinite, as that of a target that was never reached; such scores count by their signs.
    """

    a: int
    b: int
    n: int
    cap: int
    differences: tuple[float, ...]
    verdict: Verdict
    p: float
    evidence: float
    bound: float
    equivalence: float | None
    equivalence_bound: float
    looked_at_cap: bool
    level: float
    is_finite: bool

    @property
    def interval(self) -> Interval:
        """The anytime interval of the mean difference, with confidence 1 − `level`; unbounded unless `is_finite`."""
        return anytime_interval(self.differences if self.is_finite else [], self.level)

    @property
    def mean(self) -> float:
        """The mean difference, 0 without a pair."""
        return statistics.fmean(self.differences) if self.differences else 0.0


@dataclass(frozen=True, slots=True)
class Race:
    """The state of a race: `n` pairs were looked at, and the arms `active` need more scores to go on.

    `pairs` are in the order of the rules. `verdict` and `best` say what holds for all arms: `best` is the only arm that
    is worse than no other one, where there is such; otherwise all arms that are worse than none may be equivalent.
    """

    pairs: tuple[RacePair, ...]
    n: int
    active: frozenset[int]
    beaten: frozenset[int]
    verdict: Verdict
    best: int | None

    @property
    def is_over(self) -> bool:
        """Whether all is decided, or at its cap."""
        return not self.active

    @property
    def lead(self) -> RacePair:
        """The pair that `verdict` rests on: of those with that verdict and the best arms, the least certain one."""
        own = [pair for pair in self.pairs if pair.verdict is self.verdict and pair.a not in self.beaten]
        survivors = [pair for pair in own if self.best is not None or pair.b not in self.beaten]
        return max(survivors or own or self.pairs, key=lambda pair: (pair.p, pair.n))


def run_race(scores: Sequence[Sequence[float]], rules: RaceRules) -> Race:
    """Run the race as far as the scores go; `scores` has for each arm those of the first seeds, higher is better.

    After each seed a pair is *better* where Holm's p-value of all pairs is at most alpha; *equivalent* where the bets
    have rejected both differences of the margin, at alpha / pairs, and the mean lies between; and at its cap, once,
    better where the exact test of `rejected_at_cap` rejects at the level that Holm's method requires.
    """
    tracked = [_Tracked(scores, pair, cap, rules) for pair, cap in zip(rules.pairs, rules.caps, strict=True)]
    n = 0
    while active := _active(tracked, rules):
        if any(len(scores[arm]) <= n for arm in active):
            break
        n += 1
        running = [pair for pair in tracked if pair.is_open and {pair.a, pair.b} <= active]
        for pair in running:
            pair.n = n
        _mark_better(tracked, rules)
        for pair in running:
            if pair.is_open and pair.is_equivalent(len(tracked)):
                pair.verdict = Verdict.EQUIVALENT
        if at_cap := [pair for pair in running if pair.is_open and pair.n == pair.cap]:
            for pair in at_cap:
                pair.look_at_cap(len(tracked))
            _mark_better(tracked, rules)
    return _state(tracked, n, active, rules)


class _Tracked:
    """A pair while the race runs. Its evidence after each number of pairs is computed at once."""

    def __init__(self, scores: Sequence[Sequence[float]], pair: tuple[int, int], cap: int, rules: RaceRules) -> None:
        self.a, self.b = pair
        self.cap, self.n = cap, 0
        self.verdict = Verdict.UNDECIDED
        self.looked_at_cap = False
        self.bound = 0.0
        self._level: float | None = None
        self._rules = rules
        common = min(len(scores[self.a]), len(scores[self.b]), cap)
        self._scores = scores[self.a][:common], scores[self.b][:common]
        self._all = differences_so_far(*self._scores)
        self._evidence = _most(self._all, 0.0)
        self._sides = [_most(self._all, end) for end in (-rules.margin, rules.margin)] if rules.margin else []

    @property
    def is_open(self) -> bool:
        return self.verdict is Verdict.UNDECIDED and not self.looked_at_cap

    @property
    def differences(self) -> list[float]:
        return self._all[: self.n]

    @property
    def is_finite(self) -> bool:
        return all(math.isfinite(score) for scores in self._scores for score in scores[: self.n])

    @property
    def mean(self) -> float:
        return statistics.fmean(self.differences) if self.n else 0.0

    @property
    def evidence(self) -> float:
        return self._evidence[self.n]

    @property
    def p(self) -> float:
        """The p-value that Holm's method takes: after the look at the cap, the smallest level that it rejects."""
        p = 1 / self.evidence
        return p if self._level is None else min(p, self._level)

    @property
    def equivalence(self) -> float | None:
        return min(side[self.n] for side in self._sides) if self._sides else None

    def is_equivalent(self, tests: int) -> bool:
        evidence, margin = self.equivalence, self._rules.margin
        return (
            evidence is not None
            and margin is not None
            and (evidence >= tests / self._rules.alpha and abs(self.mean) < margin)
        )

    def look_at_cap(self, tests: int) -> None:
        self.looked_at_cap = True
        self._level = _level(tuple(self.differences), self._rules.alpha, tests, (self._rules.flips, self._rules.seed))


@lru_cache(maxsize=256)
def _level(differences: tuple[float, ...], alpha: float, tests: int, flips: tuple[int, int]) -> float | None:
    """`level_at_cap`, which takes a tenth of a second: pages and tables look again and again."""
    return level_at_cap(differences, alpha, tests, *flips)


def _most(differences: Sequence[float], mean: float) -> list[float]:
    """The most evidence against `mean` after 0, 1, … pairs."""
    return [float(e) for e in np.maximum.accumulate([1.0, *e_values(differences, mean)])]


def _active(tracked: Sequence[_Tracked], rules: RaceRules) -> frozenset[int]:
    """The arms with an open pair, where both arms of it still race."""
    beaten = _beaten(tracked) if rules.eliminates else frozenset()
    return frozenset(
        arm for pair in tracked if pair.is_open and not beaten & {pair.a, pair.b} for arm in (pair.a, pair.b)
    )


def _beaten(tracked: Sequence[_Tracked]) -> frozenset[int]:
    return frozenset(pair.b if pair.mean > 0 else pair.a for pair in tracked if pair.verdict is Verdict.BETTER)


def _mark_better(tracked: Sequence[_Tracked], rules: RaceRules) -> None:
    """Holm's procedure, from the smallest p-value upward; pairs that it has rejected before stay rejected."""
    left = sorted((pair for pair in tracked if pair.verdict is not Verdict.BETTER), key=lambda pair: pair.p)
    for rejected, pair in enumerate(left):
        pair.bound = (len(left) - rejected) / rules.alpha
        if pair.p * pair.bound > ROUNDING or not pair.mean:
            break
        pair.verdict = Verdict.BETTER


def _state(tracked: Sequence[_Tracked], n: int, active: frozenset[int], rules: RaceRules) -> Race:
    adjusted = holm([1 / pair.evidence for pair in tracked])
    pairs = tuple(_race_pair(pair, p, tracked, rules) for pair, p in zip(tracked, adjusted, strict=True))
    beaten = _beaten(tracked)
    arms = {arm for pair in rules.pairs for arm in pair}
    left = arms - beaten
    between = [pair for pair in pairs if {pair.a, pair.b} <= left]
    best, verdict = None, Verdict.UNDECIDED
    if len(left) == 1:
        (best,), verdict = left, Verdict.BETTER
    elif len(between) == math.comb(len(left), 2) and all(pair.verdict is Verdict.EQUIVALENT for pair in between):
        verdict = Verdict.EQUIVALENT
    return Race(pairs, n, active, beaten, verdict, best)


def _race_pair(pair: _Tracked, p: float, tracked: Sequence[_Tracked], rules: RaceRules) -> RacePair:
    tests = len(tracked)
    left = sum(other.verdict is not Verdict.BETTER for other in tracked)
    is_turned = pair.mean < 0
    return RacePair(
        a=pair.b if is_turned else pair.a,
        b=pair.a if is_turned else pair.b,
        n=pair.n,
        cap=pair.cap,
        differences=tuple(-d if is_turned else d for d in pair.differences),
        verdict=pair.verdict,
        p=p,
        evidence=pair.evidence,
        bound=pair.bound if pair.verdict is Verdict.BETTER else left / rules.alpha,
        equivalence=pair.equivalence,
        equivalence_bound=tests / rules.alpha,
        looked_at_cap=pair.looked_at_cap,
        level=rules.alpha / tests,
        is_finite=pair.is_finite,
    )
