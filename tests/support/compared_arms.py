"""Arms of records that no database holds, and their comparison."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from mlpq.analysis.comparison import Comparison, compare
from mlpq.analysis.metrics import Curve
from mlpq.analysis.params import ComparisonParams
from mlpq.jobs import Outcome, Status
from mlpq.records import JobRecord
from tests.support.result_rows import job_record, specs, with_figures


def arm(first: int, counts: Mapping[int, int | None], validated: int | None = None, **keys: Any) -> list[JobRecord]:
    """The jobs of an arm: for each seed the count of correct test images, of 500; None for a job that is queued.

    `validated` is their validation accuracy in percent.
    """
    found = []
    for offset, (seed, correct) in enumerate(counts.items()):
        (spec,) = specs(seeds=seed, **({"validation": 0.1} if validated is not None else {}), **keys)
        job = job_record(spec, first + offset, correct)
        if validated is not None:
            job = with_figures(job, validation_correct=validated, validation_total=100, validation_loss=1.0)
        found.append(job)
    return found


def counts(*values: int) -> dict[int, int | None]:
    return dict(enumerate(values))


def compared(*sides: Sequence[JobRecord], curves: Mapping[str, Curve] | None = None, **params: str) -> Comparison:
    """The comparison of all these jobs, with the given ComparisonParams."""
    records = [job for side in sides for job in side]
    return compare(records, [], curves or {}, ComparisonParams(**params))


def diverged(records: Sequence[JobRecord]) -> list[JobRecord]:
    """The same jobs, but all of them diverged."""
    return [replace(job, status=Status.FAILED, outcome=Outcome.DIVERGED, result=None) for job in records]
