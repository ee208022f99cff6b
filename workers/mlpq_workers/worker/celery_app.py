"""The Celery worker around the executor."""

from __future__ import annotations

import logging
import signal
import threading
import warnings
from typing import Any

from celery import signals
from celery.exceptions import SecurityWarning
from celery.worker import consumer

from mlpq.errors import QueueError
from mlpq.queue import celery_app, check_broker, queue_name
from mlpq.settings import Settings, masked
from mlpq.store.migrate import ready_store
from mlpq_workers.worker.executor import Executor, register
from mlpq_workers.worker.trainer_client import Trainer
from mlpq_workers.worker.watchdog import LOOK_SECONDS, Pulse, Watchdog, end

log = logging.getLogger("mlpq.worker")


class Leaving:
    """What SIGTERM does: the first time give back what runs, and end; the second time end at once.

    Celery's own way to the end takes seconds, and it holds nothing that could be lost.
    """

    def __init__(self, executor: Executor) -> None:
        self._executor, self._asked = executor, False

    def __call__(self, *_: object, **__: object) -> None:
        if self._asked:
            end(1, "the worker was told twice to stop, and ends at once")
        self._asked = True
        threading.Thread(target=self._leave).start()

    def _leave(self) -> None:
        self._executor.stop()
        end(0, "the worker has left")


class Consumer(consumer.Consumer):
    """Celery's, with a pulse: its loop ticks. While the broker is away it rests, since then it waits on purpose."""

    pulse = Pulse("Celery's loop")
    leave: Leaving

    def start(self) -> None:
        _obey(self.leave)  # Celery's own handlers, set just before, write to standard error and take seconds
        super().start()

    def ensure_connected(self, connection: Any) -> Any:
        self.pulse.rests = True
        try:
            return super().ensure_connected(connection)
        finally:
            self.pulse.rests = False

    def register_with_event_loop(self, hub: Any) -> None:
        super().register_with_event_loop(hub)
        hub.call_repeatedly(LOOK_SECONDS, self.pulse.tick)

    def perform_pending_operations(self) -> None:
        """Where there is no event loop, this is done in each round."""
        self.pulse.tick()
        super().perform_pending_operations()


def run(config: Settings, trainer: Trainer, gang: int) -> None:
    """Run a worker until it is told to stop; raises MlpqError where it can't begin."""
    # Celery warns root of pickled messages; only JSON is accepted here.
    warnings.filterwarnings("ignore", category=SecurityWarning)
    store = ready_store(config)
    _check_broker(config)
    trainer.wait_until_ready()
    executor = Executor(config, store, trainer, gang)
    app = celery_app(config.broker_url)
    app.conf.worker_consumer = f"{__name__}:{Consumer.__name__}"
    register(app, executor)
    Consumer.leave = Leaving(executor)
    _obey(Consumer.leave)
    log.info(
        "worker %s on %s, world size %d, %d thread(s), gangs of up to %d; database %s, broker %s",
        executor.name, trainer.device, trainer.world_size, config.threads, gang, masked(config.database_url),
        masked(config.broker_url),
    )  # fmt: skip
    executor.start()  # it needs no broker
    Watchdog([executor.pulse, Consumer.pulse]).start()
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


def _obey(leave: Leaving) -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, leave)


def _check_broker(config: Settings) -> None:
    """An embedded queue must be there; without Redis jobs are found by polling, and it may come back."""
    try:
        check_broker(config)
    except QueueError as error:
        if config.queue_dir is not None:
            raise
        log.warning("%s; going on without it, by polling", error)


@signals.setup_logging.connect
def _log_our_way(**_: object) -> None:
    """Being connected keeps Celery from setting up logging of its own."""
