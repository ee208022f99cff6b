"""The Celery worker around the executor."""

from __future__ import annotations

import logging
import os
import threading
import warnings

from celery import bootsteps, signals

from mlpq.queue import celery_app, check_broker, queue_name
from mlpq.settings import Settings, masked
from mlpq.store.migrate import ready_store
from mlpq_workers.tasks import Executor, register
from mlpq_workers.trainer_process import Trainer

log = logging.getLogger("mlpq.worker")


class ExecutorStep(bootsteps.StartStopStep):
    """Starts the executor with the Celery worker."""

    requires = ("celery.worker.components:Pool",)
    executor: Executor

    def start(self, parent: object) -> None:
        self.executor.start()


def _leave(executor: Executor) -> None:
    """Give back what runs, and end: Celery's own way there takes seconds, and it holds nothing that could be lost."""
    executor.stop()
    logging.shutdown()
    os._exit(0)


def run(config: Settings, trainer: Trainer, gang: int) -> None:
    """Run a worker until it is told to stop; raises MlpqError where it can't begin."""
    # Celery warns root of pickled messages; only JSON is accepted here.
    warnings.filterwarnings("ignore", message=".*superuser privileges", category=RuntimeWarning)
    store = ready_store(config)
    check_broker(config)
    trainer.wait_until_ready()
    executor = Executor(config, store, trainer, gang)
    app = celery_app(config.broker_url)
    register(app, executor)
    ExecutorStep.executor = executor
    app.steps["worker"].add(ExecutorStep)
    signals.worker_shutting_down.connect(
        lambda **_: threading.Thread(target=_leave, args=(executor,)).start(), weak=False
    )
    log.info(
        "worker %s on %s, %d thread(s), gangs of up to %d; database %s, broker %s",
        executor.name, trainer.device, config.threads, gang, masked(config.database_url), masked(config.broker_url),
    )  # fmt: skip
    # The solo pool suffices: a task only sets a flag, so the main loop never waits for training.
    try:
        app.worker_main(
            [
                "--quiet",
                "worker",
                "--pool=solo",
                f"--hostname=mlpq@{executor.name}",
                f"--queues={queue_name('auto')},{queue_name(trainer.device)}",
                "--without-gossip",
                "--without-mingle",
                "--without-heartbeat",
            ]
        )
    finally:  # where Celery ends by itself
        executor.stop()


@signals.setup_logging.connect
def _log_our_way(**_: object) -> None:
    """Being connected keeps Celery from setting up logging of its own."""
