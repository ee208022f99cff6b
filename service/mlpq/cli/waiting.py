"""Waits for jobs and shows their progress; starts a local worker where the jobs need one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial

from rich.console import Console, RenderableType

from mlpq import formatting
from mlpq.cli.local_worker import LocalWorker
from mlpq.cli.streams import OutputError
from mlpq.errors import MlpqError
from mlpq.records import JobRecord, WaitingJobs, WaitSnapshot
from mlpq.report import tables
from mlpq.report.progress import show
from mlpq.settings import OutputKind, output_kind
from mlpq.spec.job import JobSpec
from mlpq.store import data_sets, queries
from mlpq.store.session import ANSWER_SECONDS, Store
from mlpq.store.worker_queries import lacking, live_workers
from mlpq.waiting import patiently, snapshots

DataSet = tuple[str, str]  # SHA-256, and what it is called
# Device, world size and own data set; a world size of None leaves the choice to the worker.
Request = tuple[str, int | None, DataSet | None]


def wait_for(store: Store, ids: Sequence[str], worker: LocalWorker) -> None:
    """Show progress on standard error until the jobs are finished. On Ctrl-C the jobs stay queued."""
    try:
        follow(store, ids, worker)
    except KeyboardInterrupt:
        message = "stopped waiting; the jobs stay queued: mlpq watch shows them, mlpq cancel cancels them"
        tables.console(stderr=True).print(message)
        raise SystemExit(130) from None
    except OutputError:
        raise
    except MlpqError as error:
        raise MlpqError(f"{error}; the jobs are submitted: mlpq watch shows them, mlpq worker runs them") from error


def follow(
    store: Store,
    ids: Sequence[str],
    worker: LocalWorker | None = None,
    above: Callable[[WaitSnapshot], RenderableType] | None = None,
) -> None:
    """Show progress on standard error until the jobs are finished; start `worker` where no live one can run them.

    In a terminal, what `above` returns for a snapshot is drawn above it.
    """
    store.answer_seconds = ANSWER_SECONDS

    jobs = patiently(partial(queries.jobs_by_id, store, ids))
    requests = requests_of(jobs)
    planned = {**dict.fromkeys(ids, 0), **{job.id: job.spec.epochs for job in jobs}}

    def obstacle() -> str:
        return _start_if_missing(store, worker, requests) if worker else missing_worker(store, requests)

    console = progress_console()
    in_notebook = console.is_terminal and output_kind() is OutputKind.NOTEBOOK
    show(snapshots(store, ids, obstacle), console, planned, above, in_notebook)


def progress_console() -> Console:
    """Standard error; it is drawn over only in a terminal that shows each moment, unlike a log or a notebook."""
    console = tables.console(stderr=True)
    console.is_interactive = console.is_interactive and output_kind() is OutputKind.TERMINAL
    return console


def requests_of(jobs: Iterable[JobRecord]) -> list[Request]:
    """What the unfinished ones of the jobs request, without duplicates."""
    unfinished = (job for job in jobs if not job.status.is_finished)
    found = {(job.requested_device, job.requested_world_size, data_of(job.spec)) for job in unfinished}
    return sorted(found, key=lambda each: (each[0], each[1] or 1, each[2] or ("", "")))


def data_of(spec: JobSpec) -> DataSet | None:
    """The own data set that a worker must have for the spec."""
    return None if spec.content is None else (spec.content.sha256, spec.content.reference(spec.dataset))


def missing_worker(store: Store, requests: Sequence[Request]) -> str:
    """Which worker to start, for the first request that no live worker can run; empty where there is none."""
    alive = live_workers(store)
    pushed = data_sets.pushed(store, [data[0] for _, _, data in requests if data])
    for device, world_size, data in requests:
        sha256, name = (None, None) if data is None or data[0] in pushed else data
        waiting = lacking(WaitingJobs(device, world_size, 1, sha256, name), alive)
        if waiting is not None:
            return formatting.waiting_for(device, world_size, waiting.data_name)
    return ""


def _start_if_missing(store: Store, worker: LocalWorker, requests: Sequence[Request]) -> str:
    """Start the worker where none can run the jobs; what they wait for. Raises MlpqError where it can't start."""
    worker.check()
    missing = missing_worker(store, requests)
    if missing and worker.may_start:
        worker.start({device for device, _, _ in requests}, max(size or 0 for _, size, _ in requests) or None)
        return missing if live_workers(store) else "starting a worker"
    return missing
