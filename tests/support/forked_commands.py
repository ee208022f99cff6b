"""Runs Python programs in forked processes with preloaded imports, which take most of the time of a start."""

from __future__ import annotations

import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from mlpq.cli import COMMANDS

IMPORTS = (
    *(f"mlpq.cli.{name}" for name in COMMANDS), "mlpq.doctor", "mlpq.decide", "mlpq.cli.race_view",
    "mlpq.dashboard.serving", "mlpq.queue", "mlpq.report.charts", "mlpq.report.job_details",
    "mlpq.report.html_report", "mlpq.analysis.planning", "mlpq.report.progress", "mlpq.report.script_export",
    "mlpq.report.planning_tables", "mlpq.waiting", "mlpq.store.submission",
    "mlpq.store.migrate", "mlpq.store.sql", "mlpq.submit", "mlpq.verification.verify", "celery", "psycopg",
    "sqlalchemy.dialects.postgresql.psycopg", "sqlalchemy.dialects.sqlite", "mlpq_workers.worker.celery_app",
    "celery.apps.worker", "celery.bin.celery", "celery.concurrency.solo", "celery.worker.components",
    "kombu.transport.filesystem", "kombu.transport.redis",
)  # fmt: skip

context = multiprocessing.get_context("forkserver")
context.set_forkserver_preload(list(IMPORTS))


def run(
    command: Sequence[str], input: str, cwd: Path, environ: Mapping[str, str], timeout: float
) -> tuple[int, str, str]:
    """Exit status, standard output and standard error; raises TimeoutError where the command does not end in time."""
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder) / name for name in ("in", "out", "err")]
        files[0].write_text(input)
        process = Forked(command, files, cwd, environ)
        try:
            status = process.wait(timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise TimeoutError(f"{' '.join(command)} did not end within {timeout} s") from None
        return status, files[1].read_text(), files[2].read_text()


class Forked:
    """A process that runs `command`: a script, or `-m` and a module. It has the interface of subprocess.Popen.

    `files` are its standard input, output and error.
    """

    def __init__(self, command: Sequence[str], files: Sequence[Path], cwd: Path, environ: Mapping[str, str]) -> None:
        self._process = context.Process(target=_main, args=(command, files, cwd, dict(environ)))
        self._process.start()
        assert self._process.pid is not None
        self.pid = self._process.pid

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    def poll(self) -> int | None:
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        self._process.join(timeout)
        if self.returncode is None:
            raise subprocess.TimeoutExpired("a forked process", timeout or 0)
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.returncode is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def _main(command: Sequence[str], files: Sequence[Path], cwd: Path, environ: Mapping[str, str]) -> None:
    for number, (path, flags) in enumerate(
        zip(files, (os.O_RDONLY, *[os.O_WRONLY | os.O_CREAT | os.O_APPEND] * 2), strict=True)
    ):
        os.dup2(os.open(path, flags), number)
    sys.stdin = open(0)  # noqa: SIM115 (open until the process exits)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environ)
    is_module = command[0] == "-m"
    sys.argv = list(command[is_module:])
    (runpy.run_module if is_module else runpy.run_path)(sys.argv[0], run_name="__main__")
