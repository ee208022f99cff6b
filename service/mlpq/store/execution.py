"""What workers write. Every write is fenced: it names its attempt and changes nothing where that has lost the job."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import asdict, dataclass
from typing import Any

from pydantic import ValidationError
from sqlalchemy import ColumnElement, Connection, bindparam, func, insert, select, union_all, update

from mlpq.errors import SpecError
from mlpq.jobs import LEASE_SECONDS, Outcome, Status, fingerprint
from mlpq.spec.datasets import DATASETS
from mlpq.spec.job import JobSpec
from mlpq.store.schema import attempts, environments, epochs, job_results, jobs, workers
from mlpq.store.session import Store, insert_or_ignore, now
from mlpq.store.transitions import end_children, move, unblock_children

RETRY_SECONDS = 5  # before a failed attempt is tried again, times the attempt's number, and at most
LONGEST_RETRY_SECONDS = 60
ELSEWHERE_SECONDS = 30  # for so long it is left to other workers if there are any, its last attempt for good: it may
# be this one that is broken
LOG_CHARACTERS = 20_000
# PostgreSQL takes the rows of a gang for few and would sort the whole queue for each: so it must go by an index.
_IN_ORDER = select(func.set_config("enable_sort", "off", True), func.set_config("enable_incremental_sort", "off", True))
FORGET_SECONDS = 24 * 3600  # a worker that was silent this long was killed, and is no longer listed


@dataclass(frozen=True)
class Held:
    """A job that this worker holds, under one attempt."""

    id: str
    attempt: int
    spec: JobSpec
    parent_weights: str | None
    parent_sha256: str | None


@dataclass(frozen=True)
class Progress:
    """What an attempt tells with a beat: the epochs since the last one, and its log, None where that is as it was."""

    held: Held
    curve: Sequence[Mapping[str, Any]]
    log_tail: str | None


@dataclass(frozen=True)
class Ending:
    """How an attempt ended. `result` has the columns of `job_results`, but for the job and the attempt.

    `alone` says of a failure that another one of the gang may have been at fault: so each is tried again alone.
    """

    held: Held
    outcome: Outcome
    result: Mapping[str, Any] | None
    error: str | None
    log_tail: str
    curve: Sequence[Mapping[str, Any]] = ()
    alone: bool = False

    def __post_init__(self) -> None:
        assert (self.outcome is Outcome.SUCCEEDED) == (self.result is not None), "a result is what a success brings"


@dataclass(frozen=True)
class Able:
    """What a worker can run: jobs for its device, by up to `most_ranks` processes together.

    `model` is what the device is called; `world_size` is that of a job that asks for none.
    """

    device: str
    model: str = ""
    most_ranks: int = 1
    world_size: int = 1


def wanted_world_size(store: Store, worker: str, able: Able) -> int | None:
    """The world size of the job that the worker would claim next; None where there is none."""
    query = select(func.coalesce(jobs.c.world_size, able.world_size)).where(*_claimable(worker, able))
    with store.read() as connection:
        return connection.execute(query.order_by(jobs.c.priority.desc(), jobs.c.seq).limit(1)).scalar()


def claim(
    store: Store,
    worker: str,
    able: Able,
    facts: Mapping[str, Any],
    limit: int = 1,
    world_size: int | None = None,
) -> list[Held]:
    """Claim the first queued job that can run on this worker by `world_size` processes, by default its own number.

    With it come up to `limit` - 1 that may join its gang, in order: the next ones with its gang key and its priority.
    It is one compare-and-set, then one attempt row each. `facts` describe the environment of the worker; the checksum
    of the data is added to them.
    """
    device = able.device
    with store.write() as connection:
        if not store.is_sqlite:
            connection.execute(_IN_ORDER)
        claimed = connection.execute(_claiming(worker, able, world_size or able.world_size, limit)).all()
        if not claimed:
            return []
        rows = sorted(claimed, key=lambda row: row.seq)
        environment_ids = {
            checksum: _environment_id(connection, {**facts, "data_checksum": checksum})
            for checksum in {_data_checksum(row.spec) for row in rows}
        }
        connection.execute(
            insert(attempts).values(worker=worker, device=device, started_at=now()),
            [
                {"job_id": row.id, "attempt": row.attempt, "environment_id": environment_ids[_data_checksum(row.spec)]}
                for row in rows
            ],
        )
        weights = _weights(connection, {row.parent_id for row in rows})
        held = []
        for row in rows:
            try:
                spec = JobSpec.model_validate(row.spec)
            except (ValidationError, SpecError) as error:
                # Filed by another version of mlpq. It must not stand in the way of the jobs behind it.
                reason = f"this worker's mlpq can't read the spec: {' '.join(str(error).split())}"
                _end(connection, row.id, row.attempt, Status.FAILED, Outcome.FAILED, reason, "")
                continue
            held.append(Held(row.id, row.attempt, spec, *weights[row.parent_id]))
    return held


def _claimable(worker: str, able: Able) -> tuple[ColumnElement[bool], ...]:
    """Which jobs are queued, due and within what the worker can run."""
    peers = select(workers.c.name).where(
        workers.c.device == able.device,
        workers.c.most_ranks >= func.coalesce(jobs.c.world_size, 1),
        workers.c.name != worker,
        workers.c.beat_at > now(-LEASE_SECONDS),
    )
    is_due = (jobs.c.not_before <= now()) & (
        (jobs.c.worker != worker)
        | ((jobs.c.not_before <= now(-ELSEWHERE_SECONDS)) & (jobs.c.attempt + 1 < jobs.c.max_attempts))
        | ~peers.exists()
    )
    return (
        jobs.c.status == Status.QUEUED,
        jobs.c.device.in_(("auto", able.device)),
        jobs.c.world_size.is_(None) | (jobs.c.world_size <= able.most_ranks),
        jobs.c.not_before.is_(None) | is_due,
    )


def _claiming(worker: str, able: Able, world_size: int, limit: int) -> Any:
    """The statement that claims. What another worker is just claiming is passed over, not waited for."""
    claimable = (*_claimable(worker, able), func.coalesce(jobs.c.world_size, able.world_size) == world_size)
    leader = (
        select(jobs.c.seq, jobs.c.priority, jobs.c.gang_key)
        .where(*claimable)
        .order_by(jobs.c.priority.desc(), jobs.c.seq)
        .limit(1)
        .with_for_update(skip_locked=True)
        .cte("leader")
    )
    # Subqueries and not a join, BETWEEN and not =: so that ix_jobs_gang has the order. With = the primary key would
    # have it too, and all the jobs behind may be walked through.
    seq, priority, gang_key = (select(column).scalar_subquery() for column in leader.c)
    others = (
        select(jobs.c.seq)
        .where(*claimable, jobs.c.gang_key == gang_key, jobs.c.priority.between(priority, priority), jobs.c.seq > seq)
        .order_by(jobs.c.priority, jobs.c.seq)
        .limit(limit - 1)
        .with_for_update(skip_locked=True)
        .cte("others")
    )
    return (
        move(Status.QUEUED, Status.RUNNING)
        .where(jobs.c.seq.in_(union_all(select(leader.c.seq), select(others.c.seq))))
        .values(attempt=jobs.c.attempt + 1, worker=worker, lease_until=now(LEASE_SECONDS), not_before=None)
        .returning(jobs.c.seq, jobs.c.id, jobs.c.attempt, jobs.c.spec, jobs.c.parent_id)
    )


def _data_checksum(spec: Mapping[str, Any]) -> str | None:
    dataset = DATASETS.get(str(spec.get("dataset")))
    return dataset.checksum if dataset else None


def _weights(connection: Connection, ids: Set[str | None]) -> dict[str | None, tuple[str | None, str | None]]:
    """File and SHA-256 of the final weights of these jobs; none of None, the parent of a job that begins afresh."""
    columns = (job_results.c.job_id, job_results.c.weights_file, job_results.c.weights_sha256)
    found = connection.execute(select(*columns).where(job_results.c.job_id.in_(ids - {None})))
    return {None: (None, None), **{job: (file, sha256) for job, file, sha256 in found}}


def _environment_id(connection: Connection, facts: Mapping[str, Any]) -> int:
    digest = fingerprint(facts)
    query = select(environments.c.id).where(environments.c.fingerprint == digest)
    known = connection.execute(query).scalar()
    if known is None:
        new = {"fingerprint": digest, "facts": dict(facts)}
        connection.execute(insert_or_ignore(connection, environments).values(new))
        known = connection.execute(query).scalar_one()
    return int(known)


def beat(store: Store, progress: Sequence[Progress]) -> dict[str, bool]:
    """Renew leases and record epochs, of many jobs at once; per job, whether a person asked to cancel it.

    A job whose lease was lost is missing from the answer, and nothing is written for it; that is counted.
    """
    with store.write() as connection:
        rows = _locked(connection, jobs.c.id.in_([told.held.id for told in progress]))
        kept = [told for told in progress if _holds(told.held, rows)]
        _count_rejections(connection, [told.held for told in progress if told not in kept])
        ids = [told.held.id for told in kept]
        connection.execute(update(jobs).where(jobs.c.id.in_(ids)).values(lease_until=now(LEASE_SECONDS)))
        _insert_epochs(connection, kept)
        _update_logs(connection, kept)
    return {job: rows[job].cancel_requested for job in ids}


def record(store: Store, endings: Sequence[Ending]) -> dict[str, Status]:
    """End attempts, all in one transaction; per job, the status that it is in now.

    A result is recorded once, and jobs that wait for its weights become queued. A failed attempt is tried again while
    attempts are left; one that diverged never is; a released one isn't counted. A call whose answer was lost may be
    made again. A job whose lease was lost is missing from the answer, and nothing is written for it; that is counted.
    """
    ids = [ending.held.id for ending in endings]
    statuses: dict[str, Status] = {}
    with store.write() as connection:
        # The children too: they change with their parents.
        rows = _locked(connection, jobs.c.id.in_(ids) | jobs.c.parent_id.in_(ids))
        kept, rejected = [], []
        for ending in endings:
            held, row = ending.held, rows[ending.held.id]
            if _holds(held, rows):
                status, values = _after_attempt(row, ending.outcome, ending.alone)
                statuses[held.id] = status
                kept.append(ending)
                if status is not Status.SUCCEEDED:
                    log_tail = ending.log_tail
                    _end(connection, held.id, held.attempt, status, ending.outcome, ending.error, log_tail, **values)
            elif _is_recorded(connection, held):
                statuses[held.id] = Status(row.status)
            else:
                rejected.append(held)
        _count_rejections(connection, rejected)
        _insert_epochs(connection, kept)
        _succeed(connection, [ending for ending in kept if ending.result is not None])
    return statuses


def _after_attempt(row: Any, outcome: Outcome, alone: bool = False) -> tuple[Status, dict[str, Any]]:
    """What becomes of a job whose attempt ended so, and the columns that say so.

    Without a gang key it runs alone: after an end that another may have brought about, and on its last attempt, which
    no other shall cost it.
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
            status, values = _after_attempt(row, Outcome.LOST)
            _end(connection, row.id, row.attempt, status, Outcome.LOST, reason, None, **values)
    return [row.id for row in rows]


