"""How often `mlpq compare` and `mlpq verify` are wrong in simulations, by the functions that the commands use.

A share p of n comparisons has a standard error of sqrt(p (1 − p) / n): 0.5 % for 5 % of 2,000.

    python -m benchmarks.comparison_verdicts [TABLE…]
"""

from __future__ import annotations

import itertools
import statistics
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import cache

import numpy as np
from numpy.typing import NDArray

from benchmarks.report import machine, table, versions
from mlpq.analysis import inference
from mlpq.analysis.choice import choose
from mlpq.analysis.comparison import ALPHA, compare
from mlpq.analysis.fairness import LARGEST_SD_RATIO
from mlpq.analysis.params import ComparisonParams
from mlpq.analysis.sequential import anytime_p
from mlpq.records import JobRecord
from mlpq.spec.job import JobSpec
from mlpq.verification.grading import Judgment, Run, judge, refute_arms
from mlpq.verification_records import Grade
from tests.support.result_rows import job_record, job_result, specs

Generator = np.random.Generator
FLIPS = 1_999  # for more than 20 pairs; the commands take 99,999, which changes the time and not the error rate
SD = 0.003  # of an accuracy over the seeds
IMAGES = 10_000
SHARED = 0.9  # correlation of validation and test accuracy over the seeds; 0.8 to 0.97 on Fashion-MNIST


def percent(values: Sequence[bool]) -> str:
    return f"{100 * statistics.fmean(values):.1f} %"


def looks() -> Iterator[Sequence[str]]:
    """Equal arms, normal figures, 10 seeds, 5 more after each look: how often some pair was "better" at any look."""
    yield ("arms", "test", "1 look", "3 looks", "10 looks", "n")
    inference.SIGN_FLIPS = FLIPS
    inference.FEWEST_FOR_BOOTSTRAP = 10**9  # no interval is looked at
    for arms, n in ((2, 2_000), (6, 400)):
        drawn = np.random.default_rng(1).normal(0, SD, (n, arms, 55))
        at_looks = [[_is_significant(figures[:, : 5 + 5 * look]) for figures in drawn] for look in range(1, 11)]
        for number, test in enumerate(("p (Holm), as if n had been fixed", "anytime p (Holm)")):
            found = np.array([[both[number] for both in look] for look in at_looks])
            shares = [percent([bool(each) for each in np.any(found[:most], axis=0).tolist()]) for most in (1, 3, 10)]
            yield (str(arms), test, *shares, f"{n:,}")


def _is_significant(figures: NDArray[np.float64]) -> tuple[bool, bool]:
    """Whether some pair of arms is, by the test of a fixed n and by the anytime one."""
    pairs = list(itertools.combinations(figures, 2))
    fixed = [inference.paired(a.tolist(), b.tolist()).p_value for a, b in pairs]
    anytime = [anytime_p((a - b).tolist()) for a, b in pairs]
    return min(inference.holm(fixed)) <= ALPHA, min(inference.holm(anytime)) <= ALPHA


