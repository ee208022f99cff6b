"""Reads for monitoring: counts over all experiments."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import func, select

from mlpq.store.schema import attempts, job_results, jobs
from mlpq.store.session import Store


def jobs_by_status_and_device(store: Store) -> list[tuple[str, str, int]]:
    """Status, the device that was asked for, number of jobs."""
    query = select(jobs.c.status, jobs.c.device, func.count()).group_by(jobs.c.status, jobs.c.device)
    with store.read() as connection:
        return [(status, device, count) for status, device, count in connection.execute(query)]


def attempts_by_outcome_and_device(store: Store) -> list[tuple[str | None, str, int]]:
    """Outcome, None for those that still run, the device they ran on, number of attempts."""
    query = select(attempts.c.outcome, attempts.c.device, func.count()).group_by(attempts.c.outcome, attempts.c.device)
    with store.read() as connection:
        return [(outcome, device, count) for outcome, device, count in connection.execute(query)]


def fence_rejections(store: Store) -> int:
    """Writes that were rejected since their attempt had lost its job."""
    count = attempts.c.fence_rejections
    with store.read() as connection:
        return int(connection.execute(select(func.coalesce(func.sum(count), 0)).where(count > 0)).scalar_one())


def training_seconds(store: Store, bounds: Sequence[float]) -> list[tuple[str, list[int], int, float]]:
    """Per device, of the finished jobs: how many trained at most so many seconds, for each bound; their number; the sum
    of their seconds."""
    seconds = job_results.c.train_seconds
    within = [func.count().filter(seconds <= bound) for bound in bounds]
    query = select(job_results.c.device, *within, func.count(), func.sum(seconds)).group_by(job_results.c.device)
    with store.read() as connection:
        return [(device, counts, count, total) for device, *counts, count, total in connection.execute(query)]
