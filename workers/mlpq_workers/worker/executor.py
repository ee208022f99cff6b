"""The worker's main work: claim a gang, run it, repeat. One thread does it; Celery's task only wakes that thread.

The thread also polls the database, so a lost message costs seconds and no job. It also requeues jobs whose leases
have expired.
"""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import socket
import threading
import time
from collections.abc import Sequence
from dataclasses import replace

from mlpq import data_registry, plugins
from mlpq.errors import DataError, MlpqError, StoreError
from mlpq.jobs import BEAT_SECONDS, LEASE_SECONDS, STACKING_DEVICES, Outcome
from mlpq.own_data.files import stored
from mlpq.records import AttemptEnding, ClaimedJob
from mlpq.settings import Settings
from mlpq.store import claiming, execution, worker_queries
from mlpq.store.session import Store
from mlpq.worker_records import TrainingSetup, WorkerCapabilities
from mlpq_workers.worker.gang_run import LEAVE_SECONDS, GangRun, WorkerContext, internal_error, log_fields
from mlpq_workers.worker.trainer_client import Trainer
from mlpq_workers.worker.watchdog import Pulse

POLL_SECONDS = 3.0  # between two claims of an idle worker without a wake-up
REQUEUE_SECONDS = LEASE_SECONDS / 4  # between two looks for expired leases
PLUGINS_SECONDS = 10.0  # between two looks for installed plug-ins, which take milliseconds
BACK_OFF_SECONDS = 5.0  # after all jobs of a gang failed here, for other workers to claim first

log = logging.getLogger("mlpq.worker")