def worker_beat(store: Store, name: str, able: Able) -> None:
    """Say that this worker is alive and what it has, and forget those that have long been silent."""
    with store.write() as connection:
        row = insert_or_ignore(connection, workers)
        connection.execute(row.values(name=name, **asdict(able), started_at=now(), beat_at=now()))
        connection.execute(update(workers).where(workers.c.name == name).values(beat_at=now()))
        connection.execute(workers.delete().where(workers.c.beat_at < now(-FORGET_SECONDS)))


def worker_gone(store: Store, name: str) -> None:
    """Say that this worker has left."""
    with store.write() as connection:
        connection.execute(workers.delete().where(workers.c.name == name))


def _locked(connection: Connection, which: ColumnElement[bool]) -> dict[str, Any]:
    """The rows of some jobs by id, which stay so until the transaction ends.

    They are locked in the order of submission, as `cancel` does, or two that lock several would wait for each other.
    """
    columns = (jobs.c.id, jobs.c.status, jobs.c.attempt, jobs.c.max_attempts, jobs.c.cancel_requested)
    query = select(*columns).where(which).order_by(jobs.c.seq).with_for_update(key_share=True)
    return {row.id: row for row in connection.execute(query)}


def _holds(held: Held, rows: Mapping[str, Any]) -> bool:
    """The fence: whether this attempt still has its job, by the locked rows."""
    row = rows[held.id]
    return (row.status, row.attempt) == (Status.RUNNING, held.attempt)


