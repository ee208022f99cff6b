"""What tuning buys: the accuracy to expect of an optimizer after so many settings were tried."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mlpq import formatting
from mlpq.analysis.arms import Arm, arms
from mlpq.analysis.metrics import percent
from mlpq.analysis.summary import Summary, best_of_k, summarize
from mlpq.jobs import Outcome
from mlpq.spec.datasets import DATASETS

Row = Mapping[str, Any]


NO_SEED = "no seed has a result of every setting"


@dataclass(frozen=True)
class BestOf:
    """`expected[k - 1]` is, over the seeds, the test accuracy in percent to expect of the best of k settings.

    The best by validation accuracy; k goes to the number of `settings`, each k of them as likely as any other. A run
    that diverged counts as the worst of its seed, with the accuracy of chance. Without a seed that has a result of
    every setting there is nothing to expect.
    """

    optimizer: str
    settings: int
    seeds: tuple[int, ...]
    expected: tuple[Summary, ...]


def best_of(rows: Sequence[Row], ancestors: Sequence[Row] = ()) -> list[BestOf]:
    """For each optimizer with several settings on the same data and split, on the seeds that all settings have.

    An optimizer without a validation split is left out: nothing is chosen by the test set.
    """
    found = arms(rows, ancestors)
    several_data = len({arm.first["dataset"] for arm in found}) > 1
    groups: dict[tuple[object, ...], list[Arm]] = {}
    for arm in found:
        first = arm.first
        if first["validation"]:
            key = (first["optimizer"], first["dataset"], first["validation"], arm.parent is None)
            groups.setdefault(key, []).append(arm)
    return [
        _best_of(f"{settings[0].first['optimizer']}{f', {data}' if several_data else ''}", settings)
        for (_, data, *_), settings in groups.items()
        if len(settings) > 1
    ]


def _best_of(name: str, settings: Sequence[Arm]) -> BestOf:
    by_seed = [{row["seed"]: figures for row in arm.rows if (figures := _figures(row))} for arm in settings]
    seeds = tuple(sorted(set.intersection(*(set(figures) for figures in by_seed))))
    curves = [best_of_k(*zip(*(figures[seed] for figures in by_seed), strict=True)) for seed in seeds]
    expected = tuple(summarize(values) for values in zip(*curves, strict=True))
    return BestOf(name, len(settings), seeds, expected)


def _figures(row: Row) -> tuple[float, float] | None:
    """Validation and test accuracy; None where the job has neither and did not diverge."""
    if row["outcome"] == Outcome.DIVERGED:
        return -math.inf, 100 / DATASETS[row["dataset"]].classes
    found = row["validation_accuracy"], percent(row, "test")
    return None if found[0] is None or found[1] is None else (found[0], found[1])


def counts(length: int) -> list[int]:
    """The numbers of settings that a table shows: 1, 2, 3, 5, 10, 20 … and the last."""
    shown = [k for k in (1, 2, 3, 5, 10, 20, 50, 100) if k < length]
    return [*shown, length]


def label(each: BestOf) -> str:
    """ "sgd (7 settings)"."""
    return f"{each.optimizer} ({formatting.count_of(each.settings, 'setting')})"