class Executor:
    """Runs gangs of at most `gang` jobs in its own thread, until `stop`. The trainer must be ready."""

    def __init__(self, config: Settings, store: Store, trainer: Trainer, gang: int) -> None:
        self.name = f"{socket.gethostname() or 'localhost'}:{os.getpid()}:{secrets.token_hex(2)}"[-100:]
        self._config, self._store, self._trainer, self._gang = config, store, trainer, gang
        self._capabilities = WorkerCapabilities(
            trainer.device, trainer.device_name, trainer.most_ranks, trainer.world_size, trainer.has_kernel,
            trainer.has_torch,
        )  # fmt: skip
        self._awake = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="executor", daemon=True)
        self._due: dict[str, float] = {}
        self.pulse = Pulse("the executor")

    def start(self) -> None:
        self._thread.start()

    def wake(self) -> None:
        """Look for jobs now."""
        self._awake.set()

    def stop(self, timeout: float = LEAVE_SECONDS + 5) -> None:
        """Release the running jobs and end the thread, within `timeout` seconds, and the training process."""
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
            except MlpqError as error:  # the database is unreachable, or the training process does not start
                log.warning("%s; retrying", error)
                self._stopping.wait(POLL_SECONDS)
            except Exception:
                log.exception("internal error; continuing")
                self._stopping.wait(POLL_SECONDS)
        try:
            execution.remove_worker(self._store, self.name)
        except StoreError as error:
            log.warning("%s", error)

    def _work_once(self) -> bool:
        """Claim a gang and run it; False where there is none."""
        self._maintain()
        setup = claiming.next_setup(self._store, self.name, self._with_data())
        if setup is not None and setup.plugin is not None and setup.plugin not in plugins.packages():
            self._due.pop("plug-ins", None)  # it was removed or upgraded just now
            return True
        if setup is not None and setup.data is not None:
            try:
                self._pull(setup.data)
            except DataError as error:
                return self._fail_gang(setup, str(error))
        try:
            # Before the claim: nothing would renew the leases while the training process starts.
            self._ensure_ready(setup)
        except MlpqError as error:
            if setup is None or replace(setup, is_large=False) == self._capabilities.usual_setup:
                raise  # nothing can run here
            return self._fail_gang(setup, str(error))
        gang = self._claim(replace(self._trainer.setup, is_large=setup is not None and setup.is_large))
        if not gang:
            return False
        for job in gang:
            log.info("job %s attempt %d: started, gang of %d", job.id, job.attempt, len(gang), extra=log_fields(job))
        self._execute(gang)
        return True

    def _ensure_ready(self, setup: TrainingSetup | None) -> None:
        self.pulse.paused = True  # importing torch from a cold disk takes long
        try:
            self._trainer.ensure_ready(setup, self._try_heartbeat)
        finally:
            self.pulse.paused = False

    def _pull(self, sha256: str) -> None:
        """Get an own data set that was pushed, unless it is here; raises DataError."""
        self.pulse.paused = True  # a slow network
        try:
            if data_registry.pull(self._store, sha256, self._config.data_dir, self._try_heartbeat):
                log.info("data: pulled %s", sha256)
        finally:
            self.pulse.paused = False

    def _with_data(self, *more: str) -> WorkerCapabilities:
        """What this worker can run with the plug-ins and own data sets that are here now, and `more` data sets."""
        if self._is_due("plug-ins", PLUGINS_SECONDS):
            self._capabilities = replace(self._capabilities, plugins=plugins.packages())
        return replace(self._capabilities, data=stored(self._config.data_dir).union(more))

    def _try_heartbeat(self) -> None:
        with contextlib.suppress(StoreError):
            self._heartbeat()

    def _fail_gang(self, setup: TrainingSetup, reason: str) -> bool:
        """Fail jobs whose training process can't start as they request: they must not block others."""
        gang = self._claim(setup)
        execution.record(self._store, [AttemptEnding(job, Outcome.FAILED, None, reason, "") for job in gang])
        return bool(gang)

    def _claim(self, setup: TrainingSetup) -> list[ClaimedJob]:
        capabilities = self._with_data(*filter(None, [setup.data]))
        limit = worker_queries.fair_share(self._store, capabilities.device, self._gang, capabilities.most_ranks)
        if capabilities.device not in STACKING_DEVICES:
            limit = 1
        if setup.is_large:  # one for each thread: they take long, and other workers may come
            limit = min(limit, self._config.threads)
        facts = {**self._trainer.facts, "world_size": setup.world_size}
        if facts.get("plugin") != setup.plugin:  # the process of the setup did not start
            facts = {name: value for name, value in facts.items() if name not in ("plugin", "plugin_sha256")}
        return claiming.claim(self._store, self.name, capabilities, facts, limit, setup)

    def _execute(self, gang: Sequence[ClaimedJob]) -> None:
        context = WorkerContext(self._stopping, self._maintain, self.pulse)
        run = GangRun(self._store, self._trainer, gang, self._config.artifacts_dir, context)
        try:
            run.run()
        except Exception as error:  # a fault of the worker: nothing supervises the training any more
            self._trainer.kill()
            log.exception("internal error")
            run.give_up(internal_error(error))
        if run.failed == len(gang) and self._has_peers():
            self._stopping.wait(BACK_OFF_SECONDS)

    def _has_peers(self) -> bool:
        """Whether another live worker can run what this one can."""
        device, world_size = self._capabilities.device, self._trainer.world_size
        workers = worker_queries.live_workers(self._store)
        return any(each.can_run(device, world_size) and each.name != self.name for each in workers)

    def _maintain(self) -> None:
        """Send the worker's heartbeat and requeue jobs with expired leases, as often as each is due."""
        self._heartbeat()
        if self._is_due("requeue", REQUEUE_SECONDS):
            for job in execution.requeue_expired(self._store):
                log.warning("job %s: lease expired; requeued", job, extra={"job": job})

    def _heartbeat(self) -> None:
        if self._is_due("heartbeat", BEAT_SECONDS):
            execution.worker_heartbeat(self._store, self.name, self._with_data())

    def _is_due(self, what: str, seconds: float) -> bool:
        if time.monotonic() < self._due.get(what, 0.0):
            return False
        self._due[what] = time.monotonic() + seconds
        return True
