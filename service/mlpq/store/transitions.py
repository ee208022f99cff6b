"""The statements that move a job from one status to another; no other module writes a status."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Row, literal, update

from mlpq.formatting import status_phrase
from mlpq.jobs import TRANSITIONS, Outcome, Status
from mlpq.store.schema import attempts, jobs
from mlpq.store.session import chunks, now
from mlpq.text import bounded

LOG_CHARACTERS = 20_000  # the end of an attempt's log that is stored


def move(before: Status, after: Status) -> Any:
    """The UPDATE of one transition, with the columns that the new status implies."""
    assert (before, after) in TRANSITIONS, f"no transition from {before} to {after}"
    statement = update(jobs).values(status=after)
    if before is Status.RUNNING:
        statement = statement.values(lease_until=None)
    if after.is_finished:
        statement = statement.values(finished_at=now())
    return statement


def of_attempt(job: Any, attempt: Any) -> Any:
    """An UPDATE of one attempt's row."""
    return update(attempts).where(attempts.c.job_id == job, attempts.c.attempt == attempt)


def end_attempt(
    connection: Connection,
    attempt: tuple[str, int],
    after: tuple[Status, Mapping[str, Any]],
    outcome: Outcome,
    error: str | None,
    log_tail: str | None,
) -> None:
    """End an attempt (job id and number) that brought no result. Its job must be locked.

    `after` is the job's new status and further columns to set. Without a `log_tail` the stored log stays.
    """
    (job, number), (status, columns) = attempt, after
    error = None if error is None else bounded(error)
    job_error = {Status.QUEUED: None, Status.CANCELLED: "cancelled"}.get(status, error)
    connection.execute(move(Status.RUNNING, status).where(jobs.c.id == job).values(error=job_error, **columns))
    tail = {} if log_tail is None else {"log_tail": log_tail[-LOG_CHARACTERS:]}
    connection.execute(of_attempt(job, number).values(ended_at=now(), outcome=outcome, error=error, **tail))
    if status in (Status.FAILED, Status.CANCELLED):
        end_children(connection, [job], status)


def fail_unreadable(connection: Connection, row: Row[*tuple[Any, ...]], has_attempt: bool, reason: str) -> None:
    """Fail a job that was claimed just now and can't be run as it is stored, and its attempt if it has one."""
    if has_attempt:
        end_attempt(connection, (row.id, row.attempt), (Status.FAILED, {}), Outcome.FAILED, reason, log_tail=None)
        return
    failed = move(Status.RUNNING, Status.FAILED).where(jobs.c.seq == row.seq)
    connection.execute(failed.values(error=bounded(reason)))
    end_children(connection, [row.id], Status.FAILED)


def unblock_children(connection: Connection, parents: Sequence[str]) -> None:
    """Queue the jobs that waited for the weights of these."""
    for chunk in chunks(parents):
        waiting = (jobs.c.parent_id.in_(chunk), jobs.c.status == Status.BLOCKED)
        connection.execute(move(Status.BLOCKED, Status.QUEUED).where(*waiting))


def end_children(connection: Connection, parents: Sequence[str], status: Status) -> int:
    """End the blocked descendants of `parents`, which can never run, and return their number."""
    ended = 0
    reason = literal("its parent ") + jobs.c.parent_id + literal(f" {status_phrase(status)}")
    while parents:
        generation: list[str] = []
        for chunk in chunks(parents):
            statement = move(Status.BLOCKED, status).where(jobs.c.parent_id.in_(chunk), jobs.c.status == Status.BLOCKED)
            generation += connection.execute(statement.values(error=reason).returning(jobs.c.id)).scalars().all()
        parents, ended = generation, ended + len(generation)
    return ended
