"""What verdicts are worth: how often they are false, and how many seeds they take, in simulations with a known truth.

The tables of `benchmarks.comparison_verdicts`, and those of `mlpq decide`. Each figure comes from the functions that
the commands use. A share p of n comparisons has a standard error of sqrt(p (1 − p) / n): 0.5 % for 5 % of 2,000. All of
them take a few minutes.

    python -m benchmarks.verdicts [TABLE…]
"""

from __future__ import annotations

import itertools
import statistics
import sys
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from benchmarks import comparison_verdicts
from benchmarks.comparison_verdicts import percent
from benchmarks.report import machine, table, versions
from mlpq.analysis.inference import pairs_needed
from mlpq.analysis.race import Race, RaceRules, run_race
from mlpq.analysis.sequential import anytime_p
from mlpq.question_records import Verdict

ALPHA = 0.05
FLIPS = 1_999  # at the cap; the command takes 19,999, which changes the time and not the error rate

Draw = Callable[[np.random.Generator, int], NDArray[np.float64]]

NOISES: dict[str, Draw] = {
    "normal": lambda generator, n: generator.normal(0, 1, n),
    "t with 3 degrees of freedom": lambda generator, n: np.asarray(generator.standard_t(3, n), float),
    "counts, with ties": lambda generator, n: np.diff(generator.binomial(20, 0.5, (2, n)), axis=0)[0].astype(float),
}


def rules(arms: int, cap: int, number: int, margin: float | None = None) -> RaceRules:
    """Those of the comparison with this number, which has random flips of its own."""
    pairs = list(itertools.combinations(range(arms), 2))
    return RaceRules(pairs, [cap] * len(pairs), margin, ALPHA, eliminates=True, flips=FLIPS, seed=number)


def two_arms(drawn: Sequence[NDArray[np.float64]], margin: float | None = None) -> list[Race]:
    """Races between two arms with these differences, looked at after every seed, to the cap."""
    return [
        run_race([differences.tolist(), [0.0] * len(differences)], rules(2, len(differences), number, margin))
        for number, differences in enumerate(drawn)
    ]


def decide_null() -> Iterator[Sequence[str]]:
    """`decide` without a true difference, looked at after every seed up to a cap of 50: how often "better".

    The first column is without the look at the cap: what `compare` shows as the anytime p, at most alpha at any look.
    """
    yield ("differences", "anytime p ≤ 0.05 at any of 50 looks", "better, with the look at the cap", "n")
    n = 4_000
    for name, draw in NOISES.items():
        generator = np.random.default_rng(1)
        drawn = [draw(generator, 50) for _ in range(n)]
        bets = [anytime_p(each.tolist()) <= ALPHA for each in drawn]
        better = [race.verdict is Verdict.BETTER for race in two_arms(drawn)]
        yield (name, percent(bets), percent(better), f"{n:,}")


def decide_power() -> Iterator[Sequence[str]]:
    """`decide` with a true difference of d standard deviations, normal, looked at after every seed up to the cap."""
    yield ("d / sd", "cap", "better", "mean seeds", "better, but the wrong one", "fixed n for 80 %", "n")
    n = 1_000
    for effect, cap in ((1.0, 11), (0.8, 17), (0.5, 38), (0.3, 104)):
        generator = np.random.default_rng(2)
        races = two_arms([generator.normal(effect, 1, cap) for _ in range(n)])
        yield (
            f"{effect:g}",
            str(cap),
            percent([race.best == 0 for race in races]),
            f"{statistics.fmean(race.n for race in races):.1f}",
            percent([race.best == 1 for race in races]),
            str(pairs_needed(effect, 1)),
            f"{n:,}",
        )


def decide_six_arms() -> Iterator[Sequence[str]]:
    """`decide` with six equal arms, 15 pairs by Holm's method, looked at after every seed up to a cap of 55."""
    yield ("arms", "any pair better, by betting", "any pair better, with the look at the cap", "n")
    n = 400
    generator = np.random.default_rng(3)
    by_betting, better = [], []
    for number in range(n):
        scores = generator.normal(0, 1, (6, 55)).tolist()
        found = [pair for pair in run_race(scores, rules(6, 55, number)).pairs if pair.verdict is Verdict.BETTER]
        better.append(bool(found))
        by_betting.append(any(not pair.looked_at_cap for pair in found))
    yield ("6", percent(by_betting), percent(better), f"{n:,}")


def decide_equivalence() -> Iterator[Sequence[str]]:
    """`decide` with a margin of one standard deviation, normal differences, up to a cap of 50."""
    yield ("true difference", "equivalent", "better", "mean seeds", "n")
    n = 1_000
    for name, difference in (("0", 0.0), ("the margin", 1.0)):
        generator = np.random.default_rng(4)
        races = two_arms([generator.normal(difference, 1, 50) for _ in range(n)], margin=1.0)
        yield (
            name,
            percent([race.verdict is Verdict.EQUIVALENT for race in races]),
            percent([race.verdict is Verdict.BETTER for race in races]),
            f"{statistics.fmean(race.n for race in races):.1f}",
            f"{n:,}",
        )


TABLES: dict[str, Callable[[], Iterator[Sequence[str]]]] = {
    **comparison_verdicts.TABLES,
    "decide-null": decide_null,
    "decide-power": decide_power,
    "decide-six-arms": decide_six_arms,
    "decide-equivalence": decide_equivalence,
}


def main(names: Sequence[str]) -> None:
    print(f"{machine()}, {versions('numpy', 'scipy')}")
    for name in names or TABLES:
        header, *rows = TABLES[name]()
        print(f"\n{' '.join((TABLES[name].__doc__ or '').split())}\n")
        print(table(header, rows), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
