"""Poll jobs until all are finished, for `mlpq watch`, `submit --wait` and `verify`."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence

from mlpq.records import WaitSnapshot
from mlpq.store import queries
from mlpq.store.session import Store

POLL_SECONDS = 0.25


def snapshots(store: Store, ids: Sequence[str], find_obstacle: Callable[[], str]) -> Iterator[WaitSnapshot]:
    """Snapshots of these jobs every POLL_SECONDS; the last one is that in which all are finished.

    `find_obstacle` is called for each snapshot but the last; its exceptions propagate.
    """
    unfinished = list(ids)
    while unfinished:
        before, unfinished = unfinished, queries.unfinished(store, unfinished)
        remaining = set(unfinished)
        finished = queries.jobs_by_id(store, [job for job in before if job not in remaining])
        running = queries.running_jobs(store, unfinished) if unfinished else []
        yield WaitSnapshot(unfinished, running, finished, find_obstacle() if unfinished else "")
        if unfinished:
            time.sleep(POLL_SECONDS)
