"""The Celery worker around the executor."""

from __future__ import annotations

import logging
import os
import signal
import threading
import warnings

from celery import signals
from celery.exceptions import SecurityWarning

from mlpq.queue import celery_app, check_broker, queue_name
from mlpq.settings import Settings, masked
from mlpq.store.migrate import ready_store
from mlpq_workers.tasks import Executor, register
from mlpq_workers.trainer_process import Trainer

log = logging.getLogger("mlpq.worker")


def _leave(executor: Executor) -> None:
    """Give back what runs, and end: Celery's own way there takes seconds, and it holds nothing that could be lost."""
    executor.stop()
    logging.shutdown()
    os._exit(0)


def run(config: Settings, trainer: Trainer, gang: int) -> None:
    """Run a worker until it is told to stop; raises MlpqError where it can't begin."""
    # Celery warns root of pickled messages; only JSON is accepted here.
    warnings.filterwarnings("ignore", category=SecurityWarning)
    store = ready_store(config)
    check_broker(config)
    trainer.wait_until_ready()
    executor = Executor(config, store, trainer, gang)
    app = celery_app(config.broker_url)
    register(app, executor)

    def leave(*_: object, **__: object) -> None:
        threading.Thread(target=_leave, args=(executor,)).start()

    signals.worker_shutting_down.connect(leave, weak=False)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, leave)  # until Celery has its own
    log.info(
        "worker %s on %s, %d thread(s), gangs of up to %d; database %s, broker %s",
        executor.name, trainer.device, config.threads, gang, masked(config.database_url), masked(config.broker_url),
    )  # fmt: skip
    executor.start()  # it needs no broker
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
