"""Waiting for jobs."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from mlpq.cli.local_worker import LocalWorker
from mlpq.report import tables
from mlpq.report.progress import follow
from mlpq.store import queries
from mlpq.store.session import Store


def wait_for(store: Store, ids: Sequence[str], worker: LocalWorker) -> None:
    """Show progress on standard error until the jobs are finished. Ctrl-C leaves them queued and says so."""
    devices = {row["requested_device"] for row in queries.jobs_by_id(store, ids)}
    console = tables.console(stderr=True)
    try:
        follow(store, ids, console, lambda: _tend(store, worker, devices))
    except KeyboardInterrupt:
        console.print("stopped waiting; the jobs stay queued: mlpq watch shows them, mlpq cancel ends them")
        raise SystemExit(130) from None


def _tend(store: Store, worker: LocalWorker, devices: Collection[str]) -> str:
    """Start the worker if none is alive; says what stands in the way. Raises MlpqError where it can't start."""
    worker.check()
    obstacle = what_is_missing(store, devices)
    if obstacle and worker.may_start:
        worker.start(devices)
        return "starting a worker" if not queries.live_workers(store) else obstacle
    return obstacle


def what_is_missing(store: Store, devices: Collection[str]) -> str:
    """Which worker would have to be started for jobs that ask for these devices; empty where none is missing."""
    alive = {worker["device"] for worker in queries.live_workers(store)}
    missing = sorted(device for device in devices if device != "auto" and device not in alive)
    if missing:
        return f"waiting for a {missing[0]} worker, and none is alive: mlpq worker --device {missing[0]}"
    return "" if alive else "waiting for a worker, and none is alive: mlpq worker"
