"""The Celery worker: `python -m mlpq_workers.app`, which is what `mlpq worker` starts."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import time
import warnings

import click
from celery import bootsteps, signals

from mlpq.errors import MlpqError
from mlpq.queue import celery_app, check_broker, queue_name
from mlpq.settings import masked, settings
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


def run(device: str, gang: int) -> None:
    """Run a worker until it is told to stop; raises MlpqError where it can't begin."""
    config = settings()
    trainer = Trainer(config, device)
    trainer.spawn()
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


def _leave_at_eof() -> None:
    """End this worker, as SIGTERM does, when whoever started it is gone."""
    while os.read(0, 1024):  # not by sys.stdin: its lock would be held while the interpreter ends
        pass
    os.kill(os.getpid(), signal.SIGTERM)


@signals.setup_logging.connect
def _log_our_way(**_: object) -> None:
    """Being connected keeps Celery from setting up logging of its own."""


@click.command()
@click.option("--device", default="auto")
@click.option("--gang", type=int, required=True)
@click.option("--until-eof", is_flag=True)
def main(device: str, gang: int, until_eof: bool) -> None:
    """Run a worker."""
    logging.Formatter.converter = time.gmtime
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", stream=sys.stderr)
    logging.getLogger("celery").setLevel(logging.WARNING)
    # Celery warns root of pickled messages; only JSON is accepted here.
    warnings.filterwarnings("ignore", message=".*superuser privileges", category=RuntimeWarning)
    if until_eof:
        threading.Thread(target=_leave_at_eof, daemon=True).start()
    try:
        run(device, gang)
    except MlpqError as error:
        click.echo(f"mlpq worker: {error}", err=True)
        sys.exit(2)


if __name__ == "__main__":
    main()
