"""The test accuracy to expect of an optimizer after k of its settings were tried, as a function of k."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from mlpq import formatting
from mlpq.analysis.arms import Arm, arms
from mlpq.analysis.metrics import percent_on_test
from mlpq.analysis.summary import Summary, best_of_k, summarize
from mlpq.jobs import Outcome
from mlpq.records import JobRecord


@dataclass(frozen=True, slots=True)
class BestOf:
    """The expected test accuracies of one optimizer with several settings.

    `expected[k - 1]` summarizes over `seeds`, in percent, the test accuracy to expect of the best by validation
    accuracy of k settings, each k of them as likely as any other; k goes from 1 to `settings`. A run that diverged
    counts as the worst of its seed, with the accuracy of chance. `expected` is empty where no seed has a result of
    every setting.
    """

    optimizer: str
    settings: int
    seeds: tuple[int, ...]
    expected: tuple[Summary, ...]


def best_of(records: Sequence[JobRecord], ancestors: Sequence[JobRecord] = ()) -> list[BestOf]:
    """For each optimizer with several settings on the same data and split, on the seeds that all settings have.

    Jobs without a validation split are left out: nothing is chosen by the test set.
    """
    found = arms(records, ancestors)
    specs = [arm.spec for arm in found]
    names = {spec.data_reference: formatting.data_set(spec, specs) for spec in specs}
    groups: dict[tuple[str, str | None, str, float, bool], list[Arm]] = {}
    for arm in found:
        spec = arm.spec
        if spec.validation:
            key = (spec.optimizer, spec.definition, spec.data_reference, spec.validation, arm.parent is None)
            groups.setdefault(key, []).append(arm)
    return [
        _best_of(f"{optimizer}, {names[data]}" if len(names) > 1 else optimizer, settings)
        for (optimizer, _, data, *_), settings in groups.items()
        if len(settings) > 1
    ]


def _best_of(name: str, settings: Sequence[Arm]) -> BestOf:
    by_seed = [{job.spec.seed: figures for job in arm.records if (figures := _figures(job))} for arm in settings]
    seeds = tuple(sorted(set.intersection(*(set(figures) for figures in by_seed))))
    curves = [best_of_k(*zip(*(figures[seed] for figures in by_seed), strict=True)) for seed in seeds]
    expected = tuple(summarize(values) for values in zip(*curves, strict=True))
    return BestOf(name, len(settings), seeds, expected)


def _figures(job: JobRecord) -> tuple[float, float] | None:
    """Validation accuracy from 0 to 1 and test accuracy in percent; None where the job has none and did not diverge."""
    if job.outcome is Outcome.DIVERGED:
        return -math.inf, 100 / job.spec.data.classes
    if job.result is None or job.result.validation_accuracy is None:
        return None
    return job.result.validation_accuracy, percent_on_test(job.result)
