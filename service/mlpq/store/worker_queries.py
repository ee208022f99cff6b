"""Reads about workers: who is alive, what they could run, and what a worker asks beside claiming."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy import Integer, cast, func, select

from mlpq.jobs import Status
from mlpq.records import WaitingJobs
from mlpq.spec.data_content import SHORT_HASH
from mlpq.store import data_sets, reading
from mlpq.store.liveness import is_alive
from mlpq.store.schema import experiments, jobs, workers
from mlpq.store.session import Store, chunks, now
from mlpq.worker_records import WorkerRecord


def live_workers(store: Store) -> list[WorkerRecord]:
    """Workers with a heartbeat within the length of a lease, the oldest first, without rows that can't be read."""
    busy = select(jobs.c.worker, func.count().label("jobs")).where(jobs.c.status == Status.RUNNING)
    counted = busy.group_by(jobs.c.worker).subquery()
    query = (
        select(workers, func.coalesce(counted.c.jobs, 0).label("jobs_running"), now().label("now"))
        .outerjoin(counted, counted.c.worker == workers.c.name)
        .where(is_alive())
        .order_by(workers.c.started_at)
    )
    with store.read() as connection:
        found = [dict(row) for row in connection.execute(query).mappings()]
    lists = [{name: str(row[name] or "").split() for name in ("data", "packages")} for row in found]
    own = [{**row, "device_name": row["model"], **has} for row, has in zip(found, lists, strict=True)]
    return reading.readable(WorkerRecord, own)


def jobs_without_worker(store: Store, experiment: str | None = None) -> list[WaitingJobs]:
    """Queued jobs that no live worker can run, by what they request."""
    # In the order of the index, which has it all.
    requested = (jobs.c.experiment_id, jobs.c.device, jobs.c.world_size, jobs.c.data_sha256, jobs.c.package)
    query = select(*requested, func.count().label("jobs")).where(jobs.c.status == Status.QUEUED).group_by(*requested)
    if experiment is not None:
        query = query.join(experiments).where(experiments.c.name == experiment)
    each = query.subquery()
    kinds = (each.c.device, each.c.world_size, each.c.data_sha256, each.c.package)
    total = select(*kinds, cast(func.sum(each.c.jobs), Integer).label("jobs")).group_by(*kinds)
    with store.read() as connection:
        rows = [dict(row) for row in connection.execute(total).mappings()]
    alive = live_workers(store)
    left: dict[tuple[str, int | None, str | None, str | None], WaitingJobs] = {}
    for waiting in waiting_jobs(store, rows):
        if (found := lacking(waiting, alive)) is not None:
            key = (found.device, found.world_size, found.data, found.package)
            left[key] = replace(found, jobs=found.jobs + (left[key].jobs if key in left else 0))
    return sorted(
        left.values(), key=lambda each: (each.device, each.world_size or 1, each.package or "", each.data or "")
    )


def waiting_jobs(store: Store, rows: Sequence[Mapping[str, Any]]) -> list[WaitingJobs]:
    """Waiting jobs from rows with what they request and `data_sha256`, without rows that can't be read."""
    needed = {str(row["data_sha256"]) for row in rows if row["data_sha256"] is not None}
    pushed = data_sets.pushed(store, needed) if needed else set()
    names = {sha256: found.reference for sha256, found in data_sets.by_hash(store, needed - pushed).items()}
    found: dict[tuple[str, int | None, str | None, str | None], WaitingJobs] = {}
    for row in rows:
        data = None if row["data_sha256"] in pushed else row["data_sha256"]
        values = {name: row[name] for name in ("device", "world_size", "package", "jobs")}
        own = {"data": data, "data_name": None if data is None else names.get(data, str(data)[:SHORT_HASH])}
        for each in reading.readable(WaitingJobs, [{**values, **own}]):
            key = (each.device, each.world_size, each.data, each.package)
            found[key] = replace(each, jobs=each.jobs + (found[key].jobs if key in found else 0))
    return list(found.values())


def lacking(waiting: WaitingJobs, alive: Sequence[WorkerRecord]) -> WaitingJobs | None:
    """The waiting jobs, if none of these workers can run them; None otherwise.

    They keep only what is lacking: their `package` where a worker could run them if it had that, or else their
    `data_name` where one could if it had that data set.
    """
    able = [worker for worker in alive if worker.can_run(waiting.device, waiting.world_size)]
    having = [worker for worker in able if waiting.package is None or waiting.package in worker.packages]
    if any(waiting.data is None or waiting.data in worker.data for worker in having):
        return None
    if having:
        return replace(waiting, package=None)
    return replace(waiting, data=None, data_name=None, package=waiting.package if able else None)


def fair_share(store: Store, device: str, limit: int, most_ranks: int = 1) -> int:
    """How many jobs a worker should claim, at most `limit`, so that all live workers with its device get as many.

    Queued and running jobs count, but not those that request more than `most_ranks` processes.
    """
    alive = select(func.count()).where(workers.c.device == device, is_alive())
    with store.read() as connection:
        sharing = connection.execute(alive).scalar_one()
        if sharing < 2:
            return limit
        active = 0
        for status in (Status.QUEUED, Status.RUNNING):  # one by one, so that each uses the index of its status
            fitting = (jobs.c.status == status) & jobs.c.device.in_(("auto", device))
            fitting &= jobs.c.world_size.is_(None) | (jobs.c.world_size <= most_ranks)
            enough = select(jobs.c.seq).where(fitting).limit(limit * sharing).subquery()
            active += connection.execute(select(func.count()).select_from(enough)).scalar_one()
    return max(1, min(limit, math.ceil(active / sharing)))


def cancel_requested(store: Store, ids: Sequence[str]) -> set[str]:
    """Those of `ids` whose cancellation was requested."""
    found: set[str] = set()
    with store.read() as connection:
        for chunk in chunks(ids):
            query = select(jobs.c.id).where(jobs.c.id.in_(chunk), jobs.c.cancel_requested)
            found.update(connection.execute(query).scalars())
    return found
