"""Waiting for jobs, with a worker started for the wait where the embedded default has none."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from mlpq.errors import MlpqError
from mlpq.report import tables
from mlpq.report.progress import follow
from mlpq.settings import Settings
from mlpq.store import queries
from mlpq.store.session import Store

STOP_SECONDS = 30
STARTING = "starting a worker"


class LocalWorker:
    """A worker for the length of a wait, on the embedded default only; elsewhere workers are somebody's own."""

    def __init__(self, config: Settings, store: Store) -> None:
        self._config, self._store = config, store
        self._process: subprocess.Popen[bytes] | None = None
        self._log = config.home / "worker.log"

    def tend(self) -> str:
        """Start the worker if none is alive; says what stands in the way. Raises MlpqError where it can't start."""
        if self._process is not None:
            if self._process.poll() is not None:
                raise MlpqError(f"the worker ended: {_last_line(self._log)} (see {self._log})")
            return "" if queries.live_workers(self._store) else STARTING
        if queries.live_workers(self._store):
            return ""
        if not self._config.embedded:
            return "waiting: no worker is alive; start one with mlpq worker"
        self._log.parent.mkdir(parents=True, exist_ok=True)
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "mlpq.cli", "worker"], stdout=log, stderr=log, start_new_session=True
            )
        return STARTING

    def stop(self) -> None:
        """Let the worker give back what it holds and leave."""
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()


def wait_for(config: Settings, store: Store, ids: Sequence[str]) -> None:
    """Show progress on standard error until the jobs are finished. Ctrl-C leaves them queued and says so."""
    worker = LocalWorker(config, store)
    console = tables.console(stderr=True)
    try:
        follow(store, ids, console, worker.tend)
    except KeyboardInterrupt:
        console.print("stopped waiting; the jobs stay queued: mlpq watch shows them, mlpq cancel ends them")
        raise SystemExit(130) from None
    finally:
        worker.stop()


def _last_line(file: Path) -> str:
    lines = file.read_text(errors="replace").strip().splitlines()
    return lines[-1] if lines else "it said nothing"
