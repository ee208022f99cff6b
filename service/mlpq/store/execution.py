"""What workers write about attempts. Every write is fenced: it names its attempt, and changes nothing once that lost
its lease."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from sqlalchemy import ColumnElement, Connection, Integer, Row, bindparam, cast, insert, select, update

from mlpq.jobs import LEASE_SECONDS, Outcome, Status
from mlpq.records import AttemptEnding, AttemptProgress, ClaimedJob
from mlpq.store.liveness import LONGEST_RETRY_SECONDS, lease_has_expired
from mlpq.store.schema import attempts, epochs, job_results, jobs, result_images, workers
from mlpq.store.session import Store, insert_or_ignore, now
from mlpq.store.transitions import LOG_CHARACTERS, end_attempt, move, of_attempt, unblock_children
from mlpq.worker_records import WorkerCapabilities

RETRY_SECONDS = 5  # delay before the next attempt of a job that failed, times the number of its attempts
FORGET_SECONDS = 24 * 3600  # a worker without a heartbeat for this long is dead, and its row is deleted

# SQLite stores anything in them: without the cast one odd value would keep every worker from requeuing jobs.
_COUNTS = tuple(cast(column, Integer).label(column.name) for column in (jobs.c.attempt, jobs.c.max_attempts))


def heartbeat(store: Store, progress: Sequence[AttemptProgress]) -> dict[str, bool]:
    """Renew leases and record epochs of many jobs at once; return for each job whether its cancellation is requested.

    A job whose lease was lost is missing from the result, and nothing is written for it but a count of rejections.
    """
    with store.write() as connection:
        rows = _locked(connection, jobs.c.id.in_([each.job.id for each in progress]))
        kept = [each for each in progress if _has_lease(each.job, rows)]
        _count_rejections(connection, [each.job for each in progress if not _has_lease(each.job, rows)])
        ids = [each.job.id for each in kept]
        connection.execute(update(jobs).where(jobs.c.id.in_(ids)).values(lease_until=now(LEASE_SECONDS)))
        _insert_epochs(connection, kept)
        _update_logs(connection, kept)
    return {job: rows[job].cancel_requested for job in ids}


def record(store: Store, endings: Sequence[AttemptEnding]) -> dict[str, Status]:
    """End attempts, all in one transaction, and return the new status of each job.

    A result is recorded once, and jobs that wait for its weights are queued. A failed attempt is retried while attempts
    are left; a diverged one never is; a released one doesn't count. A call whose response was lost may be repeated. A
    job whose lease was lost is missing from the result, and nothing is written for it but a count of rejections.
    """
    ids = [ending.job.id for ending in endings]
    statuses: dict[str, Status] = {}
    with store.write() as connection:
        # Children are locked too: they change with their parents.
        rows = _locked(connection, jobs.c.id.in_(ids) | jobs.c.parent_id.in_(ids))
        kept, rejected = [], []
        for ending in endings:
            job = ending.job
            if _has_lease(job, rows):
                statuses[job.id] = _end(connection, ending, rows[job.id])
                kept.append(ending)
            elif job.id in rows and _is_recorded(connection, job):
                statuses[job.id] = Status(rows[job.id].status)
            else:
                rejected.append(job)
        _count_rejections(connection, rejected)
        _insert_epochs(connection, kept)
        _succeed(connection, [ending for ending in kept if ending.result is not None])
    return statuses


def _end(connection: Connection, ending: AttemptEnding, row: Row[*tuple[Any, ...]]) -> Status:
    """End an attempt that brought no result; one that did is left to `_succeed`. The job's new status."""
    after = _after_attempt(row, ending.outcome, ending.alone)
    if ending.result is None:
        attempt = (ending.job.id, ending.job.attempt)
        end_attempt(connection, attempt, after, ending.outcome, ending.error, ending.log_tail)
    return after[0]


def _after_attempt(row: Row[*tuple[Any, ...]], outcome: Outcome, alone: bool = False) -> tuple[Status, dict[str, Any]]:
    """The status of a job after an attempt ended this way, and the columns to set with it.

    A job without a gang key runs alone: after an ending that another job may have caused, and on its last attempt,
    which no other job may cost it.
    """
    if outcome is Outcome.SUCCEEDED:
        return Status.SUCCEEDED, {}
    if row.cancel_requested and outcome is not Outcome.DIVERGED:
        return Status.CANCELLED, {}
    if outcome is Outcome.RELEASED:
        return Status.QUEUED, {"max_attempts": row.max_attempts + 1}
    left = row.max_attempts - row.attempt
    again: dict[str, Any] = {"gang_key": None} if alone or left <= 1 else {}
    if outcome is Outcome.FAILED and left > 0:
        return Status.QUEUED, {**again, "not_before": now(min(RETRY_SECONDS * row.attempt, LONGEST_RETRY_SECONDS))}
    if outcome is Outcome.LOST and left > 0:
        return Status.QUEUED, again
    return (Status.CANCELLED if outcome is Outcome.CANCELLED else Status.FAILED), {}


