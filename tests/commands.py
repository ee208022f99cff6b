"""The command `mlpq` in a process of its own that has its imports already: they cost most of what a command takes."""

from __future__ import annotations

import multiprocessing
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

IMPORTS = (
    "mlpq.checkup", "mlpq.cli", "mlpq.dashboard.serving", "mlpq.queue", "mlpq.report.charts", "mlpq.report.details",
    "mlpq.report.page", "mlpq.report.planning", "mlpq.report.progress", "mlpq.report.script", "mlpq.store.filing",
    "mlpq.store.migrate", "mlpq.store.sql", "mlpq.submit", "mlpq.verify", "celery", "psycopg",
    "sqlalchemy.dialects.postgresql.psycopg", "sqlalchemy.dialects.sqlite",
)  # fmt: skip

context = multiprocessing.get_context("forkserver")
context.set_forkserver_preload(list(IMPORTS))


def run(
    arguments: Sequence[str], input: str, cwd: Path, environ: Mapping[str, str], timeout: float
) -> tuple[int, str, str]:
    """Exit status and what was printed on standard output and error; raises TimeoutError where it does not end."""
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder) / name for name in ("in", "out", "err")]
        files[0].write_text(input)
        process = context.Process(target=_main, args=(arguments, files, cwd, dict(environ)))
        process.start()
        process.join(timeout)
        if process.exitcode is None:
            process.kill()
            process.join()
            raise TimeoutError(f"mlpq {' '.join(arguments)} did not end within {timeout} s")
        return process.exitcode, files[1].read_text(), files[2].read_text()


def _main(arguments: Sequence[str], files: Sequence[Path], cwd: Path, environ: Mapping[str, str]) -> None:
    from mlpq.cli import main

    for number, (path, flags) in enumerate(zip(files, (os.O_RDONLY, *[os.O_WRONLY | os.O_CREAT] * 2), strict=True)):
        os.dup2(os.open(path, flags), number)
    sys.stdin = open(0)  # noqa: SIM115 (for as long as the process lives)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environ)
    sys.argv = ["mlpq", *arguments]
    main()
