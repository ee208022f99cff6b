"""Which worker jobs lack, and a local one where it may be started."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from mlpq import formatting
from mlpq.local_worker import LocalWorker
from mlpq.records import JobRecord, WaitingJobs
from mlpq.spec.job import JobSpec
from mlpq.store import data_sets
from mlpq.store.session import Store
from mlpq.store.worker_queries import lacking, live_workers

DataSet = tuple[str, str]  # SHA-256, and what it is called
# Device, world size, own data set and package; a world size of None leaves the choice to the worker.
Request = tuple[str, int | None, DataSet | None, str | None]


def obstacle_finder(store: Store, jobs: Iterable[JobRecord], worker: LocalWorker | None = None) -> Callable[[], str]:
    """A function that says what keeps the jobs from running; empty where nothing does.

    It starts `worker`, if there is one, where no live one can run the jobs; raises MlpqError where that can't start.
    """
    requests = requests_of(jobs)

    def obstacle() -> str:
        return _start_if_missing(store, worker, requests) if worker else missing_worker(store, requests)

    return obstacle


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


def _start_if_missing(store: Store, worker: LocalWorker, requests: Sequence[Request]) -> str:
    """Start the worker where none can run the jobs; what they wait for. Raises MlpqError where it can't start."""
    worker.check()
    missing = missing_worker(store, requests)
    if missing and worker.may_start:
        worker.start({device for device, *_ in requests}, max(size or 0 for _, size, *_ in requests) or None)
        return missing if live_workers(store) else "starting a worker"
    return missing
