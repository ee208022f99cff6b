"""The worker's work: claim -> train -> record. One thread does it, one job at a time; Celery's task only wakes it.

The thread also polls the database, so a lost message costs a moment and no job; it renews its lease, and takes back the
jobs of workers that fell silent.
"""

from __future__ import annotations

import logging
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from celery import Celery

from mlpq.errors import LeaseLostError, MlpqError, StoreError
from mlpq.jobs import BEAT_SECONDS, LEASE_SECONDS, Outcome
from mlpq.queue import WAKE
from mlpq.settings import Settings
from mlpq.store import queries, repository
from mlpq.store.repository import Held
from mlpq.store.session import Store
from mlpq_workers.trainer_process import Event, Trainer

POLL_SECONDS = 3.0  # an idle worker looks into the database this often
REAP_SECONDS = 15.0  # and looks for expired leases
CANCEL_SECONDS = 2.0  # a running job looks whether it was cancelled
FLUSH_SECONDS = 0.5  # epochs are recorded at most this often
GRACE_SECONDS = 10.0  # for the training process to stop between two batches
SILENCE_SECONDS = LEASE_SECONDS - 15.0  # without a successful beat for so long, the job may soon be another's

log = logging.getLogger("mlpq.worker")


class Executor:
    """Runs jobs in a thread of its own until `stop`."""

    def __init__(self, config: Settings, store: Store, trainer: Trainer) -> None:
        self.name = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(2)}"[-100:]
        self._config, self._store, self._trainer = config, store, trainer
        self._awake = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="executor", daemon=True)
        self._due: dict[str, float] = {}

    def start(self) -> None:
        self._thread.start()

    def wake(self) -> None:
        """There may be a job."""
        self._awake.set()

    def ask_to_stop(self) -> None:
        """Begin to give the running job back."""
        self._stopping.set()
        self._awake.set()

    def stop(self, timeout: float = 30.0) -> None:
        """Give the running job back and end."""
        self.ask_to_stop()
        self._thread.join(timeout)
        self._trainer.kill()

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                if not self._work_once():
                    self._awake.wait(POLL_SECONDS)
                    self._awake.clear()
            except MlpqError as error:  # the database is away, or the training process does not start
                log.warning("%s; waiting", error)
                self._stopping.wait(POLL_SECONDS)
            except Exception:
                log.exception("an error of the worker itself; going on")
                self._stopping.wait(POLL_SECONDS)
        try:
            repository.worker_gone(self._store, self.name)
        except StoreError as error:
            log.warning("%s", error)

    def _work_once(self) -> bool:
        """Claim and run a job; False where there is none."""
        self._keep_house()
        self._trainer.ensure_ready()  # before the claim: while the child starts nothing would renew the lease
        for held in repository.claim(self._store, self.name, self._trainer.device, self._trainer.facts):
            log.info("job %s attempt %d: started", held.id, held.attempt)
            self._execute(held)
            return True
        return False

    def _execute(self, held: Held) -> None:
        try:
            Attempt(self._store, self._trainer, held, self._weights_file(held), self._stopping, self._beat).run()
        except LeaseLostError:
            log.warning("job %s attempt %d: the lease was lost, nothing is recorded", held.id, held.attempt)
            self._trainer.kill()
        except Exception as error:  # a fault of the worker: the job must not train on unattended
            self._trainer.kill()
            log.exception("job %s attempt %d: an error of the worker itself", held.id, held.attempt)
            reason = f"an error of the worker itself: {type(error).__name__}: {error}"
            repository.fail(self._store, held, Outcome.FAILED, reason, self._trainer.log_tail())

    def _keep_house(self) -> None:
        self._beat()
        if self._is_due("reap", REAP_SECONDS):
            for job in repository.reap(self._store):
                log.warning("job %s: its worker fell silent, taken back", job)

    def _beat(self) -> None:
        if self._is_due("beat", BEAT_SECONDS):
            repository.worker_beat(self._store, self.name, self._trainer.device)

    def _is_due(self, what: str, seconds: float) -> bool:
        if time.monotonic() < self._due.get(what, 0.0):
            return False
        self._due[what] = time.monotonic() + seconds
        return True

    def _weights_file(self, held: Held) -> Path:
        return self._config.artifacts_dir / held.id / f"attempt-{held.attempt}.safetensors"