def chosen() -> Iterator[Sequence[str]]:
    """The best of 6 equal settings by validation accuracy against a single one: how often that side is "better"."""
    yield ("seeds", "settings", "chosen and compared on the same seeds", "chosen on the first half", "nominal", "n")
    n = 1_000
    for seeds, settings in ((12, 6), (24, 6), (24, 1)):
        generator = np.random.default_rng(2)
        found = [_is_falsely_better(generator, seeds, settings) for _ in range(n)]
        nominal = _attainable(seeds), _attainable(seeds - seeds // 2 if settings > 1 else seeds)
        yield (
            str(seeds), str(settings), percent([same for same, _ in found]), percent([half for _, half in found]),
            " and ".join(f"{100 * level / 2:.1f} %" for level in dict.fromkeys(nominal)), f"{n:,}",
        )  # fmt: skip


def _attainable(pairs: int) -> float:
    """The largest level up to ALPHA of the two-sided sign-flip test with continuous figures."""
    return ALPHA if pairs > 20 else int(ALPHA * 2**pairs / 2) * 2 / 2**pairs


def _is_falsely_better(generator: Generator, seeds: int, settings: int) -> tuple[bool, bool]:
    """Whether the side with several settings is better: chosen on the seeds that compare, and as `compare` does it."""
    skill = generator.normal(0, SD, (settings + 1, seeds))
    noise = SD * (1 / SHARED - 1) ** 0.5
    validated, tested = (0.87 + skill + generator.normal(0, noise, skill.shape) for _ in range(2))
    best = choose([dict(enumerate(row)) for row in validated[1:].tolist()], range(seeds)).best if settings > 1 else 0
    same = inference.paired(tested[best + 1].tolist(), tested[0].tolist())
    records = [job for arm in range(settings + 1) for job in _jobs(arm, validated[arm].tolist(), tested[arm].tolist())]
    (pair,) = compare(records, [], {}, ComparisonParams(by="optimizer")).pairs
    return (
        same.p_value <= ALPHA and same.difference > 0,
        pair.p_adjusted <= ALPHA and pair.a.spec.optimizer == "sgd",
    )


@cache
def _specs(arm: int) -> list[JobSpec]:
    """By seed."""
    optimizer = f"sgd:lr={arm}" if arm else "adam"
    return specs(dataset="fashion-mnist", optimizer=optimizer, validation=0.1, seeds="0..23")


def _jobs(arm: int, validated: Sequence[float], tested: Sequence[float]) -> list[JobRecord]:
    jobs = []
    for seed, (validation, test) in enumerate(zip(validated, tested, strict=True)):
        spec = _specs(arm)[seed]
        counts = {"validation_correct": round(6_000 * validation), "validation_total": 6_000}
        result = job_result(spec, round(IMAGES * test), test_total=IMAGES, **counts)
        jobs.append(replace(job_record(spec, 100 * arm + seed, 1), result=result))
    return jobs


def skewed() -> Iterator[Sequence[str]]:
    """Equal means, but one arm sometimes collapses by 20 standard deviations: how often a pair is "better", and how
    often the notes say that differences are skewed or standard deviations very unequal."""
    yield ("collapses in", "pairs", "better", "of those with a note", "all with a note", "n")
    n = 4_000
    for share, pairs in itertools.product((0.0, 0.05, 0.15), (6, 10, 20)):
        generator = np.random.default_rng(3)
        found = [_collapsing(generator, share, pairs) for _ in range(n)]
        better = [noted for is_better, noted in found if is_better]
        yield (
            f"{100 * share:g} %", str(pairs), percent([is_better for is_better, _ in found]),
            percent(better) if better else "", percent([noted for _, noted in found]), f"{n:,}",
        )  # fmt: skip


def _collapsing(generator: Generator, share: float, pairs: int) -> tuple[bool, bool]:
    steady = generator.normal(0, 1, pairs)
    wild = generator.normal(20 * share, 1, pairs) - 20 * (generator.random(pairs) < share)
    found = inference.paired(wild.tolist(), steady.tolist())
    noted = inference.is_skewed(found) or (found.sd_ratio or 0) > LARGEST_SD_RATIO
    return found.p_value <= ALPHA, noted


def verify_alarms() -> Iterator[Sequence[str]]:
    """One call of `verify` where bits differ, arms of 10 seeds: how often it refutes any result."""
    yield ("results", "recorded", "1 % for each accuracy", "1 % split over the call", "with the test of the arms", "n")
    for arms, points, n in ((1, 0, 2_000), (5, 0, 1_000), (1, 0.5, 1_000), (1, 1, 1_000), (5, 1, 400)):
        generator = np.random.default_rng(4)
        found = [_refuted(generator, arms, points) for _ in range(n)]
        yield (
            str(10 * arms), f"{points:g} points too high" if points else "as trained",
            *(percent([each[column] for each in found]) for column in range(3)), f"{n:,}",
        )  # fmt: skip


def _refuted(generator: Generator, arms: int, points: float) -> tuple[bool, bool, bool]:
    """Whether one call refutes anything: with 1 % for each accuracy, with 1 % for all, and with the test of arms."""
    shape = arms, 10
    recorded = np.rint(IMAGES * generator.normal(0.87 + points / 100, SD, shape)).astype(int).tolist()
    now = np.rint(IMAGES * generator.normal(0.87, SD, shape)).astype(int).tolist()
    graded: list[list[list[Judgment]]] = []
    for checks in (1, 2 * 10 * arms):
        graded.append([[_judged(*row, i, checks) for i in range(10)] for row in zip(recorded, now, strict=True)])
    graded.append(refute_arms(graded[1]))
    found = [any(each.grade is Grade.REFUTED for arm in call for each in arm) for call in graded]
    return found[0], found[1], found[2]


def _judged(recorded: Sequence[int], now: Sequence[int], seed: int, checks: int) -> Judgment:
    runs = [
        Run(job_result(_specs(0)[seed], counts[seed], test_total=IMAGES, weights_sha256=sha, test_loss=loss), (), facts)
        for counts, sha, loss, facts in ((recorded, "ab", 0.4, {"gpu": "one"}), (now, "cd", 0.5, {"gpu": "two"}))
    ]
    others = [count / IMAGES for other, count in enumerate(now) if other != seed]
    return judge(runs[0], runs[1], lambda: others, checks)


TABLES: dict[str, Callable[[], Iterator[Sequence[str]]]] = {
    "looks": looks, "choice": chosen, "skewed": skewed, "verify": verify_alarms,
}  # fmt: skip


def main(names: Sequence[str]) -> None:
    print(f"{machine()}, {versions('numpy', 'scipy')}")
    for name in names or TABLES:
        header, *rows = TABLES[name]()
        print(f"\n{' '.join((TABLES[name].__doc__ or '').split())}\n")
        print(table(header, rows), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
