"""What workers write. Every write is fenced: it names its attempt and fails where that attempt has lost the job."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError
from sqlalchemy import Connection, insert, select, update

from mlpq.datasets import DATASETS
from mlpq.errors import LeaseLostError, SpecError
from mlpq.jobs import LEASE_SECONDS, Outcome, Status
from mlpq.spec import JobSpec
from mlpq.store.models import attempts, environments, epochs, job_results, jobs, workers
from mlpq.store.session import Store, insert_or_ignore, now
from mlpq.store.transitions import end_children, move, unblock_children

RETRY_SECONDS = 5  # before a failed attempt is tried again, times the attempt's number
LOG_CHARACTERS = 20_000
FORGET_SECONDS = 24 * 3600  # a worker that was silent this long was killed, and is no longer listed


@dataclass(frozen=True)
class Held:
    """A job that this worker holds, under one attempt."""

    id: str
    attempt: int
    spec: JobSpec
    parent_weights: str | None
    parent_sha256: str | None


def claim(store: Store, worker: str, device: str, facts: Mapping[str, Any], limit: int = 1) -> list[Held]:
    """Claim up to `limit` queued jobs that run on `device`: one compare-and-set, then one attempt row each.

    `facts` describe the environment of the worker; the checksum of the data is added to them.
    """
    picked = (
        select(jobs.c.seq)
        .where(
            jobs.c.status == Status.QUEUED,
            jobs.c.device.in_(("auto", device)),
            (jobs.c.not_before.is_(None)) | (jobs.c.not_before <= now()),
        )
        .order_by(jobs.c.priority.desc(), jobs.c.seq)
        .limit(limit)
        .with_for_update(skip_locked=True)
        .cte("picked")
    )
    statement = (
        move(Status.QUEUED, Status.RUNNING)
        .where(jobs.c.seq.in_(select(picked.c.seq)))
        .values(attempt=jobs.c.attempt + 1, worker=worker, lease_until=now(LEASE_SECONDS), not_before=None)
        .returning(jobs.c.priority, jobs.c.seq, jobs.c.id, jobs.c.attempt, jobs.c.spec, jobs.c.parent_id)
    )
    with store.write() as connection:
        held = []
        for row in sorted(connection.execute(statement).all(), key=lambda row: (-row.priority, row.seq)):
            environment = {**facts, "data_checksum": _data_checksum(row.spec)}
            connection.execute(
                insert(attempts).values(
                    job_id=row.id,
                    attempt=row.attempt,
                    worker=worker,
                    device=device,
                    started_at=now(),
                    environment_id=_environment_id(connection, environment),
                )
            )
            try:
                spec = JobSpec.model_validate(row.spec)
            except (ValidationError, SpecError) as error:
                # Filed by another version of mlpq. It must not stand in the way of the jobs behind it.
                reason = f"this worker's mlpq can't read the spec: {' '.join(str(error).split())}"
                _end(connection, row.id, row.attempt, Status.FAILED, Outcome.FAILED, reason, "")
                continue
            held.append(Held(row.id, row.attempt, spec, *_parent_weights(connection, row.parent_id)))
    return held


def _data_checksum(spec: Mapping[str, Any]) -> str | None:
    dataset = DATASETS.get(str(spec.get("dataset")))
    return dataset.checksum if dataset else None


def _parent_weights(connection: Connection, parent_id: str | None) -> tuple[str | None, str | None]:
    if parent_id is None:
        return None, None
    query = select(job_results.c.weights_file, job_results.c.weights_sha256).where(job_results.c.job_id == parent_id)
    file, sha256 = connection.execute(query).one()
    return file, sha256


def _environment_id(connection: Connection, facts: Mapping[str, Any]) -> int:
    fingerprint = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
    query = select(environments.c.id).where(environments.c.fingerprint == fingerprint)
    known = connection.execute(query).scalar()
    if known is None:
        new = {"fingerprint": fingerprint, "facts": dict(facts)}
        connection.execute(insert_or_ignore(connection, environments).values(new))
        known = connection.execute(query).scalar_one()
    return int(known)


def beat(store: Store, held: Held, curve: Sequence[Mapping[str, Any]] = (), log_tail: str | None = None) -> bool:
    """Renew the lease and record epochs; True where a person asked to cancel. Raises LeaseLostError."""
    statement = (
        update(jobs)
        .where(*_fence(held.id, held.attempt))
        .values(lease_until=now(LEASE_SECONDS))
        .returning(jobs.c.cancel_requested)
    )
    with store.write() as connection:
        cancel_requested = connection.execute(statement).scalar()
        if cancel_requested is None:
            raise LeaseLostError(f"job {held.id} attempt {held.attempt}")
        _insert_epochs(connection, held, curve)
        if log_tail is not None:
            connection.execute(_attempt(held.id, held.attempt).values(log_tail=log_tail[-LOG_CHARACTERS:]))
    return bool(cancel_requested)


def finish(
    store: Store, held: Held, result: Mapping[str, Any], curve: Sequence[Mapping[str, Any]], log_tail: str
) -> None:
    """Record the result of a job, once: the fenced update, then the insert, in one transaction. Raises LeaseLostError.

    Jobs that wait for this one's weights become queued. A call whose answer was lost may be made again.
    """
    with store.write() as connection:
        if _recorded(connection, held):
            return
        _end(connection, held.id, held.attempt, Status.SUCCEEDED, Outcome.SUCCEEDED, None, log_tail)
        _insert_epochs(connection, held, curve)
        connection.execute(insert(job_results).values(job_id=held.id, attempt=held.attempt, **result))
        unblock_children(connection, held.id)


def fail(
    store: Store,
    held: Held,
    outcome: Outcome,
    error: str,
    log_tail: str,
    curve: Sequence[Mapping[str, Any]] = (),
) -> Status:
    """End an attempt that brought no result, and say what became of the job. Raises LeaseLostError.

    A failed attempt is tried again while attempts are left; one that diverged never is; a released one isn't counted.
    """
    with store.write() as connection:
        query = select(jobs.c.max_attempts, jobs.c.cancel_requested).where(jobs.c.id == held.id).with_for_update()
        most, cancel_requested = connection.execute(query).one()
        status, values = _after_attempt(outcome, held.attempt, most, cancel_requested)
        _end(connection, held.id, held.attempt, status, outcome, error, log_tail, **values)
        _insert_epochs(connection, held, curve)
    return status


def _after_attempt(outcome: Outcome, attempt: int, most: int, cancel_requested: bool) -> tuple[Status, dict[str, Any]]:
    """What becomes of a job whose attempt brought no result, and the columns that say so."""
    if cancel_requested and outcome is not Outcome.DIVERGED:
        return Status.CANCELLED, {}
    if outcome is Outcome.RELEASED:
        return Status.QUEUED, {"max_attempts": most + 1}
    if outcome is Outcome.FAILED and attempt < most:
        return Status.QUEUED, {"not_before": now(RETRY_SECONDS * attempt)}
    if outcome is Outcome.LOST and attempt < most:
        return Status.QUEUED, {}
    return (Status.CANCELLED if outcome is Outcome.CANCELLED else Status.FAILED), {}


def reap(store: Store) -> list[str]:
    """Take jobs from workers that fell silent; the ids. They are queued again, or failed when no attempt is left."""
    reason = "the worker fell silent: its lease ran out"
    expired = select(jobs.c.id, jobs.c.attempt, jobs.c.max_attempts, jobs.c.cancel_requested).where(
        jobs.c.status == Status.RUNNING, jobs.c.lease_until < now()
    )
    with store.read() as connection:
        if connection.execute(expired.limit(1)).first() is None:
            return []
    with store.write() as connection:
        rows = connection.execute(expired.with_for_update(skip_locked=True)).all()
        for row in rows:
            status, values = _after_attempt(Outcome.LOST, row.attempt, row.max_attempts, row.cancel_requested)
            _end(connection, row.id, row.attempt, status, Outcome.LOST, reason, None, **values)
    return [row.id for row in rows]


def worker_beat(store: Store, name: str, device: str) -> None:
    """Say that this worker is alive, and forget those that have long been silent."""
    with store.write() as connection:
        row = insert_or_ignore(connection, workers)
        connection.execute(row.values(name=name, device=device, started_at=now(), beat_at=now()))
        connection.execute(update(workers).where(workers.c.name == name).values(beat_at=now()))
        connection.execute(workers.delete().where(workers.c.beat_at < now(-FORGET_SECONDS)))


def worker_gone(store: Store, name: str) -> None:
    """Say that this worker has left."""
    with store.write() as connection:
        connection.execute(workers.delete().where(workers.c.name == name))


def _fence(job: str, attempt: int) -> tuple[Any, ...]:
    return (jobs.c.id == job, jobs.c.attempt == attempt, jobs.c.status == Status.RUNNING)


def _attempt(job: str, attempt: int) -> Any:
    return update(attempts).where(attempts.c.job_id == job, attempts.c.attempt == attempt)


def _end(
    connection: Connection,
    job: str,
    attempt: int,
    status: Status,
    outcome: Outcome,
    error: str | None,
    log_tail: str | None,
    **values: Any,
) -> None:
    """End an attempt, behind the fence, and with it the job or not; without a `log_tail` the one beaten last stays."""
    job_error = {Status.QUEUED: None, Status.CANCELLED: "cancelled"}.get(status, error)
    ended = connection.execute(
        move(Status.RUNNING, status).where(*_fence(job, attempt)).values(error=job_error, **values)
    )
    if ended.rowcount != 1:
        raise LeaseLostError(f"job {job} attempt {attempt}")
    tail = {} if log_tail is None else {"log_tail": log_tail[-LOG_CHARACTERS:]}
    connection.execute(_attempt(job, attempt).values(ended_at=now(), outcome=outcome, error=error, **tail))
    if status in (Status.FAILED, Status.CANCELLED):
        end_children(connection, [job], status)


def _recorded(connection: Connection, held: Held) -> bool:
    query = select(job_results.c.attempt).where(job_results.c.job_id == held.id)
    return connection.execute(query).scalar() == held.attempt


def _insert_epochs(connection: Connection, held: Held, curve: Sequence[Mapping[str, Any]]) -> None:
    # An epoch may come twice where the answer to the first commit was lost.
    if curve:
        rows = [{"job_id": held.id, "attempt": held.attempt, **epoch} for epoch in curve]
        connection.execute(insert_or_ignore(connection, epochs), rows)
