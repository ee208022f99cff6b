"""Poll jobs until all are finished, for `mlpq watch`, `submit --wait` and `verify`."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import TypeVar

from mlpq.errors import StoreError
from mlpq.records import WaitSnapshot
from mlpq.store import queries
from mlpq.store.session import Store

Result = TypeVar("Result")

POLL_SECONDS = 0.25
OUTAGE_SECONDS = 60.0  # for which a wait continues while the database can't be reached
RETRY_SECONDS = 2.0  # between two attempts to reach it


def patiently(action: Callable[[], Result]) -> Result:
    """What `action` returns; it is repeated while the database can't be reached, for OUTAGE_SECONDS at most."""
    began = time.monotonic()
    while True:
        try:
            return action()
        except StoreError:
            if time.monotonic() - began >= OUTAGE_SECONDS:
                raise
            time.sleep(RETRY_SECONDS)


def snapshots(store: Store, ids: Sequence[str], find_obstacle: Callable[[], str]) -> Iterator[WaitSnapshot]:
    """Snapshots of these jobs every POLL_SECONDS; the last one is that in which all are finished.

    `find_obstacle` is called for each snapshot but the last. Its exceptions propagate, except StoreError: while the
    database can't be reached, for OUTAGE_SECONDS at most, snapshots repeat the last known state.
    """
    latest = WaitSnapshot(list(ids), [], [], "")
    answered = time.monotonic()
    while latest.unfinished:
        try:
            latest = _snapshot(store, latest.unfinished, find_obstacle)
            answered, delay = time.monotonic(), POLL_SECONDS
        except StoreError as error:
            if time.monotonic() - answered >= OUTAGE_SECONDS:
                raise
            latest = replace(latest, finished=[], obstacle=f"{error}; trying again for {OUTAGE_SECONDS:.0f} s")
            delay = RETRY_SECONDS
        yield latest
        if latest.unfinished:
            time.sleep(delay)


def _snapshot(store: Store, before: Sequence[str], find_obstacle: Callable[[], str]) -> WaitSnapshot:
    """The jobs that were unfinished before, now."""
    unfinished = queries.unfinished(store, before)
    remaining = set(unfinished)
    finished = queries.listed_by_id(store, [job for job in before if job not in remaining])
    running = queries.running_jobs(store, unfinished) if unfinished else []
    return WaitSnapshot(unfinished, running, finished, find_obstacle() if unfinished else "")
