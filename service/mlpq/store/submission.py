"""What submitters write: new jobs, reruns, retries, and requests to cancel."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any

from sqlalchemy import Connection, Row, func, insert, select, update

from mlpq.errors import SpecError
from mlpq.formatting import short_id, status_phrase
from mlpq.jobs import Status, job_id
from mlpq.records import Placement, Rerun, SubmittedJob
from mlpq.settings import login_name
from mlpq.spec.job import JobSpec, parse_spec
from mlpq.store.schema import experiments, jobs
from mlpq.store.session import Store, chunks, insert_or_ignore, now
from mlpq.store.transitions import end_children, move, unblock_children

# The columns of the fields of Placement.
_COLUMNS = {"device": "device", "world_size": "world_size", "priority": "priority", "attempts": "max_attempts"}


def submit_jobs(
    store: Store,
    experiment: str,
    specs: Sequence[JobSpec],
    placement: Placement = Placement(),  # noqa: B008 (frozen)
    parent_id: str | None = None,
    again: bool = False,
) -> list[SubmittedJob]:
    """Insert the jobs of a submission in one transaction; a spec that the experiment has is skipped unless `again`.

    A job that continues from another one of `specs` must come after it; `parent_id` is the parent of those whose parent
    is not among them. Raises SpecError where a parent can no longer succeed.
    """
    with store.write() as connection:
        experiment_id = _lock_experiment(connection, experiment)
        latest = _latest_repeats(connection, experiment_id, [spec.hash for spec in specs])
        ids, submitted, rows = {}, [], []
        for spec in specs:
            is_new = again or spec.hash not in latest
            repeat = latest.get(spec.hash, -1) + 1 if is_new else latest[spec.hash]
            ids[spec.hash] = job_id(experiment, spec.hash, repeat)
            submitted.append(SubmittedJob(ids[spec.hash], spec, is_new))
            if is_new:
                parent = ids.get(spec.parent, parent_id) if spec.parent else None
                row = _new_row(submitted[-1], repeat, parent, placement)
                rows.append({**row, "experiment_id": experiment_id})
        _insert_jobs(connection, rows)
    return submitted


def change_placement(
    store: Store, known: Sequence[SubmittedJob], placement: Placement, requested: Collection[str]
) -> tuple[int, int]:
    """Give jobs that wait the fields of `placement` that are in `requested`.

    Returns how many changed, and how many others differ in these fields but are running or finished.
    """
    wanted = {_COLUMNS[name]: getattr(placement, name) for name in requested}
    specs = {job.id: job.spec for job in known}
    keys: dict[tuple[str | None, int | None], list[str]] = {}
    late = 0
    with store.write() as connection:
        for chunk in chunks(sorted(specs)):
            query = select(jobs).where(jobs.c.id.in_(chunk)).order_by(jobs.c.seq).with_for_update(key_share=True)
            for row in connection.execute(query).all():
                if all(getattr(row, name) == value for name, value in wanted.items()):
                    continue
                if row.status not in (Status.QUEUED, Status.BLOCKED):
                    late += 1
                    continue
                world_size = wanted.get("world_size", row.world_size)
                keys.setdefault((specs[row.id].gang_key_on(world_size, row.requested_engine), world_size), []).append(
                    row.id
                )
        for (gang_key, _), ids in keys.items():
            for chunk in chunks(ids):
                change = update(jobs).where(jobs.c.id.in_(chunk)).values(gang_key=gang_key, **wanted)
                connection.execute(change)
    return sum(map(len, keys.values())), late


def submit_reruns(store: Store, experiment: str, reruns: Sequence[Rerun]) -> list[SubmittedJob]:
    """Insert a further job for each of `reruns` in one transaction, in order, whatever the experiment has.

    Raises SpecError where a parent did not succeed.
    """
    with store.write() as connection:
        experiment_id = _lock_experiment(connection, experiment)
        latest = _latest_repeats(connection, experiment_id, {rerun.spec.hash for rerun in reruns})
        submitted, rows = [], []
        for rerun in reruns:
            spec = rerun.spec
            repeat = latest[spec.hash] = latest.get(spec.hash, -1) + 1
            submitted.append(SubmittedJob(job_id(experiment, spec.hash, repeat), spec, is_new=True))
            placement = Placement(rerun.device, rerun.world_size, engine=rerun.engine)
            row = _new_row(submitted[-1], repeat, rerun.parent_id, placement)
            rows.append({**row, "experiment_id": experiment_id})
        _insert_jobs(connection, rows)
    return submitted


def retry_jobs(store: Store, ids: Sequence[str]) -> list[SubmittedJob]:
    """Submit failed or cancelled jobs again, as further repeats of their specs: a finished job itself never changes.

    For a job that was retried before, its successor is returned. A job whose parent is retried too continues from the
    new parent. Raises SpecError where a job is not failed or cancelled, or its parent can no longer succeed.
    """
    with store.write() as connection:
        olds = _jobs_to_retry(connection, ids)
        latest: dict[tuple[str, str], int] = {}
        for name, experiment_id in sorted({(old.experiment, old.experiment_id) for old in olds}):
            _lock_experiment(connection, name)
            repeats = _latest_repeats(connection, experiment_id, {old.spec_hash for old in olds})
            latest.update({(name, spec_hash): repeat for spec_hash, repeat in repeats.items()})
        submitted, rows, successors = [], [], {}
        for old in olds:
            newest = latest[old.experiment, old.spec_hash]
            is_new = old.repeat == newest
            repeat = newest + 1 if is_new else newest
            successors[old.id] = job_id(old.experiment, old.spec_hash, repeat)
            new = SubmittedJob(successors[old.id], _spec_of(old), is_new)
            submitted.append(new)
            if is_new:
                rows.append(_retry_row(old, new, repeat, successors.get(old.parent_id, old.parent_id)))
        _insert_jobs(connection, rows)
    return submitted


def cancel(store: Store, ids: Sequence[str]) -> dict[str, int]:
    """Cancel jobs: waiting ones at once, running ones by a request to their worker. Returns the number of each."""
    counts = {"cancelled": 0, "asked to stop": 0}
    with store.write() as connection:
        found: dict[Status, list[str]] = {}
        for job, status in _locked_statuses(connection, ids):
            found.setdefault(status, []).append(job)
        for status in (Status.BLOCKED, Status.QUEUED):
            for chunk in chunks(found.get(status, [])):
                # A blocked one may already have ended together with its parent.
                statement = move(status, Status.CANCELLED).where(jobs.c.id.in_(chunk), jobs.c.status == status)
                ended = connection.execute(statement.values(error="cancelled").returning(jobs.c.id)).scalars().all()
                counts["cancelled"] += len(ended) + end_children(connection, ended, Status.CANCELLED)
        for chunk in chunks(found.get(Status.RUNNING, [])):
            asked = update(jobs).where(jobs.c.id.in_(chunk)).values(cancel_requested=True)
            counts["asked to stop"] += connection.execute(asked).rowcount
    return counts


def _new_row(new: SubmittedJob, repeat: int, parent_id: str | None, placement: Placement) -> dict[str, Any]:
    spec = new.spec
    return {
        "id": new.id,
        "spec": spec.model_dump(mode="json"),
        "spec_hash": spec.hash,
        "repeat": repeat,
        "seed": spec.seed,
        "device": placement.device,
        "world_size": placement.world_size,
        "requested_engine": placement.engine,
        "gang_key": spec.gang_key_on(placement.world_size, placement.engine),
        "data_sha256": spec.data.sha256,
        "package": spec.package,
        "priority": placement.priority,
        "max_attempts": placement.attempts,
        "status": Status.BLOCKED if spec.parent else Status.QUEUED,
        "parent_id": parent_id,
    }


def _retry_row(old: Row[*tuple[Any, ...]], new: SubmittedJob, repeat: int, parent_id: str | None) -> dict[str, Any]:
    kept = (
        "experiment_id",
        "spec",
        "spec_hash",
        "seed",
        "device",
        "world_size",
        "requested_engine",
        "data_sha256",
        "package",
        "priority",
        "max_attempts",
    )
    return {
        **{name: getattr(old, name) for name in kept},
        "id": new.id,
        "repeat": repeat,
        "gang_key": new.spec.gang_key_on(old.world_size, old.requested_engine),
        "status": Status.BLOCKED if old.parent_id else Status.QUEUED,
        "parent_id": parent_id,
    }


def _spec_of(old: Row[*tuple[Any, ...]]) -> JobSpec:
    try:
        return parse_spec(old.spec)
    except SpecError as error:
        raise SpecError(f"the job {old.id} can't be retried, its spec can't be read: {error}") from None


def _jobs_to_retry(connection: Connection, ids: Sequence[str]) -> list[Row[*tuple[Any, ...]]]:
    """The rows of these jobs, in the order of submission; raises SpecError for one that is not failed or cancelled."""
    found: list[Row[*tuple[Any, ...]]] = []
    for chunk in chunks(ids):
        query = select(jobs, experiments.c.name.label("experiment")).join(experiments).where(jobs.c.id.in_(chunk))
        found += connection.execute(query).all()
    for old in found:
        if old.status not in (Status.FAILED, Status.CANCELLED):
            raise SpecError(
                f"job {old.id} is {old.status}: only failed and cancelled jobs can be retried; "
                "to run a spec once more use mlpq submit --again"
            )
    return sorted(found, key=lambda old: int(old.seq))


def _insert_jobs(connection: Connection, rows: list[dict[str, Any]]) -> None:
    if not rows:
        return
    connection.execute(insert(jobs).values(created_at=now()), rows)
    parents = {row["parent_id"] for row in rows if row["parent_id"]}
    for parent, status in _locked_statuses(connection, parents):
        if status in (Status.FAILED, Status.CANCELLED):
            raise SpecError(
                f"job {parent} {status_phrase(status)}, so no job can continue from it: "
                f"mlpq retry {short_id(parent)} first"
            )
        if status is Status.SUCCEEDED:
            unblock_children(connection, [parent])


def _lock_experiment(connection: Connection, name: str) -> int:
    """The experiment's id; its row is locked, which serializes submissions to one experiment."""
    new = insert_or_ignore(connection, experiments).values(name=name, created_at=now(), owner=login_name())
    connection.execute(new)
    query = select(experiments.c.id).where(experiments.c.name == name).with_for_update()
    return int(connection.execute(query).scalar_one())


def _latest_repeats(connection: Connection, experiment_id: int, hashes: Iterable[str]) -> dict[str, int]:
    found: dict[str, int] = {}
    for chunk in chunks(hashes):
        query = (
            select(jobs.c.spec_hash, func.max(jobs.c.repeat))
            .where(jobs.c.experiment_id == experiment_id, jobs.c.spec_hash.in_(chunk))
            .group_by(jobs.c.spec_hash)
        )
        found.update((spec_hash, repeat) for spec_hash, repeat in connection.execute(query))
    return found


def _locked_statuses(connection: Connection, ids: Iterable[str]) -> Iterator[tuple[str, Status]]:
    """Ids with their statuses, locked until the transaction ends: a parent can't finish before its new child is there.

    Parents are locked before their children, as `record` does. The lock must allow checks of foreign keys (NO KEY), or
    two submissions that continue from one job would deadlock.
    """
    for chunk in chunks(sorted(ids)):
        query = select(jobs.c.id, jobs.c.status).where(jobs.c.id.in_(chunk)).order_by(jobs.c.seq)
        rows = connection.execute(query.with_for_update(key_share=True)).all()
        yield from ((job, Status(status)) for job, status in rows)
