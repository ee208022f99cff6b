"""The statements that move a job from one state to another: each transition is made here and nowhere else."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, literal, update

from mlpq.jobs import TRANSITIONS, Status
from mlpq.store.schema import jobs
from mlpq.store.session import chunks, now


def move(before: Status, after: Status) -> Any:
    """The UPDATE of one transition: what each state implies for the columns is said here and nowhere else."""
    assert (before, after) in TRANSITIONS, f"no way from {before} to {after}"
    statement = update(jobs).values(status=after)
    if before is Status.RUNNING:
        statement = statement.values(lease_until=None)
    if after.is_finished:
        statement = statement.values(finished_at=now())
    return statement


def unblock_children(connection: Connection, parents: Sequence[str]) -> None:
    """Queue the jobs that waited for the weights of these."""
    for chunk in chunks(parents):
        waiting = (jobs.c.parent_id.in_(chunk), jobs.c.status == Status.BLOCKED)
        connection.execute(move(Status.BLOCKED, Status.QUEUED).where(*waiting))


def end_children(connection: Connection, parents: Sequence[str], status: Status) -> int:
    """End the blocked jobs below `parents`, all generations: they can never run. Their number."""
    ended = 0
    reason = literal("its parent ") + jobs.c.parent_id + literal(f" {was(status)}")
    while parents:
        generation: list[str] = []
        for chunk in chunks(parents):
            statement = move(Status.BLOCKED, status).where(jobs.c.parent_id.in_(chunk), jobs.c.status == Status.BLOCKED)
            generation += connection.execute(statement.values(error=reason).returning(jobs.c.id)).scalars().all()
        parents, ended = generation, ended + len(generation)
    return ended


def was(status: str) -> str:
    return "was cancelled" if status == Status.CANCELLED else status
