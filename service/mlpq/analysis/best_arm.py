"""The best arm of an experiment, for lists of experiments: a summary, and no verdict."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

from mlpq.analysis.arms import Arm, arms
from mlpq.analysis.labels import arm_labels
from mlpq.jobs import Status
from mlpq.records import JobRecord


@dataclass(frozen=True, slots=True)
class BestArm:
    """The arm with the best mean: of validation accuracies if all arms have them (`by_validation`), else of the test's.

    `of` is the number of arms that have a result.
    """

    label: str
    arm: Arm
    by_validation: bool
    of: int


@dataclass(frozen=True, slots=True)
class ExperimentSummary:
    """An experiment: `counts` of its jobs by status, `age` since it was created by the database's clock.

    `owner` is the login name of who submitted it first, None where it is not known. `best` is None without a result;
    `has_many_jobs` where it was not looked for.
    """

    name: str
    owner: str | None
    counts: Mapping[Status, int]
    age: timedelta
    best: BestArm | None
    has_many_jobs: bool


def best_arm(records: Sequence[JobRecord], ancestors: Sequence[JobRecord]) -> BestArm | None:
    """The best arm of these jobs; None without a result. `ancestors` are the other jobs that some continue from."""
    found = arms(records, ancestors)
    labels = arm_labels(found)
    scored = [(label, arm) for label, arm in zip(labels, found, strict=True) if arm.accuracy is not None]
    if not scored:
        return None
    validated = [_validation(arm) for _, arm in scored]
    by_validation = len(scored) > 1 and None not in validated
    scores: Sequence[float] = (
        [value for value in validated if value is not None]
        if by_validation
        else [arm.accuracy.mean for _, arm in scored if arm.accuracy is not None]
    )
    label, arm = scored[max(range(len(scored)), key=scores.__getitem__)]
    return BestArm(label, arm, by_validation, len(scored))


def _validation(arm: Arm) -> float | None:
    """The mean validation accuracy of an arm from 0 to 1, with that of chance for seeds that diverged; None without."""
    found = [job.result.validation_accuracy for job in arm.records if job.result is not None]
    known = [value for value in found if value is not None]
    if len(known) < len(found) or not found:
        return None
    return statistics.fmean([*known, *[1 / arm.spec.data.classes] * len(arm.diverged)])
