"""What the objects of the Python interface share: the settings, the database, and a worker on this machine."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial

from mlpq.errors import MlpqError
from mlpq.lab.progress import View, epochs_planned
from mlpq.local_worker import LocalWorker
from mlpq.needed_workers import obstacle_finder
from mlpq.settings import Settings
from mlpq.store import queries
from mlpq.store.migrate import ready_store
from mlpq.store.session import ANSWER_SECONDS, Store
from mlpq.waiting import patiently, snapshots


class LabSession:
    """`progress` says whether waits are shown where a call doesn't say it."""

    def __init__(self, config: Settings, progress: bool) -> None:
        self.config = config
        self._progress = progress
        self._store: Store | None = None
        self._worker: LocalWorker | None = None

    @property
    def store(self) -> Store:
        """The database; a missing SQLite file is created. Raises StoreError."""
        if self._store is None:
            self._store = ready_store(self.config)
        return self._store

    def close(self) -> None:
        """Close the connections; the next use opens new ones."""
        if self._store is not None:
            self._store.close()

    @contextmanager
    def worker(self, device: str, world_size: int | None) -> Iterator[None]:
        """A worker for the duration of the block; raises MlpqError with services, where users run the workers."""
        if not self.config.embedded:
            raise MlpqError("with services, a lab starts no worker: run mlpq worker on the machines that train")
        if self._worker is not None:
            raise MlpqError("this lab has a worker already: leave its with block first")
        with LocalWorker(self.config) as worker:
            worker.start({device}, world_size)
            self._worker = worker
            try:
                yield
            finally:
                self._worker = None

    def view(self, progress: bool | None) -> View:
        """How a wait is shown; `progress` is that of the call, None for the lab's."""
        return View(self._progress if progress is None else progress)

    def wait(self, ids: Sequence[str], view: View) -> None:
        """Wait until the jobs are finished; starts a worker on this machine where that is needed and possible."""
        with self._worker_for_wait() as worker, self._demanding():
            jobs = patiently(partial(queries.jobs_by_id, self.store, ids))
            found = snapshots(self.store, ids, obstacle_finder(self.store, jobs, worker))
            view.follow(found, epochs_planned(ids, jobs))

    @contextmanager
    def _worker_for_wait(self) -> Iterator[LocalWorker]:
        if self._worker is not None:
            yield self._worker
        else:
            with LocalWorker(self.config) as worker:
                yield worker

    @contextmanager
    def _demanding(self) -> Iterator[None]:
        """PostgreSQL must answer soon in a wait, which goes on without it for a while."""
        self.store.answer_seconds = ANSWER_SECONDS
        try:
            yield
        finally:
            self.store.answer_seconds = None


def warn(text: str) -> None:
    """Issue a warning at the line that called the interface, unless the text is empty."""
    if text:
        warnings.warn(text, stacklevel=3)
