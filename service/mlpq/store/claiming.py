"""How a worker claims queued jobs: one compare-and-set in SQL, then one attempt row for each job."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence, Set
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, case, func, insert, literal, select, union_all

from mlpq.jobs import LEASE_SECONDS, TORCH_ENGINES, Engine, Status, fingerprint
from mlpq.records import ClaimedJob
from mlpq.spec.datasets import DATASETS
from mlpq.spec.job import TORCH
from mlpq.store.data_sets import is_pushed
from mlpq.store.liveness import delay_is_over, is_alive
from mlpq.store.reading import UnreadableRowError, claimed_job, is_job_id
from mlpq.store.schema import attempts, environments, job_results, jobs, workers
from mlpq.store.session import Store, insert_or_ignore, now
from mlpq.store.transitions import fail_unreadable, move
from mlpq.worker_records import TrainingSetup, WorkerCapabilities

# A worker leaves a job that failed on it to its peers for this long, and the last attempt permanently: the worker
# itself may be broken.
ELSEWHERE_SECONDS = 30
MAX_INTEGER = 2**31 - 1
# PostgreSQL underestimates the rows of a gang, and would sort the whole queue for each claim rather than use the index.
_USE_INDEX_ORDER = select(
    func.set_config("enable_sort", "off", True), func.set_config("enable_incremental_sort", "off", True)
)


def next_setup(store: Store, worker: str, capabilities: WorkerCapabilities) -> TrainingSetup | None:
    """What the training process must be for the job that the worker would claim next; None where there is none."""
    size = _world_size(capabilities).label("size")
    columns = (size, jobs.c.requested_engine, _is_large().label("is_large"), jobs.c.data_sha256, jobs.c.package)
    can_pull = is_pushed(jobs.c.data_sha256)
    query = select(*columns).where(*_claimable(worker, capabilities), _has_data(capabilities) | can_pull)
    with store.read() as connection:
        row = connection.execute(query.order_by(jobs.c.priority.desc(), jobs.c.seq).limit(1)).one_or_none()
    if row is None:
        return None
    kernel = capabilities.uses_kernel(row.size, row.requested_engine, row.package)
    plugin = None if row.package == TORCH else row.package
    return TrainingSetup(row.size, kernel, bool(row.is_large), row.data_sha256, plugin)


def claim(
    store: Store,
    worker: str,
    capabilities: WorkerCapabilities,
    facts: Mapping[str, Any],
    limit: int = 1,
    setup: TrainingSetup | None = None,
) -> list[ClaimedJob]:
    """Claim the first queued job that this worker trains with this `setup`, by default that of a job without requests.

    Up to `limit` - 1 jobs that may join its gang come along, in order: the next ones with its gang key and priority.
    Only the kernel trains gangs of large jobs.
    `facts` describe the worker's environment; the checksum of the data is added to them.
    """
    with store.write() as connection:
        if not store.is_sqlite:
            connection.execute(_USE_INDEX_ORDER)
        statement = _claim_statement(worker, capabilities, setup or capabilities.usual_setup, limit)
        rows = sorted(connection.execute(statement).all(), key=lambda row: row.seq)
        if not rows:
            return []
        weights = _weights(connection, {row.parent_id for row in rows})
        recorded = _recorded_attempts(connection, rows)
        new = [row for row in rows if is_job_id(row.id) and (row.id, row.attempt) not in recorded]
        _insert_attempts(connection, new, worker, capabilities.device, facts)
        claimed = []
        for row in rows:
            try:
                claimed.append(claimed_job(row, weights, recorded))
            except UnreadableRowError as error:
                # Another version of mlpq, or no mlpq at all, wrote it. It must not block the jobs behind it.
                reason = f"this worker's mlpq can't read the job: {error}"
                fail_unreadable(connection, row, row in new, reason)
    return claimed


def _claimable(worker: str, capabilities: WorkerCapabilities) -> tuple[ColumnElement[bool], ...]:
    """Conditions: queued, due, and within the worker's capabilities."""
    peers = select(workers.c.name).where(
        workers.c.device == capabilities.device,
        workers.c.most_ranks >= func.coalesce(jobs.c.world_size, 1),
        workers.c.name != worker,
        jobs.c.data_sha256.is_(None) | workers.c.data.contains(jobs.c.data_sha256) | is_pushed(jobs.c.data_sha256),
        jobs.c.package.is_(None) | (literal(" ") + workers.c.packages + " ").contains(" " + jobs.c.package + " "),
        is_alive(),
    )
    is_due = delay_is_over() & (
        (jobs.c.worker != worker)
        | (delay_is_over(ELSEWHERE_SECONDS) & (jobs.c.attempt + 1 < jobs.c.max_attempts))
        | ~peers.exists()
    )
    return (
        jobs.c.status == Status.QUEUED,
        jobs.c.device.in_(("auto", capabilities.device)),
        jobs.c.world_size.is_(None) | (jobs.c.world_size <= capabilities.most_ranks),
        jobs.c.package.is_(None) | jobs.c.package.in_(sorted(capabilities.packages)),
        jobs.c.not_before.is_(None) | is_due,
    )


