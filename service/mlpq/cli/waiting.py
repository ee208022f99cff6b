"""Waits for jobs and shows their progress; starts a local worker where the jobs need one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from rich.console import Console, RenderableType

from mlpq.cli.local_worker import LocalWorker
from mlpq.cli.missing_worker import Request, missing_worker, requests_of
from mlpq.cli.streams import OutputError
from mlpq.errors import MlpqError
from mlpq.records import WaitSnapshot
from mlpq.report import tables
from mlpq.report.progress import show
from mlpq.settings import OutputKind, output_kind
from mlpq.store import queries
from mlpq.store.session import ANSWER_SECONDS, Store
from mlpq.store.worker_queries import live_workers
from mlpq.waiting import patiently, snapshots


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


def _start_if_missing(store: Store, worker: LocalWorker, requests: Sequence[Request]) -> str:
    """Start the worker where none can run the jobs; what they wait for. Raises MlpqError where it can't start."""
    worker.check()
    missing = missing_worker(store, requests)
    if missing and worker.may_start:
        worker.start({device for device, *_ in requests}, max(size or 0 for _, size, *_ in requests) or None)
        return missing if live_workers(store) else "starting a worker"
    return missing
