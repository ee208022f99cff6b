"""The use case behind every wait for jobs: the state of some jobs is read again and again until all are finished."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from mlpq.errors import StoreError
from mlpq.records import JobRecord, RunningJob
from mlpq.store import queries
from mlpq.store.session import Store

POLL_SECONDS = 0.25
OUTAGE_SECONDS = 60.0  # a wait goes on for this long while the database can't be reached
RETRY_SECONDS = 2.0  # between two attempts to reach it


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

    `tend` is called for each snapshot but the last and returns its obstacle; what it raises ends the wait, except for
    StoreError: while the database can't be reached, for OUTAGE_SECONDS at most, snapshots repeat what was known.
    """
    latest = Snapshot(list(ids), [], [], "")
    answered = time.monotonic()
    while latest.unfinished:
        try:
            latest = _snapshot(store, latest.unfinished, tend)
            answered, delay = time.monotonic(), POLL_SECONDS
        except StoreError as error:
            if time.monotonic() - answered >= OUTAGE_SECONDS:
                raise
            latest = replace(latest, finished=[], obstacle=f"{error}; trying again for {OUTAGE_SECONDS:.0f} s")
            delay = RETRY_SECONDS
        yield latest
        if latest.unfinished:
            time.sleep(delay)


def _snapshot(store: Store, before: Sequence[str], tend: Callable[[], str]) -> Snapshot:
    """The jobs that were unfinished before, now."""
    unfinished = queries.unfinished(store, before)
    remaining = set(unfinished)
    finished = queries.jobs_by_id(store, [job for job in before if job not in remaining])
    running = queries.running_jobs(store, unfinished) if unfinished else []
    return Snapshot(unfinished, running, finished, tend() if unfinished else "")
