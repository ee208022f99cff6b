"""Waiting for jobs, with a worker started for the wait where the embedded default has none."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Collection, Sequence
from pathlib import Path

from mlpq.errors import MlpqError
from mlpq.report import tables
from mlpq.report.progress import follow
from mlpq.settings import Settings
from mlpq.store import queries
from mlpq.store.session import Store

STOP_SECONDS = 30


class LocalWorker:
    """A worker for the length of a wait, on the embedded default only; elsewhere workers are somebody's own.

    `devices` are those that the jobs ask for, "auto" among them where any will do.
    """

    def __init__(self, config: Settings, store: Store, devices: Collection[str]) -> None:
        self.devices = devices
        self._config, self._store = config, store
        self._process: subprocess.Popen[bytes] | None = None
        self._log = config.home / "worker.log"

    def tend(self) -> str:
        """Start the worker if none is alive; says what stands in the way. Raises MlpqError where it can't start."""
        if self._process is not None and self._process.poll() is not None:
            raise MlpqError(f"the worker ended: {_last_line(self._log)} (see {self._log})")
        obstacle = what_is_missing(self._store, self.devices)
        if obstacle and self._config.embedded:
            if self._process is None:
                self._start()
            return "starting a worker" if not queries.live_workers(self._store) else obstacle
        return obstacle

    def _start(self) -> None:
        self._log.parent.mkdir(parents=True, exist_ok=True)
        device = next(iter(self.devices)) if len(self.devices) == 1 else "auto"
        command = [sys.executable, "-m", "mlpq.cli", "worker", "--until-eof", "--device", device]
        with self._log.open("ab") as log:
            # However this process ends, the pipe closes with it, and the worker leaves.
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=log, stderr=log, start_new_session=True
            )

    def __enter__(self) -> LocalWorker:
        return self

    def __exit__(self, *_: object) -> None:
        """Let the worker give back what it holds and leave."""
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()


def wait_for(store: Store, ids: Sequence[str], worker: LocalWorker) -> None:
    """Show progress on standard error until the jobs are finished. Ctrl-C leaves them queued and says so."""
    worker.devices = {row["requested_device"] for row in queries.jobs_by_id(store, ids)}
    console = tables.console(stderr=True)
    try:
        follow(store, ids, console, worker.tend)
    except KeyboardInterrupt:
        console.print("stopped waiting; the jobs stay queued: mlpq watch shows them, mlpq cancel ends them")
        raise SystemExit(130) from None


def what_is_missing(store: Store, devices: Collection[str]) -> str:
    """Which worker would have to be started for jobs that ask for these devices; empty where none is missing."""
    alive = {worker["device"] for worker in queries.live_workers(store)}
    missing = sorted(device for device in devices if device != "auto" and device not in alive)
    if missing:
        return f"waiting for a {missing[0]} worker, and none is alive: mlpq worker --device {missing[0]}"
    return "" if alive else "waiting for a worker, and none is alive: mlpq worker"


def _last_line(file: Path) -> str:
    lines = file.read_text(errors="replace").strip().splitlines()
    return lines[-1] if lines else "it said nothing"
