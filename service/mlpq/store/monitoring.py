"""Reads for monitoring: counts over all experiments."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import BigInteger, cast, func, select

from mlpq.jobs import Outcome, Status
from mlpq.store.odd_values import as_text
from mlpq.store.schema import attempts, job_results, jobs
from mlpq.store.session import Store


def jobs_by_status_and_device(store: Store) -> list[tuple[Status, str, int]]:
    """Status, requested device, number of jobs."""
    query = select(jobs.c.status, jobs.c.device, func.count()).group_by(jobs.c.status, jobs.c.device)
    with store.read() as connection:
        return [(Status(status), as_text(device), count) for status, device, count in connection.execute(query)]


def attempts_by_outcome_and_device(store: Store) -> list[tuple[Outcome | None, str, int]]:
    """Outcome (None while the attempt runs), device, number of attempts."""
    query = select(attempts.c.outcome, attempts.c.device, func.count()).group_by(attempts.c.outcome, attempts.c.device)
    with store.read() as connection:
        rows = connection.execute(query).all()
    return [(None if outcome is None else Outcome(outcome), as_text(device), count) for outcome, device, count in rows]


def fence_rejections(store: Store) -> int:
    """Number of writes that were rejected because their attempt had lost its lease."""
    count = attempts.c.fence_rejections
    with store.read() as connection:
        total = cast(func.coalesce(func.sum(count), 0), BigInteger)
        return int(connection.execute(select(total).where(count > 0)).scalar_one())


def training_seconds(store: Store, bounds: Sequence[float]) -> list[tuple[str, list[int], int, float]]:
    """Per device of the jobs with a result: for each bound, how many trained at most that many seconds; their number;
    the sum of their seconds."""
    seconds = job_results.c.train_seconds
    within = [func.count().filter(seconds <= bound) for bound in bounds]
    query = select(job_results.c.device, *within, func.count(), func.sum(seconds)).group_by(job_results.c.device)
    with store.read() as connection:
        return [(as_text(device), counts, count, total) for device, *counts, count, total in connection.execute(query)]
