"""The Celery worker around the executor. A message only wakes the executor."""

from __future__ import annotations

import logging
import time
import warnings
from typing import Any

from celery import Celery, signals
from celery.exceptions import SecurityWarning
from celery.worker.consumer import consumer

from mlpq.broker.messages import WAKE
from mlpq.errors import QueueError
from mlpq.log import RateLimit
from mlpq.queue import celery_app, check_broker, queue_name
from mlpq.settings import Settings, masked
from mlpq.store.migrate import ready_store
from mlpq.store.session import ANSWER_SECONDS
from mlpq_workers.worker.executor import Executor
from mlpq_workers.worker.shutdown import ShutdownHandler
from mlpq_workers.worker.trainer_client import Trainer
from mlpq_workers.worker.watchdog import CHECK_SECONDS, EXIT_STATUS, Pulse, Watchdog, exit_now

RESTART_SECONDS = 5.0  # before the consumer starts again after an error

log = logging.getLogger("mlpq.worker")
consumer_log = logging.getLogger("mlpq.worker.consumer")
for each in (consumer_log, consumer.logger):
    each.addFilter(RateLimit())  # a broker that refuses commands does so at each start
consumer.logger.setLevel(logging.ERROR)  # that the connection was lost is logged here, with the reason


class Consumer(consumer.Consumer):
    """Celery's consumer, restarted after any error of the broker, and with a pulse.

    Its loop must not hang. It may wait only while the broker is unreachable or has just failed.
    """

    pulse = Pulse("Celery's event loop")
    shutdown_handler: ShutdownHandler

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        # Celery restarts the consumer after these errors, and exits after others: keys of a wrong type, missing
        # permissions, a read-only or full Redis. The executor polls the database meanwhile.
        self.connection_errors = (Exception,)

    def on_connection_error_before_connected(self, exc: Exception) -> None:
        super().on_connection_error_before_connected(exc)
        self._pause()

    def on_connection_error_after_connected(self, exc: Exception) -> None:
        super().on_connection_error_after_connected(exc)
        reason = " ".join(str(exc).split()) or type(exc).__name__
        consumer_log.warning("broker: %s; polling the database instead", reason)
        self._pause()

    def _pause(self) -> None:
        self.pulse.paused = True
        time.sleep(RESTART_SECONDS)
        self.pulse.paused = False

    def start(self) -> None:
        # Replaces Celery's own handlers, set just before, which write to standard error and take seconds.
        self.shutdown_handler.install()
        super().start()

    def ensure_connected(self, connection: Any) -> Any:
        self.pulse.paused = True
        try:
            return super().ensure_connected(connection)
        finally:
            self.pulse.paused = False

    def register_with_event_loop(self, hub: Any) -> None:
        super().register_with_event_loop(hub)
        hub.call_repeatedly(CHECK_SECONDS, self.pulse.tick)

    def perform_pending_operations(self) -> None:
        """Called in each round of transports that have no event loop."""
        self.pulse.tick()
        super().perform_pending_operations()


def run(config: Settings, trainer: Trainer, gang: int) -> None:
    """Run a worker until it receives a stop signal; raises MlpqError where it can't start.

    `gang` is the most jobs that it trains together.
    """
    # Celery warns users who run it as root of pickled messages; only JSON is accepted here.
    warnings.filterwarnings("ignore", category=SecurityWarning)
    store = ready_store(config)
    store.answer_seconds = ANSWER_SECONDS
    _check_broker(config)
    trainer.wait_until_ready()
    executor = Executor(config, store, trainer, gang)
    app = celery_app(config.broker_url)
    app.conf.worker_consumer = f"{__name__}:{Consumer.__name__}"
    register(app, executor)
    Consumer.shutdown_handler = ShutdownHandler(executor.stop)
    Consumer.shutdown_handler.install()
    log.info(
        "worker %s on %s, world size %d, %d thread(s), gangs of up to %d; database %s, broker %s",
        executor.name, trainer.device, trainer.world_size, config.threads, gang, masked(config.database_url),
        masked(config.broker_url),
    )  # fmt: skip
    executor.start()  # works without a broker, by polling
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
    finally:  # a stop signal exits without returning here: Celery has failed
        executor.stop()
    exit_now(EXIT_STATUS, "Celery's worker ended: the worker exits")


def register(app: Celery, executor: Executor) -> None:
    """Make wake-up messages reach this executor."""

    @app.task(name=WAKE)
    def wake(_queue: str) -> None:
        executor.wake()


def _check_broker(config: Settings) -> None:
    """Raise QueueError without an embedded queue; warn without Redis, which may come back, and poll meanwhile."""
    try:
        check_broker(config)
    except QueueError as error:
        if config.queue_dir is not None:
            raise
        log.warning("%s; polling the database instead", error)


@signals.setup_logging.connect
def _keep_logging(**_: object) -> None:
    """Does nothing: that it is connected keeps Celery from configuring logging."""