def _has_data(capabilities: WorkerCapabilities) -> ColumnElement[bool]:
    """Whether the job needs no own data set, or one that is on the worker's machine."""
    return jobs.c.data_sha256.is_(None) | jobs.c.data_sha256.in_(sorted(capabilities.data))


def _is_large() -> ColumnElement[bool]:
    return jobs.c.gang_key.contains('"large":true')


def _has_setup(capabilities: WorkerCapabilities, setup: TrainingSetup) -> Iterator[ColumnElement[bool]]:
    """Conditions: this worker trains the job with this setup."""
    yield _world_size(capabilities) == setup.world_size
    if setup.plugin is not None:
        yield jobs.c.package == setup.plugin
        return
    yield jobs.c.package.is_(None) | (jobs.c.package == TORCH)
    if capabilities.can_choose(setup.world_size):
        engine = func.coalesce(jobs.c.requested_engine, Engine.KERNEL)
        by_torch = engine.in_(TORCH_ENGINES) | jobs.c.package.is_not(None)
        yield ~by_torch if setup.kernel else by_torch


def _claim_statement(worker: str, capabilities: WorkerCapabilities, setup: TrainingSetup, limit: int) -> Any:
    """The compare-and-set. Rows that another worker is claiming are skipped, not waited for."""
    claimable = (*_claimable(worker, capabilities), _has_data(capabilities), *_has_setup(capabilities, setup))
    leader = (
        select(jobs.c.seq, jobs.c.priority, jobs.c.gang_key)
        .where(*claimable)
        .order_by(jobs.c.priority.desc(), jobs.c.seq)
        .limit(1)
        .with_for_update(skip_locked=True)
        .cte("leader")
    )
    # Subqueries rather than a join, and BETWEEN rather than =, make ix_jobs_gang deliver the order. With = PostgreSQL
    # may walk the primary key through all later jobs instead.
    seq, priority, gang_key = (select(column).scalar_subquery() for column in leader.c)
    joining = claimable if setup.kernel else (*claimable, ~_is_large())
    others = (
        select(jobs.c.seq)
        .where(*joining, jobs.c.gang_key == gang_key, jobs.c.priority.between(priority, priority), jobs.c.seq > seq)
        .order_by(jobs.c.priority, jobs.c.seq)
        .limit(limit - 1)
        .with_for_update(skip_locked=True)
        .cte("others")
    )
    return (
        move(Status.QUEUED, Status.RUNNING)
        .where(jobs.c.seq.in_(union_all(select(leader.c.seq), select(others.c.seq))))
        .values(attempt=_next_attempt(), worker=worker, lease_until=now(LEASE_SECONDS), not_before=None)
        .returning(
            jobs.c.seq, jobs.c.id, jobs.c.attempt, jobs.c.spec, jobs.c.parent_id,
            func.coalesce(jobs.c.world_size >= 1, True).label("has_valid_world_size"),
        )
    )  # fmt: skip


def _world_size(capabilities: WorkerCapabilities) -> ColumnElement[int]:
    """That of the job, or the worker's own; also for a job whose own is not valid, which the claim then fails."""
    return case((jobs.c.world_size >= 1, jobs.c.world_size), else_=capabilities.world_size)


def _next_attempt() -> ColumnElement[int]:
    """One more; PostgreSQL's integers end at some point."""
    return case((jobs.c.attempt < MAX_INTEGER, jobs.c.attempt + 1), else_=jobs.c.attempt)


def _recorded_attempts(connection: Connection, rows: Sequence[Row[*tuple[Any, ...]]]) -> set[tuple[Any, Any]]:
    """Job and number of those claimed attempts that exist already: only somebody else's write can bring that about."""
    claimed = {(row.id, row.attempt) for row in rows}
    query = select(attempts.c.job_id, attempts.c.attempt).where(attempts.c.job_id.in_([row.id for row in rows]))
    return claimed & {(job, attempt) for job, attempt in connection.execute(query)}


def _insert_attempts(
    connection: Connection, rows: Sequence[Row[*tuple[Any, ...]]], worker: str, device: str, facts: Mapping[str, Any]
) -> None:
    if not rows:
        return
    checksums = {row.id: _data_checksum(row.spec) for row in rows}
    environment_ids = {
        checksum: _environment_id(connection, {**facts, "data_checksum": checksum})
        for checksum in dict.fromkeys(checksums.values())
    }
    connection.execute(
        insert(attempts).values(worker=worker, device=device, started_at=now()),
        [
            {"job_id": row.id, "attempt": row.attempt, "environment_id": environment_ids[checksums[row.id]]}
            for row in rows
        ],
    )


def _data_checksum(spec: Any) -> str | None:
    if not isinstance(spec, dict):
        return None
    content = spec.get("content")
    if isinstance(content, dict):
        return str(content.get("sha256"))
    dataset = DATASETS.get(str(spec.get("dataset")))
    return dataset.checksum if dataset else None


def _weights(connection: Connection, ids: Set[str | None]) -> dict[str | None, tuple[str | None, str | None]]:
    """File and SHA-256 of the final weights of these jobs; nothing for None, the parent of a job without one."""
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
