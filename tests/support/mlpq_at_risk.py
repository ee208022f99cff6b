"""The real `mlpq` and the real worker, with a fail-point, or with shorter times than the real ones.

    python -m tests.support.mlpq_at_risk worker|mlpq [arguments]

MLPQ_RISK_DIE=function:before|after ends the process with SIGKILL before or after that function's commit.
MLPQ_RISK_HANG=loop lets Celery's loop hang at the first wake-up; executor, the executor at the first claim.
MLPQ_RISK_FAIL=consumer lets Celery's consumer fail in a way from which it does not recover.
MLPQ_RISK_LEASE=seconds sets the length of a lease, and with it beats, reaping and what else follows from it.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Connection

import mlpq.jobs

if lease := os.environ.pop("MLPQ_RISK_LEASE", None):
    mlpq.jobs.LEASE_SECONDS = float(lease)  # type: ignore[assignment]
    mlpq.jobs.BEAT_SECONDS = float(lease) / 3  # type: ignore[assignment]

from mlpq.store.session import Store

WRITE = Store.write


def set_up_death(function: str, moment: str) -> None:
    """The process dies when a transaction that `function` opened is committed."""

    @contextmanager
    def write(store: Store) -> Iterator[Connection]:
        opener = sys._getframe(2).f_code.co_name  # 1 is contextlib's
        with WRITE(store) as connection:
            yield connection
            if (opener, moment) == (function, "before"):
                os.kill(os.getpid(), signal.SIGKILL)
        if (opener, moment) == (function, "after"):
            os.kill(os.getpid(), signal.SIGKILL)

    Store.write = write  # type: ignore[method-assign,assignment]


def fail(*_: object) -> None:
    raise RuntimeError("the consumer fails")


def main() -> None:
    if death := os.environ.pop("MLPQ_RISK_DIE", None):
        set_up_death(*death.split(":"))
    what = sys.argv.pop(1)
    if what == "worker":
        from mlpq_workers.worker import __main__ as entry
        from mlpq_workers.worker import executor, gang_run, watchdog

        if lease:
            watchdog.CHECK_SECONDS = float(lease) / watchdog.CHECKS
            # The training process is not affected: it reports every five seconds.
            gang_run.SILENCE_SECONDS = max(gang_run.SILENCE_SECONDS, 12.0)
        hang = {"loop": "wake", "executor": "_claim"}.get(os.environ.pop("MLPQ_RISK_HANG", ""))
        if hang:
            setattr(executor.Executor, hang, lambda *_: threading.Event().wait())
        if os.environ.pop("MLPQ_RISK_FAIL", None) == "consumer":
            from mlpq_workers.worker import celery_app

            celery_app.Consumer.start = fail  # type: ignore[assignment,method-assign]
        entry.main()
    else:
        from mlpq.cli import main as command

        command()


if __name__ == "__main__":
    main()
