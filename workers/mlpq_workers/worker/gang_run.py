"""One gang in a worker: from the claim to the last record. Each job ends independently."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from mlpq.errors import StoreError
from mlpq.jobs import BEAT_SECONDS, LEASE_SECONDS, Outcome
from mlpq.records import AttemptEnding, AttemptProgress, ClaimedJob, EpochMetrics, JobResult
from mlpq.regular_files import remove_matching
from mlpq.store import execution, worker_queries
from mlpq.store.session import Store
from mlpq.text import bounded
from mlpq_workers.protocol import (
    Died,
    EpochDone,
    Event,
    JobDiverged,
    JobEnding,
    JobFailed,
    JobStopped,
    JobSucceeded,
    TrainJob,
    attempt_token,
)
from mlpq_workers.worker.trainer_client import Trainer
from mlpq_workers.worker.watchdog import Pulse

EVENT_SECONDS = 0.2  # waited for the next event before looking at what else is due
CANCEL_SECONDS = 2.0  # between two looks for requests to cancel
FLUSH_SECONDS = 0.5  # between two writes of epochs
STOP_SECONDS = 10.0  # for the training process to stop a job between two batches
LEAVE_SECONDS = 20.0  # for it to finish the present epochs and write checkpoints, before the worker exits
SILENCE_SECONDS = LEASE_SECONDS / 2  # without any event the training process counts as hanging; it sends many more
# Without a successful heartbeat for this long, training stops: the lease will expire, and others may take the job.
OUTAGE_SECONDS = LEASE_SECONDS * 3 / 4
RETRY_SECONDS = 1.0  # between two attempts to reach the database

T = TypeVar("T", AttemptProgress, AttemptEnding)
U = TypeVar("U")

log = logging.getLogger("mlpq.worker")


def log_fields(job: ClaimedJob) -> dict[str, Any]:
    """The fields by which a line of the JSON log names its attempt."""
    return {"job": job.id, "attempt": job.attempt}


class RunningJob:
    """A job of a gang, from the hand-over to the record."""

    def __init__(self, job: ClaimedJob, artifacts_dir: Path) -> None:
        self.job = job
        self.token = attempt_token(job.id, job.attempt)
        self.curve: list[EpochMetrics] = []  # not yet written
        self.stop_outcome: Outcome | None = None  # set once a stop is requested
        self.stop_deadline = 0.0
        self.weights_file = artifacts_dir / job.id / f"attempt-{job.attempt}.safetensors"

    def command(self) -> TrainJob:
        job = self.job
        parent = Path(job.parent_weights) if job.parent_weights else None
        return TrainJob(job.id, job.attempt, job.spec, parent, job.parent_sha256, self.weights_file)

    def ending(self, event: JobEnding | Died, log_tail: str) -> AttemptEnding:
        """What to record after the last event about this job."""
        outcome, result, error = self._outcome(event)
        alone = isinstance(event, JobFailed | Died) and event.alone
        images = event.images if isinstance(event, JobSucceeded) else None
        return AttemptEnding(self.job, outcome, result, error, log_tail, tuple(self.curve), alone, images)

    def _outcome(self, event: JobEnding | Died) -> tuple[Outcome, JobResult | None, str | None]:
        match event:
            case JobSucceeded():
                return Outcome.SUCCEEDED, event.result, None
            case JobDiverged():
                return Outcome.DIVERGED, None, bounded(event.error)
            case JobFailed() | Died() | JobStopped() if self.stop_outcome is not None:
                error = "cancelled" if self.stop_outcome is Outcome.CANCELLED else "the worker shut down"
                return self.stop_outcome, None, error
            case JobFailed() | Died():
                return Outcome.FAILED, None, bounded(event.error)
            case JobStopped():
                return Outcome.FAILED, None, "stopped without a request"

    def remove_checkpoints(self) -> None:
        """Remove what only an unfinished job needs, and files that killed attempts left incomplete."""
        for pattern in ("attempt-*-epoch-*.safetensors", ".attempt-*"):
            remove_matching(self.weights_file.parent, pattern)


@dataclass(frozen=True)
class WorkerContext:
    """What a run shares with its worker.

    `stopping` is set when the worker must exit. `maintain` does what the worker has to do regularly; it may raise
    StoreError. `pulse` must tick.
    """

    stopping: threading.Event
    maintain: Callable[[], None]
    pulse: Pulse


class GangRun:
    """One run of a gang: hand it to the training process, renew its leases, record its epochs and endings."""

    def __init__(
        self, store: Store, trainer: Trainer, gang: Sequence[ClaimedJob], artifacts_dir: Path, worker: WorkerContext
    ) -> None:
        self._store, self._trainer, self._worker = store, trainer, worker
        self._jobs = [RunningJob(job, artifacts_dir) for job in gang]
        self._running = {job.token: job for job in self._jobs}
        self._last_beat = self._last_look = self._last_log = self._last_round = time.monotonic()
        self._events_seen, self._silence = trainer.events_received, 0.0
        self.failed = 0  # jobs

    def run(self) -> None:
        """Train and record, until every job has ended or may belong to another worker."""
        self._trainer.train([job.command() for job in self._running.values()])
        while self._running:
            self._worker.pulse.tick()
            events = self._trainer.events(timeout=EVENT_SECONDS)
            self._record([ending for event in events for ending in self._handle(event)])
            if self._running:
                self._maintain()

    def give_up(self, reason: str) -> None:
        """Record that the jobs that still run have failed."""
        execution.record(self._store, self._handle(Died(reason)))

    def _handle(self, event: Event) -> list[AttemptEnding]:
        """The endings that an event brings. The end of the training process ends all jobs."""
        match event:
            case Died():
                ended = list(self._running.values())
            case EpochDone() if event.token in self._running:
                self._running[event.token].curve.append(event.metrics)
                return []
            case JobSucceeded() | JobDiverged() | JobStopped() | JobFailed() if event.token in self._running:
                ended = [self._running[event.token]]
            case _:  # about a job that was given up
                return []
        for job in ended:
            del self._running[job.token]
        return [job.ending(event, self._trainer.log_tail(job.token)) for job in ended]

    def _maintain(self) -> None:
        """Do what is due between two events: release or stop jobs, record epochs, renew leases."""
        elapsed = time.monotonic()
        if self._worker.stopping.is_set():  # first, since the database may take long
            self._release()
        try:
            has_epochs = any(job.curve for job in self._running.values())
            if elapsed - self._last_beat >= (FLUSH_SECONDS if has_epochs else BEAT_SECONDS):
                self._beat()
            if elapsed - self._last_look >= CANCEL_SECONDS:
                self._last_look = elapsed
                cancelled = worker_queries.cancel_requested(self._store, [job.job.id for job in self._running.values()])
                self._stop(cancelled, Outcome.CANCELLED)
            self._worker.maintain()
        except StoreError as error:
            self._wait_for_database(error)
        # A process that doesn't stop a job in time may be loading data; it is killed only where all its jobs must stop.
        is_overdue = all(job.stop_outcome and elapsed >= job.stop_deadline for job in self._running.values())
        if is_overdue or self._is_silent(elapsed):
            self._trainer.kill()

    def _release(self) -> None:
        """Stop all jobs after their present epochs, so that other workers can resume them."""
        not_stopped = [job for job in self._running.values() if job.stop_outcome is None]
        for job in not_stopped:
            job.stop_outcome, job.stop_deadline = Outcome.RELEASED, time.monotonic() + LEAVE_SECONDS
        if not_stopped:
            self._trainer.leave()

    def _is_silent(self, elapsed: float) -> bool:
        """Whether the training process hangs.

        A round counts as one second at most: while the worker itself was suspended, it could receive nothing.
        """
        self._silence += min(elapsed - self._last_round, 1.0)
        self._last_round = elapsed
        if self._trainer.events_received != self._events_seen:
            self._events_seen, self._silence = self._trainer.events_received, 0.0
        return self._silence >= SILENCE_SECONDS

    def _beat(self) -> None:
        # Logs are long, so they are written less often than epochs.
        with_logs = time.monotonic() - self._last_log >= BEAT_SECONDS
        progress = [
            AttemptProgress(job.job, tuple(job.curve), self._trainer.log_tail(job.token) if with_logs else None)
            for job in self._running.values()
        ]
        began = time.monotonic()  # the lease is renewed from here on, however long the database takes
        kept = self._write(execution.heartbeat, progress)
        self._last_beat = began
        self._last_log = began if with_logs else self._last_log
        for job in list(self._running.values()):
            job.curve.clear()
            if job.job.id not in kept:
                self._drop(job)
        self._stop([job for job, cancel_requested in kept.items() if cancel_requested], Outcome.CANCELLED)

    def _write(self, write: Callable[[Store, Sequence[T]], dict[str, U]], reports: Sequence[T]) -> dict[str, U]:
        """Call `write` for all jobs at once, or else one by one, so that an error fails only its own job."""
        try:
            return write(self._store, reports)
        except StoreError:
            raise
        except Exception as error:
            if len(reports) > 1:
                return {job: answer for each in reports for job, answer in self._write(write, [each]).items()}
            job = reports[0].job
            log.exception("job %s attempt %d: internal error", job.id, job.attempt, extra=log_fields(job))
            self._fail(job, internal_error(error))
            return {}

    def _fail(self, job: ClaimedJob, reason: str) -> None:
        """End a job about which something can't be written."""
        token = attempt_token(job.id, job.attempt)
        self._trainer.stop_job(token)
        self._running.pop(token, None)
        log_tail = self._trainer.log_tail(token)
        execution.record(self._store, [AttemptEnding(job, Outcome.FAILED, None, reason, log_tail)])

    def _drop(self, running: RunningJob) -> None:
        """Stop training a job whose lease was lost, because another worker may train it now."""
        job = running.job
        log.warning("job %s attempt %d: lease lost; nothing recorded", job.id, job.attempt, extra=log_fields(job))
        self._trainer.stop_job(running.token)
        self._running.pop(running.token, None)

    def _stop(self, ids: Collection[str], outcome: Outcome) -> None:
        for job in self._running.values():
            if job.job.id in ids and job.stop_outcome is None:
                job.stop_outcome, job.stop_deadline = outcome, time.monotonic() + STOP_SECONDS
                self._trainer.stop_job(job.token)

    def _wait_for_database(self, error: StoreError) -> None:
        """Wait a moment for a database that can't be reached; stop training before the leases can have expired."""
        if self._running and time.monotonic() - self._last_beat > OUTAGE_SECONDS:
            log.warning("the database was unreachable for too long: running jobs dropped before their leases expire")
            self._trainer.kill()
            self._running.clear()
        log.warning("%s; retrying", error)
        self._worker.pulse.tick()
        time.sleep(RETRY_SECONDS)

    def _record(self, endings: Sequence[AttemptEnding]) -> None:
        """Record endings. Retry until the database responds: the fence then decides whether it is too late."""
        if not endings:
            return
        while True:
            try:
                statuses = self._write(execution.record, endings)
                break
            except StoreError as error:
                self._wait_for_database(error)
        for ending in endings:
            job = ending.job
            status = f"now {statuses[job.id]}" if job.id in statuses else "lease lost; nothing recorded"
            reason = ending.error or ending.outcome
            log.info("job %s attempt %d: %s; %s", job.id, job.attempt, reason, status, extra=log_fields(job))
        self.failed += sum(ending.outcome is Outcome.FAILED for ending in endings)
        for running in self._jobs:
            if running.job.id in statuses and statuses[running.job.id].is_finished:
                running.remove_checkpoints()


def internal_error(error: Exception) -> str:
    """The reason to record where the worker itself is at fault."""
    return bounded(f"internal error of the worker: {type(error).__name__}: {error}")
