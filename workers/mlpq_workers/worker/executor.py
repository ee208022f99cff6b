"""The worker's work: claim -> train -> record. One thread does it, one gang at a time; Celery's task only wakes it.

The thread also polls the database, so a lost message costs a moment and no job; it renews its leases, and takes back
the jobs of workers that fell silent.
"""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import TypeVar

from celery import Celery

from mlpq.errors import MlpqError, StoreError
from mlpq.jobs import BEAT_SECONDS, LEASE_SECONDS, Outcome
from mlpq.queue import WAKE
from mlpq.settings import Settings
from mlpq.store import execution, queries
from mlpq.store.execution import Able, Ending, Held, Progress
from mlpq.store.session import Store
from mlpq_workers.worker.running_job import Running, about, token_of
from mlpq_workers.worker.trainer_client import Event, Trainer
from mlpq_workers.worker.watchdog import Pulse

POLL_SECONDS = 3.0  # an idle worker looks into the database this often
REAP_SECONDS = LEASE_SECONDS / 4  # and looks for expired leases
CANCEL_SECONDS = 2.0  # a running job looks whether it was cancelled
FLUSH_SECONDS = 0.5  # epochs are recorded at most this often
GRACE_SECONDS = 10.0  # for the training process to stop between two batches
LEAVE_SECONDS = 20.0  # and to finish the epochs it is in and write checkpoints, before the worker leaves
CHILD_SILENCE_SECONDS = LEASE_SECONDS / 2  # the training process says that it is alive much more often
MODEST_SECONDS = 5.0  # a worker on which a whole gang failed lets the others go first
SILENCE_SECONDS = LEASE_SECONDS * 3 / 4  # without a successful beat for so long, the job may soon be another's

STACKING = ("cpu", "cuda")  # the kinds of device that train gangs

T = TypeVar("T", Progress, Ending)
U = TypeVar("U")

log = logging.getLogger("mlpq.worker")


class Executor:
    """Runs gangs of at most `gang` jobs in a thread of its own until `stop`; the training process is ready."""

    def __init__(self, config: Settings, store: Store, trainer: Trainer, gang: int) -> None:
        self.name = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(2)}"[-100:]
        self._config, self._store, self._trainer, self._gang = config, store, trainer, gang
        self._able = Able(trainer.device, trainer.model, trainer.most_ranks, trainer.world_size)
        self._awake = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="executor", daemon=True)
        self._due: dict[str, float] = {}
        self.pulse = Pulse("the executor")

    def start(self) -> None:
        self._thread.start()

    def wake(self) -> None:
        """There may be a job."""
        self._awake.set()

    def stop(self, timeout: float = LEAVE_SECONDS + 5) -> None:
        """Give the running jobs back and end."""
        self._stopping.set()
        self._awake.set()
        if self._thread.is_alive():
            self._thread.join(timeout)
        self._trainer.kill()

    def _run(self) -> None:
        while not self._stopping.is_set():
            self.pulse.tick()
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
            execution.worker_gone(self._store, self.name)
        except StoreError as error:
            log.warning("%s", error)

    def _work_once(self) -> bool:
        """Claim and run a gang; False where there is nothing to do."""
        self._keep_house()
        wanted = execution.wanted_world_size(self._store, self.name, self._able)
        try:
            # Before the claim: while the child starts nothing would renew the leases.
            self._ensure_ready(wanted)
        except MlpqError as error:
            if wanted in (None, self._able.world_size):
                raise  # nothing can run here
            return self._give_up(wanted, str(error))
        gang = self._claim(self._trainer.world_size)
        if not gang:
            return False
        for held in gang:
            log.info("job %s attempt %d: started, gang of %d", held.id, held.attempt, len(gang), extra=about(held))
        self._execute(gang)
        return True

    def _ensure_ready(self, world_size: int | None) -> None:
        self.pulse.rests = True  # importing torch from a cold disk takes its time
        try:
            self._trainer.ensure_ready(world_size, self._say_alive)
        finally:
            self.pulse.rests = False

    def _say_alive(self) -> None:
        with contextlib.suppress(StoreError):
            self._beat()

    def _give_up(self, world_size: int, reason: str) -> bool:
        """Fail the jobs for whose world size no training process starts here: others must not wait behind them."""
        gang = self._claim(world_size)
        execution.record(self._store, [Ending(held, Outcome.FAILED, None, reason, "") for held in gang])
        return bool(gang)

    def _claim(self, world_size: int) -> list[Held]:
        able = self._able
        most = queries.fair_share(self._store, able.device, self._gang, able.most_ranks)
        facts = {**self._trainer.facts, "world_size": world_size}
        return execution.claim(self._store, self.name, able, facts, most if able.device in STACKING else 1, world_size)

    def _execute(self, gang: Sequence[Held]) -> None:
        folder = self._config.artifacts_dir
        run = Run(self._store, self._trainer, gang, folder, self._stopping, self._keep_house, self.pulse)
        try:
            run.run()
        except Exception as error:  # a fault of the worker: the jobs must not train on unattended
            self._trainer.kill()
            log.exception("an error of the worker itself")
            run.give_up(f"an error of the worker itself: {type(error).__name__}: {error}")
        if run.failed == len(gang) and self._has_peers():
            self._stopping.wait(MODEST_SECONDS)

    def _has_peers(self) -> bool:
        """Whether there are others who can do what this worker can."""
        alive = queries.live_workers(self._store)
        able = [queries.can_run(one, self._able.device, self._trainer.world_size) for one in alive]
        return any(fits and one["name"] != self.name for fits, one in zip(able, alive, strict=True))

    def _keep_house(self) -> None:
        self._beat()
        if self._is_due("reap", REAP_SECONDS):
            for job in execution.reap(self._store):
                log.warning("job %s: its worker fell silent, taken back", job, extra={"job": job})

    def _beat(self) -> None:
        if self._is_due("beat", BEAT_SECONDS):
            execution.worker_beat(self._store, self.name, self._able)

    def _is_due(self, what: str, seconds: float) -> bool:
        if time.monotonic() < self._due.get(what, 0.0):
            return False
        self._due[what] = time.monotonic() + seconds
        return True


