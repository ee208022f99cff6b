"""The kill storm: real training on PostgreSQL and Redis while processes and services die at random, from a seed.

    python tests/chaos/storm.py [--jobs N] [--kills N] [--restarts N] [--seed N] [--lease SECONDS]

Every few seconds a worker, a training process or a submitter is killed with SIGKILL, or stopped with SIGSTOP and
continued later. Every 5 to 20 seconds Redis is killed and restarts empty, or PostgreSQL is stopped in immediate mode.
One thread restarts dead workers, as docker-compose would, and one submits, repeating each submission until it is
acknowledged. Afterwards every acknowledged job must have succeeded once, with the weights of an undisturbed run.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
from sqlalchemy import ColumnElement, func, select

from mlpq.errors import StoreError
from mlpq.store import migrate
from mlpq.store.schema import attempts, epochs, job_results, jobs
from mlpq.store.session import Store
from tests.support.installations import SERVICES, Site
from tests.support.services import Postgres, Redis
from tests.support.storm_report import Report

SEEDS = 8  # per submission
AHEAD = 8  # unfinished jobs at which submitting pauses, or a tenth of all
KILL_SECONDS = (0.5, 4.0)  # between two kills
RESTART_SECONDS = (5.0, 20.0)
AWAY_SECONDS = (0.0, 3.0)  # how long a restarting service is down
SHAPES = (  # options, and the maximum of epochs; the fourth is large
    (("--optimizer", "sgd", "--optimizer", "adam", "--lr", "0.01", "--hidden", "256"), 300),
    (("--optimizer", "nadam", "--dropout", "0.2", "--validation", "0.1", "--patience", "20", "--hidden", "256"), 300),
    (("--optimizer", "sgd:lr=0.1,momentum=0.9", "--hidden", "200,100", "--activation", "tanh"), 300),
    (("--optimizer", "adam", "--hidden", "1000,500", "--batch-size", "512"), 30),
    (("--preset", "textbook"), 300),
)
CALM_SECONDS = 600


@dataclass
class Storm:
    """The parameters of a storm, and counts of what it has done."""

    jobs: int
    kills: int
    restarts: int
    seed: int
    lease: float
    checkpoint_seconds: int = 1
    workers: int = 3
    done: Counter[str] = field(default_factory=Counter)
    killed_at: list[tuple[int, float]] = field(default_factory=list)  # the worker's process id, and the time

    def run(self) -> Report:
        """Run the storm, wait until every job is finished, and check the results."""
        with tempfile.TemporaryDirectory(prefix="mlpq-storm-") as folder, self._site(Path(folder)) as site:
            self._here, began = site, time.monotonic()
            self._random = random.Random(self.seed)
            self._stop = threading.Event()
            self._workers: dict[int, subprocess.Popen[bytes]] = {}
            self._calm = threading.Event()
            self._submitter: subprocess.Popen[str] | None = None
            self._acknowledged: set[str] = set()
            supervising = threading.Thread(target=self._supervise)
            submitting = threading.Thread(target=self._submit_all)
            supervising.start()
            submitting.start()
            try:
                self._strike()
                self._calm.set()
                self._wake_all()
                submitting.join()
                self._await_all()
            finally:
                self._calm.set()
                self._stop.set()
                supervising.join()
                self._end_workers()
            return self._report(time.monotonic() - began)

    @contextlib.contextmanager
    def _site(self, folder: Path) -> Iterator[Site]:
        self._postgres, self._redis = Postgres(), Redis()
        try:
            self._postgres.start()
            self._redis.start()
            store = Store(self._postgres.url(self._postgres.create()))
            migrate.upgrade(store)
            env = {
                "MLPQ_HOME": str(folder / "home"),
                "MLPQ_DATABASE_URL": store.url,
                "MLPQ_BROKER_URL": f"redis://127.0.0.1:{self._redis.port}/0",
                "MLPQ_CHECKPOINT_SECONDS": str(self.checkpoint_seconds),
            }
            yield Site(SERVICES, folder, store, env)
            store.close()
        finally:
            self._redis.stop()
            self._postgres.stop()

    # --- threads

    def _supervise(self) -> None:
        """Start workers, and restart dead ones."""
        while not self._stop.wait(0.2):
            for number in range(self.workers):
                worker = self._workers.get(number)
                if worker is None or worker.poll() is not None:
                    self._workers[number] = self._start_worker()

    def _start_worker(self) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "tests.support.mlpq_at_risk", "worker", "--gang", "16"]
        with (self._here.folder / "workers.log").open("ab") as log:
            env = self._here.environ({"MLPQ_RISK_LEASE": str(self.lease)})
            return subprocess.Popen(command, stdout=log, stderr=log, cwd=self._here.folder, env=env)

    def _submit_all(self) -> None:
        """Submit during the storm, and repeat what was not acknowledged."""
        number = 0
        while not self._calm.wait(0.2):
            if self._waiting() >= max(AHEAD, self.jobs // 10):
                continue
            while (rows := self._submit(self._here, number)) is None and not self._stop.is_set():
                pass  # also after the storm: the submission may have been committed
            self._acknowledged.update(row["id"] for row in rows or ())
            number += 1

    def _waiting(self) -> int:
        """Number of unfinished jobs."""
        return self._count(jobs.c.finished_at.is_(None), sys.maxsize)

    def _busy(self) -> set[int]:
        """The processes of the workers that run jobs: killing others has no effect."""
        try:
            with self._here.store.read() as connection:
                names = (
                    connection.execute(select(attempts.c.worker).where(attempts.c.outcome.is_(None))).scalars().all()
                )
        except StoreError:
            return set()
        return {_process_of(name) for name in names}

    def _count(self, which: ColumnElement[bool], unknown: int) -> int:
        try:
            with self._here.store.read() as connection:
                return connection.execute(select(func.count()).select_from(jobs).where(which)).scalar_one()
        except StoreError:
            return unknown

    def _submit(self, site: Site, number: int) -> list[dict[str, Any]] | None:
        shape, most = SHAPES[number % len(SHAPES)]
        epochs = random.Random(f"{self.seed} {number}").randint(most // 10, most)
        command = [
            sys.executable, "-m", "mlpq.cli", "submit", *shape, "--dataset", "digits", "--attempts", "1000",
            "--experiment", f"batch-{number}", "--epochs", str(epochs),
            "--seeds", f"{number * SEEDS}..{number * SEEDS + SEEDS - 1}", "--format", "json",
        ]  # fmt: skip
        self._submitter = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=site.environ()
        )
        out, _ = self._submitter.communicate()
        return json.loads(out) if self._submitter.returncode == 0 else None

    # --- the storm

    def _strike(self) -> None:
        """Kill and restart until the requested numbers are reached, including jobs."""
        kills = {
            self._kill_worker: 3, self._kill_trainer: 3, self._stop_worker: 1, self._stop_trainer: 1,
            self._kill_submitter: 1,
        }  # fmt: skip
        services = {self._restart_redis: 1, self._crash_postgres: 1}
        now = time.monotonic()
        next_kill, next_restart = now, now + self._random.uniform(*RESTART_SECONDS)
        while True:
            kill, restart = self._total_kills() < self.kills, self._restarts() < self.restarts
            if not kill and not restart and len(self._acknowledged) >= self.jobs:
                return
            time.sleep(0.1)
            if kill and time.monotonic() >= next_kill and self._busy():
                self._do_one_of(kills)
                next_kill = time.monotonic() + self._random.uniform(*KILL_SECONDS)
            if restart and time.monotonic() >= next_restart:
                self._do_one_of(services)
                next_restart = time.monotonic() + self._random.uniform(*RESTART_SECONDS)

    def _do_one_of(self, actions: dict[Callable[[], bool], int]) -> None:
        (action,) = self._random.choices(list(actions), list(actions.values()))
        if action():
            self.done[action.__name__.strip("_").replace("_", " ")] += 1

    def _total_kills(self) -> int:
        return sum(count for what, count in self.done.items() if what.startswith(("kill", "stop")))

    def _restarts(self) -> int:
        return self.done["restart redis"] + self.done["crash postgres"]

    def _kill_worker(self) -> bool:
        return self._signal_worker(signal.SIGKILL)

    def _stop_worker(self) -> bool:
        """Another worker takes over its jobs; then this one continues and tries to write."""
        return self._signal_worker(signal.SIGSTOP)

    def _signal_worker(self, number: signal.Signals) -> bool:
        busy = self._busy().intersection(worker.pid for worker in self._workers.values() if worker.poll() is None)
        if not busy:
            return False
        worker = self._random.choice(sorted(busy))
        return self._signal(worker, worker, number)

    def _kill_trainer(self) -> bool:
        return self._signal_trainer(signal.SIGKILL)

    def _stop_trainer(self) -> bool:
        return self._signal_trainer(signal.SIGSTOP)

    def _signal_trainer(self, number: signal.Signals) -> bool:
        busy = self._busy()
        found = sorted((each.pid, each.parent) for each in self._here.training_processes() if each.parent in busy)
        return bool(found) and self._signal(*self._random.choice(found), number)

    def _signal(self, pid: int, worker: int, number: signal.Signals) -> bool:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
            self.killed_at.append((worker, time.time()))
            if number is signal.SIGSTOP:
                waking = threading.Timer(self._random.uniform(0.5, 2.0) * self.lease, self._wake, (pid,))
                waking.daemon = True
                waking.start()
            return True
        return False

    def _wake(self, pid: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)

    def _kill_submitter(self) -> bool:
        submitter = self._submitter
        if submitter is None or submitter.poll() is not None:
            return False
        submitter.kill()
        return True

    def _restart_redis(self) -> bool:
        self._redis.crash()
        time.sleep(self._random.uniform(*AWAY_SECONDS))
        self._redis.start()
        return True

    def _crash_postgres(self) -> bool:
        self._postgres.crash()
        time.sleep(self._random.uniform(*AWAY_SECONDS))
        self._postgres.start_again()
        return True

    # --- afterwards

    def _wake_all(self) -> None:
        for pid in [
            *(worker.pid for worker in self._workers.values()),
            *(c.pid for c in self._here.training_processes()),
        ]:
            self._wake(pid)

    def _await_all(self) -> None:
        until = time.monotonic() + CALM_SECONDS
        while self._waiting() and time.monotonic() < until:
            time.sleep(0.5)

    def _end_workers(self) -> None:
        for worker in self._workers.values():
            worker.terminate()
        for worker in self._workers.values():
            with contextlib.suppress(subprocess.TimeoutExpired):
                worker.wait(45)
            worker.kill()

    def _report(self, seconds: float) -> Report:
        with self._here.store.read() as connection:
            rows = {row.id: row for row in connection.execute(select(jobs))}
            tried = connection.execute(select(attempts).order_by(attempts.c.attempt)).all()
            found = {row.job_id: row for row in connection.execute(select(job_results))}
            lengths: dict[str, int] = dict(
                connection.execute(
                    select(epochs.c.job_id, func.count())
                    .join(
                        job_results,
                        (job_results.c.job_id == epochs.c.job_id) & (job_results.c.attempt == epochs.c.attempt),
                    )
                    .group_by(epochs.c.job_id)
                ).all()
            )
        successes = Counter(row.job_id for row in tried if row.outcome == "succeeded")
        log = (self._here.folder / "workers.log").read_text(errors="replace")
        return Report(
            seed=self.seed,
            lease=self.lease,
            done=self.done,
            seconds=seconds,
            jobs=len(self._acknowledged),
            lost=sorted(job for job in self._acknowledged if job not in rows or rows[job].status != "succeeded"),
            unacknowledged=sorted(rows.keys() - self._acknowledged),
            twice=sorted(job for job, count in successes.items() if count > 1),
            broken_curves=sorted(job for job, row in found.items() if lengths.get(job) != row.epochs_run),
            wrong=self._wrong_hashes(found, rows),
            outcomes=Counter(row.outcome or "open" for row in tried),
            resumed=log.count("resuming from the checkpoint"),
            fenced=log.count("lease lost; nothing recorded"),
            recovery=self._recovery(tried),
        )

    def _wrong_hashes(self, found: dict[str, Any], rows: dict[str, Any]) -> list[str]:
        """The jobs whose weights differ from those of an undisturbed run, by one worker on SQLite."""
        folder = self._here.folder / "undisturbed"
        folder.mkdir()
        store = Store(f"sqlite:///{folder / 'mlpq.db'}")
        migrate.upgrade(store)
        undisturbed = Site("embedded", folder, store, {"MLPQ_HOME": str(folder)})
        for number in range(self._batches(rows)):
            assert self._submit(undisturbed, number) is not None
        with contextlib.redirect_stdout(None), undisturbed.worker():  # its log is long
            undisturbed.mlpq("watch", timeout=1200)
        with store.read() as connection:
            query = select(jobs.c.spec_hash, job_results.c.weights_sha256).join(job_results)
            right = dict(connection.execute(query).all())
        store.close()
        return sorted(job for job, row in found.items() if right[rows[job].spec_hash] != row.weights_sha256)

    def _batches(self, rows: dict[str, Any]) -> int:
        return len({row.experiment_id for row in rows.values()})

    def _recovery(self, tried: Sequence[Any]) -> list[float]:
        """Seconds from each kill of a worker or its training process to the next attempt of each of its jobs."""
        following = {(row.job_id, row.attempt): row for row in tried}
        times = []
        for row in tried:
            later = following.get((row.job_id, row.attempt + 1))
            if row.outcome not in ("lost", "failed") or later is None:
                continue
            pid, began, ended = _process_of(row.worker), row.started_at.timestamp(), later.started_at.timestamp()
            moments = [moment for killed, moment in self.killed_at if killed == pid and began <= moment <= ended]
            if moments:
                times.append(ended - moments[0])
        return times


def _process_of(worker: str) -> int:
    return int(worker.split(":")[1])


@click.command()
@click.option("--jobs", default=1000)
@click.option("--kills", default=300)
@click.option("--restarts", default=50)
@click.option("--seed", default=1)
@click.option("--lease", default=60.0)
def main(jobs: int, kills: int, restarts: int, seed: int, lease: float) -> None:
    """Run a storm and print a report; exit 1 where a job was lost, recorded twice or has wrong weights."""
    report = Storm(jobs, kills, restarts, seed, lease).run()
    print(report.table())
    for name, found in report.flaws.items():
        print(f"{name}: {' '.join(found)}", file=sys.stderr)
    sys.exit(bool(report.flaws))


if __name__ == "__main__":
    main()
