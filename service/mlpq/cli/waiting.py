"""Waiting for jobs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mlpq import formatting
from mlpq.cli.local_worker import LocalWorker
from mlpq.report import tables
from mlpq.report.progress import follow
from mlpq.store import queries
from mlpq.store.session import Store

Asked = Mapping[str, Any]  # a `device` and a `world_size`, None where the worker may choose


def wait_for(store: Store, ids: Sequence[str], worker: LocalWorker) -> None:
    """Show progress on standard error until the jobs are finished. Ctrl-C leaves them queued and says so."""
    try:
        attend(store, ids, worker)
    except KeyboardInterrupt:
        stopped = "stopped waiting; the jobs stay queued: mlpq watch shows them, mlpq cancel ends them"
        tables.console(stderr=True).print(stopped)
        raise SystemExit(130) from None


def attend(store: Store, ids: Sequence[str], worker: LocalWorker) -> None:
    """Show progress on standard error until the jobs are finished; a worker is started where there must be one."""
    asked = asked_for(queries.jobs_by_id(store, ids))
    follow(store, ids, tables.console(stderr=True), lambda: _tend(store, worker, asked))


def asked_for(rows: Sequence[Mapping[str, Any]]) -> list[Asked]:
    """The devices and world sizes that jobs ask for, each pair once."""
    pairs = {(row["requested_device"], row["requested_world_size"]) for row in rows}
    return [
        {"device": device, "world_size": size}
        for device, size in sorted(pairs, key=lambda pair: (pair[0], pair[1] or 1))
    ]


def what_is_missing(store: Store, asked: Sequence[Asked]) -> str:
    """Which worker would have to be started for jobs that ask for these; empty where none is missing."""
    alive = queries.live_workers(store)
    for each in asked:
        if not any(queries.can_run(worker, each["device"], each["world_size"]) for worker in alive):
            return formatting.waiting_for(each)
    return ""


def _tend(store: Store, worker: LocalWorker, asked: Sequence[Asked]) -> str:
    """Start the worker if none is alive; says what stands in the way. Raises MlpqError where it can't start."""
    worker.check()
    obstacle = what_is_missing(store, asked)
    if obstacle and worker.may_start:
        worker.start({each["device"] for each in asked}, max(each["world_size"] or 0 for each in asked) or None)
        return "starting a worker" if not queries.live_workers(store) else obstacle
    return obstacle
