"""What submitters write: jobs of a submission, jobs filed anew, and the wish to cancel."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, func, insert, select, update

from mlpq.errors import SpecError
from mlpq.jobs import MAX_ATTEMPTS, Status, job_id
from mlpq.spec.job import JobSpec
from mlpq.store.schema import experiments, jobs
from mlpq.store.session import Store, chunks, insert_or_ignore, now
from mlpq.store.transitions import end_children, move, unblock_children, was


@dataclass(frozen=True)
class Filed:
    """A job of a submission; `is_new` is False for one that was there already."""

    id: str
    spec: JobSpec
    is_new: bool


@dataclass(frozen=True)
class Again:
    """A spec to be run once more: the job that it goes on from, if it does, and where."""

    spec: JobSpec
    parent_id: str | None
    device: str
    world_size: int | None


def file_jobs(
    store: Store,
    experiment: str,
    specs: Sequence[JobSpec],
    *,
    device: str = "auto",
    world_size: int | None = None,
    priority: int = 0,
    attempts: int = MAX_ATTEMPTS,
    parent_id: str | None = None,
    again: bool = False,
) -> list[Filed]:
    """Insert the jobs of a submission in one transaction; a spec that the experiment has is left alone unless `again`.

    A job that goes on from another one of `specs` must come after it; `parent_id` is the parent of those whose parent
    is not among them. Raises SpecError where a parent can no longer succeed.
    """
    with store.write() as connection:
        experiment_id = _lock_experiment(connection, experiment)
        latest = _latest_repeats(connection, experiment_id, [spec.hash for spec in specs])
        ids, filed, rows = {}, [], []
        for spec in specs:
            is_new = again or spec.hash not in latest
            repeat = latest.get(spec.hash, -1) + 1 if is_new else latest[spec.hash]
            ids[spec.hash] = job_id(experiment, spec.hash, repeat)
            filed.append(Filed(ids[spec.hash], spec, is_new))
            if is_new:
                parent = ids.get(spec.parent, parent_id) if spec.parent else None
                row = _new_row(filed[-1], repeat, parent, device, world_size)
                rows.append({**row, "experiment_id": experiment_id, "priority": priority, "max_attempts": attempts})
        _insert_jobs(connection, rows)
    return filed


def file_repeats(store: Store, experiment: str, repeats: Sequence[Again]) -> list[Filed]:
    """Insert a further job for each of `repeats` in one transaction, in their order, whatever the experiment has.

    Raises SpecError where a parent did not succeed.
    """
    with store.write() as connection:
        experiment_id = _lock_experiment(connection, experiment)
        latest = _latest_repeats(connection, experiment_id, {again.spec.hash for again in repeats})
        filed, rows = [], []
        for again in repeats:
            spec = again.spec
            repeat = latest[spec.hash] = latest.get(spec.hash, -1) + 1
            filed.append(Filed(job_id(experiment, spec.hash, repeat), spec, is_new=True))
            row = _new_row(filed[-1], repeat, again.parent_id, again.device, again.world_size)
            rows.append({**row, "experiment_id": experiment_id, "priority": 0, "max_attempts": MAX_ATTEMPTS})
        _insert_jobs(connection, rows)
    return filed


def file_again(store: Store, ids: Sequence[str]) -> list[Filed]:
    """File failed or cancelled jobs anew, as further repeats of their specs: a finished job itself never changes.

    One that was filed anew before is left alone, and its successor is answered. A job whose parent is filed anew too
    goes on from that one. Raises SpecError where a job is not failed or cancelled, or its parent can no longer succeed.
    """
    with store.write() as connection:
        olds = _jobs_to_renew(connection, ids)
        latest: dict[tuple[str, str], int] = {}
        for name, experiment_id in sorted({(old.experiment, old.experiment_id) for old in olds}):
            _lock_experiment(connection, name)
            repeats = _latest_repeats(connection, experiment_id, {old.spec_hash for old in olds})
            latest.update({(name, spec_hash): repeat for spec_hash, repeat in repeats.items()})
        filed, rows, renewed = [], [], {}
        for old in olds:
            newest = latest[old.experiment, old.spec_hash]
            is_new = old.repeat == newest
            repeat = newest + 1 if is_new else newest
            renewed[old.id] = job_id(old.experiment, old.spec_hash, repeat)
            new = Filed(renewed[old.id], JobSpec.model_validate(old.spec), is_new)
            filed.append(new)
            if is_new:
                rows.append(_renewed_row(old, new, repeat, renewed.get(old.parent_id, old.parent_id)))
        _insert_jobs(connection, rows)
    return filed


def cancel(store: Store, ids: Sequence[str]) -> dict[str, int]:
    """Cancel jobs: waiting ones at once, running ones by asking their worker. The number of each."""
    counts = {"cancelled": 0, "asked to stop": 0}
    with store.write() as connection:
        found: dict[str, list[str]] = {}
        for job, status in _locked_statuses(connection, ids):
            found.setdefault(status, []).append(job)
        for status in (Status.BLOCKED, Status.QUEUED):
            for chunk in chunks(found.get(status, [])):
                # A blocked one may have ended already, with its parent.
                statement = move(status, Status.CANCELLED).where(jobs.c.id.in_(chunk), jobs.c.status == status)
                ended = connection.execute(statement.values(error="cancelled").returning(jobs.c.id)).scalars().all()
                counts["cancelled"] += len(ended) + end_children(connection, ended, Status.CANCELLED)
        for chunk in chunks(found.get(Status.RUNNING, [])):
            asked = update(jobs).where(jobs.c.id.in_(chunk)).values(cancel_requested=True)
            counts["asked to stop"] += connection.execute(asked).rowcount
    return counts


def _new_row(new: Filed, repeat: int, parent_id: str | None, device: str, world_size: int | None) -> dict[str, Any]:
    spec = new.spec
    return {
        "id": new.id,
        "spec": spec.model_dump(mode="json"),
        "spec_hash": spec.hash,
        "repeat": repeat,
        "seed": spec.seed,
        "device": device,
        "world_size": world_size,
        "gang_key": _gang_key(spec, world_size),
        "status": Status.BLOCKED if spec.parent else Status.QUEUED,
        "parent_id": parent_id,
    }


def _renewed_row(old: Any, new: Filed, repeat: int, parent_id: str | None) -> dict[str, Any]:
    kept = ("experiment_id", "spec", "spec_hash", "seed", "device", "world_size", "priority", "max_attempts")
    return {
        **{name: getattr(old, name) for name in kept},
        "id": new.id,
        "repeat": repeat,
        "gang_key": _gang_key(new.spec, old.world_size),
        "status": Status.BLOCKED if old.parent_id else Status.QUEUED,
        "parent_id": parent_id,
    }


def _gang_key(spec: JobSpec, world_size: int | None) -> str | None:
    """Jobs that ask for a world size are claimed with others that ask for the same."""
    if spec.gang_key is None or world_size is None:
        return spec.gang_key
    return f"{spec.gang_key} on {world_size}"


def _jobs_to_renew(connection: Connection, ids: Sequence[str]) -> list[Any]:
    """The rows of these jobs, in the order of submission; raises SpecError for one that did not end badly."""
    found: list[Any] = []
    for chunk in chunks(ids):
        query = select(jobs, experiments.c.name.label("experiment")).join(experiments).where(jobs.c.id.in_(chunk))
        found += connection.execute(query).all()
    for old in found:
        if old.status not in (Status.FAILED, Status.CANCELLED):
            raise SpecError(
                f"job {old.id} is {old.status}: only failed and cancelled ones are retried; "
                "to run a spec once more use mlpq submit --again"
            )
    return sorted(found, key=lambda old: old.seq)


def _insert_jobs(connection: Connection, rows: list[dict[str, Any]]) -> None:
    if not rows:
        return
    connection.execute(insert(jobs).values(created_at=now()), rows)
    parents = {row["parent_id"] for row in rows if row["parent_id"]}
    for parent, status in _locked_statuses(connection, parents):
        if status in (Status.FAILED, Status.CANCELLED):
            raise SpecError(f"job {parent} {was(status)}, nothing can go on from it: mlpq retry {parent[:8]} first")
        if status == Status.SUCCEEDED:
            unblock_children(connection, [parent])


def _lock_experiment(connection: Connection, name: str) -> int:
    """The experiment's id; its row is locked, so that two submissions to one experiment follow each other."""
    connection.execute(insert_or_ignore(connection, experiments).values(name=name, created_at=now()))
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


def _locked_statuses(connection: Connection, ids: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Ids with their statuses, which stay so until the transaction ends: a parent can't finish before its new child.

    Parents are locked before their children, as `record` does. The lock must let a foreign key be checked (NO KEY), or
    two submissions that go on from one job would wait for each other.
    """
    for chunk in chunks(sorted(ids)):
        query = select(jobs.c.id, jobs.c.status).where(jobs.c.id.in_(chunk)).order_by(jobs.c.seq)
        yield from ((job, status) for job, status in connection.execute(query.with_for_update(key_share=True)).all())
