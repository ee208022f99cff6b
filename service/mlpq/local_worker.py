"""A worker for the duration of a wait."""

from __future__ import annotations

import importlib.util
import os
import subprocess
from collections.abc import Collection
from pathlib import Path
from typing import BinaryIO

from mlpq.errors import MlpqError, reason_of
from mlpq.jobs import GANG
from mlpq.regular_files import make_private_folder
from mlpq.settings import Settings, python_module, worker_environ

STOP_SECONDS = 30


def worker_command(device: str, gang: int = GANG, world_size: int | None = None) -> list[str]:
    """The command line of a worker; raises MlpqError where none can run: each needs safetensors, and not all torch."""
    if importlib.util.find_spec("safetensors") is None:
        raise MlpqError(
            "a worker needs packages that are not installed: pip install 'mlpq[cpu]', or 'mlpq[worker]' with torch"
        )
    command = python_module("mlpq_workers.worker", "--device", device, "--gang", str(gang))
    return command if world_size is None else [*command, "--world-size", str(world_size)]


class LocalWorker:
    """A context manager that may start a worker and stops it at the end, in the embedded mode only.

    With services, the user runs the workers.
    """

    def __init__(self, config: Settings) -> None:
        self.may_start = config.embedded
        self._config = config
        self._log = config.home / "worker.log"
        self._process: subprocess.Popen[bytes] | None = None

    def check_startable(self) -> None:
        """Raise MlpqError where the wait would need a worker that can't start; called before anything is submitted."""
        from mlpq.store.migrate import has_database, ready_store
        from mlpq.store.worker_queries import live_workers

        if not self.may_start or (has_database(self._config) and live_workers(ready_store(self._config))):
            return
        try:
            worker_command("auto")
        except MlpqError as error:
            raise MlpqError(f"{error}; nothing was submitted, since no worker is alive to wait for") from None

    def start(self, devices: Collection[str], world_size: int | None) -> None:
        """Start the worker, once, for jobs that request these devices; "auto" stands for any device.

        A worker that can't have this world size exits, and its log says why.
        """
        if self._process is not None:
            return
        device = next(iter(devices)) if len(devices) == 1 else "auto"
        with self._opened_log() as log:
            # However this process ends, the pipe closes with it, and the worker shuts down.
            self._process = subprocess.Popen(
                [*worker_command(device, world_size=world_size), "--until-eof"],
                stdin=subprocess.PIPE, stdout=log, stderr=log, start_new_session=True,
                env=worker_environ(self._config),
            )  # fmt: skip

    def _opened_log(self) -> BinaryIO:
        try:
            make_private_folder(self._log.parent)
            return os.fdopen(os.open(self._log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "ab")
        except OSError as error:
            raise MlpqError(
                f"can't write {self._log}: {reason_of(error)}; set MLPQ_HOME to a folder you own"
            ) from error

    def check(self) -> None:
        """Raise MlpqError where the worker has exited."""
        if self._process is not None and self._process.poll() is not None:
            raise MlpqError(f"the worker exited: {_last_line(self._log)} (see {self._log})")

    def __enter__(self) -> LocalWorker:
        return self

    def __exit__(self, *_: object) -> None:
        """Stop the worker; it returns its jobs to the queue."""
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(STOP_SECONDS)
            except (subprocess.TimeoutExpired, KeyboardInterrupt):
                self._process.kill()


def _last_line(file: Path) -> str:
    lines = file.read_text(errors="replace").strip().splitlines()
    return lines[-1] if lines else "its log is empty"
