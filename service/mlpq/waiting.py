"""The use case behind every wait for jobs: the state of some jobs is read again and again until all are finished."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from mlpq.records import JobRecord, RunningJob
from mlpq.store import queries
from mlpq.store.session import Store

POLL_SECONDS = 0.25


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The jobs that are waited for, at one moment.

    `unfinished` are the ids of those that are not finished, `running` those of them that run, `finished` those that
    finished since the snapshot before. `obstacle` says what keeps the others from running; empty where nothing does.
    """

    unfinished: Sequence[str]
    running: Sequence[RunningJob]
    finished: Sequence[JobRecord]
    obstacle: str


def snapshots(store: Store, ids: Sequence[str], tend: Callable[[], str]) -> Iterator[Snapshot]:
    """Snapshots of these jobs every POLL_SECONDS; the last one is that in which all are finished.

    `tend` is called for each snapshot but the last and returns its obstacle; what it raises ends the wait.
    """
    unfinished = list(ids)
    while unfinished:
        before, unfinished = unfinished, queries.unfinished(store, unfinished)
        remaining = set(unfinished)
        finished = queries.jobs_by_id(store, [job for job in before if job not in remaining])
        running = queries.running_jobs(store, unfinished) if unfinished else []
        yield Snapshot(unfinished, running, finished, tend() if unfinished else "")
        if unfinished:
            time.sleep(POLL_SECONDS)
