"""Which worker has to be started for jobs. It renders nothing: `submit` need not load what a terminal needs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from mlpq import formatting
from mlpq.records import JobRecord, WaitingJobs
from mlpq.spec.job import JobSpec
from mlpq.store import data_sets
from mlpq.store.session import Store
from mlpq.store.worker_queries import lacking, live_workers

DataSet = tuple[str, str]  # SHA-256, and what it is called
# Device, world size, own data set and package; a world size of None leaves the choice to the worker.
Request = tuple[str, int | None, DataSet | None, str | None]


def requests_of(jobs: Iterable[JobRecord]) -> list[Request]:
    """What the unfinished ones of the jobs request, without duplicates."""
    unfinished = (job for job in jobs if not job.status.is_finished)
    found = {request_of(job.requested_device, job.requested_world_size, job.spec) for job in unfinished}
    return sorted(found, key=lambda each: (each[0], each[1] or 1, each[2] or ("", ""), each[3] or ""))


def request_of(device: str, world_size: int | None, spec: JobSpec) -> Request:
    """What a job requests that is placed so."""
    return device, world_size, data_of(spec), spec.package


def data_of(spec: JobSpec) -> DataSet | None:
    """The own data set that a worker must have for the spec."""
    return None if spec.content is None else (spec.content.sha256, spec.content.reference(spec.dataset))


def missing_worker(store: Store, requests: Sequence[Request]) -> str:
    """Which worker to start, for the first request that no live worker can run; empty where there is none."""
    alive = live_workers(store)
    pushed = data_sets.pushed(store, [data[0] for _, _, data, _ in requests if data])
    for device, world_size, data, package in requests:
        sha256, name = (None, None) if data is None or data[0] in pushed else data
        waiting = lacking(WaitingJobs(device, world_size, 1, sha256, name, package), alive)
        if waiting is not None:
            return formatting.waiting_for(device, world_size, waiting.data_name, waiting.package)
    return ""
