"""Waits for jobs and shows their progress; starts a local worker where the jobs need one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from rich.console import RenderableType

from mlpq.cli.streams import OutputError
from mlpq.errors import MlpqError
from mlpq.lab.progress import epochs_planned, show_progress
from mlpq.local_worker import LocalWorker
from mlpq.needed_workers import obstacle_finder
from mlpq.records import WaitSnapshot
from mlpq.report import tables
from mlpq.store import queries
from mlpq.store.session import ANSWER_SECONDS, Store
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
    show_progress(snapshots(store, ids, obstacle_finder(store, jobs, worker)), epochs_planned(ids, jobs), above)