class Attempt:
    """One execution of one job, from the hand-over to the record."""

    def __init__(
        self,
        store: Store,
        trainer: Trainer,
        held: Held,
        weights_file: Path,
        stopping: threading.Event,
        beat_worker: Callable[[], None],
    ) -> None:
        self._store, self._trainer, self._held = store, trainer, held
        self._weights_file, self._stopping, self._beat_worker = weights_file, stopping, beat_worker
        self._token = f"{held.id}/{held.attempt}"
        self._curve: list[dict[str, Any]] = []
        self._last_beat = self._last_look = time.monotonic()
        self._last_flush = 0.0
        self._asked: Outcome | None = None
        self._asked_at = 0.0

    def run(self) -> None:
        """Train and record; raises LeaseLostError where the job was taken away."""
        self._trainer.train(self._message())
        while True:
            event = self._trainer.event(timeout=0.2)
            if event is not None and event.get("token", self._token) != self._token:
                continue  # a late word about another job
            if event is not None and event["event"] == "epoch":
                self._curve.append(event["epoch"])
            elif event is not None:
                self._record(event)
                return
            self._tick()

    def _message(self) -> dict[str, Any]:
        held = self._held
        return {
            "token": self._token,
            "spec": held.spec.model_dump(mode="json"),
            "parent_weights": held.parent_weights,
            "parent_sha256": held.parent_sha256,
            "weights_file": str(self._weights_file),
        }

    def _tick(self) -> None:
        """What is due between two events: record epochs, renew the lease, look for a wish to stop."""
        elapsed = time.monotonic()
        try:
            flush_due = bool(self._curve) and elapsed - self._last_flush >= FLUSH_SECONDS
            if flush_due or elapsed - self._last_beat >= BEAT_SECONDS:
                self._beat()
            if self._asked is None and elapsed - self._last_look >= CANCEL_SECONDS:
                self._last_look = elapsed
                if queries.cancel_requested(self._store, self._held.id):
                    self._ask(Outcome.CANCELLED)
            self._beat_worker()
        except StoreError as error:
            self._endure(error)
        if self._asked is None and self._stopping.is_set():
            self._ask(Outcome.RELEASED)
        if self._asked is not None and elapsed - self._asked_at >= GRACE_SECONDS:
            self._trainer.kill()

    def _beat(self) -> None:
        cancel_requested = repository.beat(self._store, self._held, self._curve, self._trainer.log_tail())
        self._curve.clear()
        self._last_beat = self._last_flush = time.monotonic()
        if cancel_requested and self._asked is None:
            self._ask(Outcome.CANCELLED)

    def _ask(self, outcome: Outcome) -> None:
        self._asked, self._asked_at = outcome, time.monotonic()
        self._trainer.stop_job()

    def _endure(self, error: StoreError) -> None:
        """Wait for a database that is away, as long as the lease surely holds."""
        if time.monotonic() - self._last_beat > SILENCE_SECONDS:
            raise LeaseLostError(self._held.id)
        log.warning("%s; the job goes on", error)
        time.sleep(1.0)

    def _record(self, event: Event) -> None:
        while True:
            try:
                self._record_once(event)
                return
            except StoreError as error:
                self._endure(error)

    def _record_once(self, event: Event) -> None:
        held, tail = self._held, self._trainer.log_tail()
        if event["event"] == "succeeded":
            repository.finish(self._store, held, event["result"], self._curve, tail)
            log.info("job %s attempt %d: succeeded", held.id, held.attempt)
            return
        outcome, error = self._outcome(event)
        status = repository.fail(self._store, held, outcome, error, tail, self._curve)
        log.info("job %s attempt %d: %s, %s; now %s", held.id, held.attempt, outcome, error, status)

    def _outcome(self, event: Event) -> tuple[Outcome, str]:
        if event["event"] == "diverged":
            return Outcome.DIVERGED, event["error"]
        if self._asked is Outcome.CANCELLED:
            return self._asked, "cancelled"
        if self._asked is not None:
            return self._asked, "the worker shut down"
        return Outcome.FAILED, event["error"]


def register(app: Celery, executor: Executor) -> None:
    """Make the wake-up message reach this executor."""

    @app.task(name=WAKE)
    def wake(_queue: str) -> None:
        executor.wake()
