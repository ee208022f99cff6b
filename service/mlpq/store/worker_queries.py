"""Reads about workers: who is alive, what they could run, and what a worker asks beside claiming."""

from __future__ import annotations

import math
from collections.abc import Sequence

from sqlalchemy import Integer, cast, func, select

from mlpq.jobs import Status
from mlpq.records import WaitingJobs, WorkerRecord
from mlpq.store import reading
from mlpq.store.liveness import is_alive
from mlpq.store.schema import experiments, jobs, workers
from mlpq.store.session import Store, chunks, now


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
    return reading.readable(WorkerRecord, [{**row, "device_name": row["model"]} for row in found])


def jobs_without_worker(store: Store, experiment: str | None = None) -> list[WaitingJobs]:
    """Queued jobs that no live worker can run, by what they request."""
    requested = (jobs.c.experiment_id, jobs.c.device, jobs.c.world_size)  # in the order of the index, which has it all
    query = select(*requested, func.count().label("jobs")).where(jobs.c.status == Status.QUEUED).group_by(*requested)
    if experiment is not None:
        query = query.join(experiments).where(experiments.c.name == experiment)
    each = query.subquery()
    total = select(each.c.device, each.c.world_size, cast(func.sum(each.c.jobs), Integer).label("jobs"))
    with store.read() as connection:
        rows = connection.execute(total.group_by(each.c.device, each.c.world_size)).mappings().all()
    alive = live_workers(store)
    found = reading.readable(WaitingJobs, rows)
    left = [each for each in found if not any(worker.can_run(each.device, each.world_size) for worker in alive)]
    return sorted(left, key=lambda each: (each.device, each.world_size or 1))


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