def _count_rejections(connection: Connection, rejected: Sequence[Held]) -> None:
    for held in rejected:
        late = _attempt(held.id, held.attempt).where(attempts.c.outcome == Outcome.LOST)
        connection.execute(late.values(fence_rejections=attempts.c.fence_rejections + 1))


def _attempt(job: Any, attempt: Any) -> Any:
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
    """End an attempt whose job is locked, and with it the job or not; without a `log_tail` the last one stays."""
    job_error = {Status.QUEUED: None, Status.CANCELLED: "cancelled"}.get(status, error)
    connection.execute(move(Status.RUNNING, status).where(jobs.c.id == job).values(error=job_error, **values))
    tail = {} if log_tail is None else {"log_tail": log_tail[-LOG_CHARACTERS:]}
    connection.execute(_attempt(job, attempt).values(ended_at=now(), outcome=outcome, error=error, **tail))
    if status in (Status.FAILED, Status.CANCELLED):
        end_children(connection, [job], status)


def _is_recorded(connection: Connection, held: Held) -> bool:
    """Whether the holder itself ended this attempt; one that was taken from it is lost."""
    query = select(attempts.c.outcome).where(attempts.c.job_id == held.id, attempts.c.attempt == held.attempt)
    return connection.execute(query).scalar() not in (None, Outcome.LOST)