def requeue_expired(store: Store) -> list[str]:
    """Take running jobs with expired leases from their workers, and return their ids.

    They are queued again, or fail where no attempt is left.
    """
    reason = "lease expired: no heartbeat from the worker"
    expired = select(jobs.c.id, *_COUNTS, jobs.c.cancel_requested).where(
        jobs.c.status == Status.RUNNING, lease_has_expired()
    )
    with store.read() as connection:
        if connection.execute(expired.limit(1)).first() is None:
            return []
    with store.write() as connection:
        rows = connection.execute(expired.with_for_update(skip_locked=True)).all()
        for row in rows:
            after = _after_attempt(row, Outcome.LOST)
            end_attempt(connection, (row.id, row.attempt), after, Outcome.LOST, reason, log_tail=None)
    return [row.id for row in rows]


def worker_heartbeat(store: Store, name: str, capabilities: WorkerCapabilities) -> None:
    """Record that this worker is alive and what it can run, and delete the rows of workers that are long dead."""
    columns = {"model": capabilities.device_name}
    columns |= {name: getattr(capabilities, name) for name in ("device", "most_ranks", "world_size")}
    has = {"data": " ".join(sorted(capabilities.data)), "packages": " ".join(sorted(capabilities.packages))}
    with store.write() as connection:
        row = insert_or_ignore(connection, workers)
        connection.execute(row.values(name=name, **columns, started_at=now(), beat_at=now()))
        connection.execute(update(workers).where(workers.c.name == name).values(**has, beat_at=now()))
        connection.execute(workers.delete().where(workers.c.beat_at < now(-FORGET_SECONDS)))


def remove_worker(store: Store, name: str) -> None:
    """Record that this worker has shut down."""
    with store.write() as connection:
        connection.execute(workers.delete().where(workers.c.name == name))


def _locked(connection: Connection, which: ColumnElement[bool]) -> dict[str, Row[*tuple[Any, ...]]]:
    """Rows of jobs by id, locked until the transaction ends.

    They are locked in the order of submission, as `cancel` does, so that two transactions never wait for each other.
    """
    columns = (jobs.c.id, jobs.c.status, *_COUNTS, jobs.c.cancel_requested)
    query = select(*columns).where(which).order_by(jobs.c.seq).with_for_update(key_share=True)
    return {row.id: row for row in connection.execute(query)}


def _has_lease(job: ClaimedJob, rows: Mapping[str, Row[*tuple[Any, ...]]]) -> bool:
    """The fence: whether this attempt is still the job's current one, by the locked rows."""
    row = rows.get(job.id)  # None where somebody deleted the job
    return row is not None and (row.status, row.attempt) == (Status.RUNNING, job.attempt)


def _count_rejections(connection: Connection, rejected: Sequence[ClaimedJob]) -> None:
    for job in rejected:
        late = of_attempt(job.id, job.attempt).where(attempts.c.outcome == Outcome.LOST)
        connection.execute(late.values(fence_rejections=attempts.c.fence_rejections + 1))


def _is_recorded(connection: Connection, job: ClaimedJob) -> bool:
    """Whether its own worker ended this attempt, rather than the expiry of its lease."""
    query = select(attempts.c.outcome).where(attempts.c.job_id == job.id, attempts.c.attempt == job.attempt)
    return connection.execute(query).scalar() not in (None, Outcome.LOST)


def _insert_epochs(connection: Connection, reports: Sequence[AttemptProgress | AttemptEnding]) -> None:
    rows = [
        {"job_id": each.job.id, "attempt": each.job.attempt, **asdict(epoch)}
        for each in reports
        for epoch in each.curve
    ]
    if rows:
        # An epoch comes twice where the response to the first commit was lost.
        connection.execute(insert_or_ignore(connection, epochs), rows)


def _succeed(connection: Connection, endings: Sequence[AttemptEnding]) -> None:
    """End attempts that brought results, all at once, and queue the jobs that wait for them."""
    if not endings:
        return
    ids = [ending.job.id for ending in endings]
    connection.execute(move(Status.RUNNING, Status.SUCCEEDED).where(jobs.c.id.in_(ids)))
    ended = of_attempt(bindparam("of_job"), bindparam("of_attempt")).values(
        ended_at=now(), outcome=Outcome.SUCCEEDED, log_tail=bindparam("tail")
    )
    connection.execute(ended, [_log(ending) for ending in endings])
    results = [
        {"job_id": ending.job.id, "attempt": ending.job.attempt, **asdict(ending.result)}
        for ending in endings
        if ending.result is not None
    ]
    connection.execute(insert(job_results), results)
    images = [{"job_id": each.job.id, **asdict(each.images)} for each in endings if each.images is not None]
    if images:
        connection.execute(insert(result_images), images)
    worker = select(jobs.c.worker).where(jobs.c.id == ids[0]).scalar_subquery()
    connection.execute(update(workers).where(workers.c.name == worker).values(jobs_done=workers.c.jobs_done + len(ids)))
    unblock_children(connection, ids)


def _log(report: AttemptProgress | AttemptEnding) -> dict[str, Any]:
    tail = (report.log_tail or "")[-LOG_CHARACTERS:]
    return {"of_job": report.job.id, "of_attempt": report.job.attempt, "tail": tail}


def _update_logs(connection: Connection, progress: Sequence[AttemptProgress]) -> None:
    logs = [_log(each) for each in progress if each.log_tail is not None]
    if logs:
        statement = of_attempt(bindparam("of_job"), bindparam("of_attempt"))
        connection.execute(statement.values(log_tail=bindparam("tail")), logs)