class Run:
    """One execution of a gang, from the hand-over to the last record. Each job ends for itself."""

    def __init__(
        self,
        store: Store,
        trainer: Trainer,
        gang: Sequence[Held],
        artifacts_dir: Path,
        stopping: threading.Event,
        keep_house: Callable[[], None],
        pulse: Pulse,
    ) -> None:
        self._store, self._trainer, self._stopping = store, trainer, stopping
        self._keep_house, self._pulse = keep_house, pulse
        self._jobs = [Running(held, artifacts_dir) for held in gang]
        self._running = {job.token: job for job in self._jobs}
        self._last_beat = self._last_look = self._last_log = self._last_round = time.monotonic()
        self._heard_words, self._silence = trainer.words, 0.0
        self.failed = 0

    def run(self) -> None:
        """Train and record, until every job has ended or may be another worker's."""
        self._trainer.train([job.message() for job in self._running.values()])
        while self._running:
            self._pulse.tick()
            self._record([ending for event in self._trainer.events(timeout=0.2) for ending in self._heard(event)])
            if self._running:
                self._tick()

    def give_up(self, reason: str) -> None:
        """Record that what still runs has failed."""
        died = {"event": "died", "error": reason, "alone": True}
        execution.record(self._store, self._heard(died))

    def _heard(self, event: Event) -> list[Ending]:
        """The endings that an event brings; a dead training process ends all jobs."""
        if event["event"] == "died":
            ended = list(self._running.values())
        elif event["token"] not in self._running:
            return []  # a late word about a job that was given up
        elif event["event"] == "epoch":
            self._running[event["token"]].curve.append(event["epoch"])
            return []
        else:
            ended = [self._running[event["token"]]]
        for job in ended:
            del self._running[job.token]
        return [job.ending(event, self._trainer.log_tail(job.token)) for job in ended]

    def _tick(self) -> None:
        """What is due between two events: record epochs, renew the leases, look for wishes to stop."""
        elapsed = time.monotonic()
        if self._stopping.is_set():  # first, since the database may take its time
            self._release()
        try:
            has_news = any(job.curve for job in self._running.values())
            if elapsed - self._last_beat >= (FLUSH_SECONDS if has_news else BEAT_SECONDS):
                self._beat()
            if elapsed - self._last_look >= CANCEL_SECONDS:
                self._last_look = elapsed
                cancelled = queries.cancel_requested(self._store, [job.held.id for job in self._running.values()])
                self._ask(cancelled, Outcome.CANCELLED)
            self._keep_house()
        except StoreError as error:
            self._endure(error)
        # A process that does not listen may be loading data; it is ended only where that ends no other's job.
        if all(job.asked and elapsed >= job.until for job in self._running.values()) or self._is_silent(elapsed):
            self._trainer.kill()

    def _release(self) -> None:
        """Give the jobs back, after the epochs they are in."""
        unasked = [job for job in self._running.values() if job.asked is None]
        for job in unasked:
            job.asked, job.until = Outcome.RELEASED, time.monotonic() + LEAVE_SECONDS
        if unasked:
            self._trainer.leave()

    def _is_silent(self, elapsed: float) -> bool:
        """Whether the training process hangs. Rounds are counted, as long as they should be: a worker that was itself
        stopped for a while has not listened."""
        self._silence += min(elapsed - self._last_round, 1.0)
        self._last_round = elapsed
        if self._trainer.words != self._heard_words:
            self._heard_words, self._silence = self._trainer.words, 0.0
        return self._silence >= CHILD_SILENCE_SECONDS

    def _beat(self) -> None:
        # Logs are long, so they go less often than epochs do.
        with_logs = time.monotonic() - self._last_log >= BEAT_SECONDS
        told = [
            Progress(job.held, tuple(job.curve), self._trainer.log_tail(job.token) if with_logs else None)
            for job in self._running.values()
        ]
        began = time.monotonic()  # a lease is renewed as of then, however long the database takes
        held = self._write(execution.beat, told)
        self._last_beat = began
        self._last_log = began if with_logs else self._last_log
        for job in list(self._running.values()):
            job.curve.clear()
            if job.held.id not in held:
                self._lose(job)
        self._ask([job for job, cancel_requested in held.items() if cancel_requested], Outcome.CANCELLED)

    def _write(self, write: Callable[[Store, Sequence[T]], dict[str, U]], told: Sequence[T]) -> dict[str, U]:
        """What `write` answers, for all at once or else one by one: what can't be written fails its own job only."""
        try:
            return write(self._store, told)
        except StoreError:
            raise
        except Exception as error:
            if len(told) > 1:
                return {job: answer for one in told for job, answer in self._write(write, [one]).items()}
            held = told[0].held
            log.exception("job %s attempt %d: an error of the worker itself", held.id, held.attempt, extra=about(held))
            self._fail(held, f"an error of the worker itself: {type(error).__name__}: {error}")
            return {}

    def _fail(self, held: Held, reason: str) -> None:
        """End a job of which something can't be written."""
        token = token_of(held)
        self._trainer.stop_job(token)
        self._running.pop(token, None)
        log_tail = self._trainer.log_tail(token)
        execution.record(self._store, [Ending(held, Outcome.FAILED, None, reason, log_tail)])

    def _lose(self, job: Running) -> None:
        """Another worker may have this job now: it must not train on."""
        held = job.held
        log.warning(
            "job %s attempt %d: the lease was lost, nothing is recorded", held.id, held.attempt, extra=about(held)
        )
        self._trainer.stop_job(job.token)
        self._running.pop(job.token, None)

    def _ask(self, ids: Collection[str], outcome: Outcome) -> None:
        for job in self._running.values():
            if job.held.id in ids and job.asked is None:
                job.asked, job.until = outcome, time.monotonic() + GRACE_SECONDS
                self._trainer.stop_job(job.token)

    def _endure(self, error: StoreError) -> None:
        """Wait for a database that is away; what trains is dropped before its leases can have run out."""
        if self._running and time.monotonic() - self._last_beat > SILENCE_SECONDS:
            log.warning("the database was away for too long: other workers may have the jobs that still train")
            self._trainer.kill()
            self._running.clear()
        log.warning("%s; waiting", error)
        self._pulse.tick()
        time.sleep(1.0)

    def _record(self, endings: Sequence[Ending]) -> None:
        """Record what ended. It is tried until the database answers: then the fence says whether it comes too late."""
        if not endings:
            return
        while True:
            try:
                statuses = self._write(execution.record, endings)
                break
            except StoreError as error:
                self._endure(error)
        for ending in endings:
            held = ending.held
            status = statuses.get(held.id, "the lease was lost, nothing is recorded")
            end = ending.error or ending.outcome
            log.info("job %s attempt %d: %s; now %s", held.id, held.attempt, end, status, extra=about(held))
        self.failed += sum(ending.outcome is Outcome.FAILED for ending in endings)
        for job in self._jobs:
            if job.held.id in statuses and statuses[job.held.id].is_finished:
                job.forget_checkpoints()


def register(app: Celery, executor: Executor) -> None:
    """Make the wake-up message reach this executor."""

    @app.task(name=WAKE)
    def wake(_queue: str) -> None:
        executor.wake()