def _insert_epochs(connection: Connection, told: Sequence[Progress | Ending]) -> None:
    # An epoch may come twice where the answer to the first commit was lost.
    rows = [{"job_id": each.held.id, "attempt": each.held.attempt, **epoch} for each in told for epoch in each.curve]
    if rows:
        connection.execute(insert_or_ignore(connection, epochs), rows)


def _succeed(connection: Connection, endings: Sequence[Ending]) -> None:
    """End attempts that brought results, all at once, and queue the jobs that waited for them."""
    if not endings:
        return
    ids = [ending.held.id for ending in endings]
    connection.execute(move(Status.RUNNING, Status.SUCCEEDED).where(jobs.c.id.in_(ids)).values(error=None))
    ended = _attempt(bindparam("of_job"), bindparam("of_attempt")).values(
        ended_at=now(), outcome=Outcome.SUCCEEDED, error=None, log_tail=bindparam("tail")
    )
    connection.execute(ended, [_log(ending) for ending in endings])
    results = [
        {"job_id": ending.held.id, "attempt": ending.held.attempt, **(ending.result or {})} for ending in endings
    ]
    connection.execute(insert(job_results), results)
    by = select(jobs.c.worker).where(jobs.c.id == ids[0]).scalar_subquery()
    connection.execute(update(workers).where(workers.c.name == by).values(jobs_done=workers.c.jobs_done + len(ids)))
    unblock_children(connection, ids)


def _log(told: Progress | Ending) -> dict[str, Any]:
    tail = (told.log_tail or "")[-LOG_CHARACTERS:]
    return {"of_job": told.held.id, "of_attempt": told.held.attempt, "tail": tail}


def _update_logs(connection: Connection, progress: Sequence[Progress]) -> None:
    logs = [_log(told) for told in progress if told.log_tail is not None]
    if logs:
        connection.execute(
            _attempt(bindparam("of_job"), bindparam("of_attempt")).values(log_tail=bindparam("tail")), logs
        )
