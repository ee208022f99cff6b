"""How long a worker waits for what. Time is simulated: it passes only while the worker waits."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mlpq import plugins
from mlpq.errors import MlpqError, StoreError
from mlpq.jobs import Status
from mlpq.settings import read_settings
from mlpq.store import claiming, execution, queries, submission, worker_queries
from mlpq.store.session import Store
from mlpq.worker_records import TrainingSetup, WorkerCapabilities
from mlpq_workers.protocol import Died, EpochDone, Event, JobStopped, JobSucceeded, Ready, TrainJob
from mlpq_workers.worker import executor, gang_run, trainer_client, watchdog
from mlpq_workers.worker.executor import Executor
from mlpq_workers.worker.gang_run import GangRun, WorkerContext
from mlpq_workers.worker.trainer_client import Trainer
from mlpq_workers.worker.watchdog import Pulse, Watchdog
from tests.support.job_steps import IMAGES, RESULT, claim, epoch, specs, status, submit
from tests.support.simulated_time import Clock

on_sqlite = pytest.mark.parametrize("store", ["sqlite"], indirect=True)

STEP = 0.5  # seconds within which a worker does what is due


class Flag:
    """Stands for an event that is set at `until`; `wait` lets its whole time-out pass."""

    def __init__(self, clock: Clock, until: float = float("inf")) -> None:
        self._clock, self._until = clock, until

    def is_set(self) -> bool:
        return self._clock.seconds >= self._until

    def wait(self, seconds: float) -> None:
        self._clock.seconds += seconds

    def clear(self) -> None:
        pass


class Idle(Trainer):
    """A training process that trains nothing. It sends signs of life until `silent_from`, and does what is planned."""

    def __init__(self, clock: Clock, folder: Path) -> None:
        super().__init__(read_settings({"MLPQ_HOME": str(folder)}), "cpu")
        self._ready = Ready("cpu", "", 1, {"world_size": 1})
        self.clock, self.began = clock, clock.seconds
        self.silent_from = float("inf")
        self.plan: dict[float, Callable[[], object]] = {}
        self.calls: list[tuple[str, float]] = []
        self.sent: list[Event] = []
        self.numbers = itertools.count(1)
        self.trains_epochs = False

    def now(self) -> float:
        return self.clock.seconds - self.began

    def called(self, name: str) -> None:
        self.calls.append((name, round(self.now(), 3)))

    def train(self, jobs: Any) -> None:
        self.jobs: list[TrainJob] = list(jobs)

    def events(self, timeout: float) -> list[Event]:
        self.clock.seconds += timeout
        for due in [seconds for seconds in self.plan if seconds <= self.now()]:
            self.plan.pop(due)()
        if self.now() < self.silent_from:
            self.events_received += 1
        if self.trains_epochs:
            self.sent += [EpochDone(job.token, epoch(next(self.numbers))) for job in self.jobs]
        sent, self.sent = self.sent, []
        return sent

    def log_tail(self, token: str) -> str:
        return f"the log of {token}"

    def stop_job(self, token: str) -> None:
        self.called("stop")

    def leave(self) -> None:
        self.called("leave")

    def kill(self) -> None:
        self.called("kill")
        self.sent.append(Died("killed"))

    def ensure_ready(self, setup: TrainingSetup | None = None, meanwhile: Callable[[], None] = lambda: None) -> None:
        pass


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    found = Clock()
    for module in (executor, gang_run, trainer_client, watchdog):
        monkeypatch.setattr(module, "time", found)
    return found


def run(store: Store, trainer: Idle, stopping: Flag | None = None) -> list[str]:
    """Submit two jobs and run them as a gang; their ids."""
    ids = submit(store, *specs(seeds="1..2"))
    flag: Any = stopping or Flag(trainer.clock)
    worker = WorkerContext(flag, lambda: None, Pulse(""))
    GangRun(store, trainer, claim(store, limit=2), Path("/nowhere"), worker).run()
    return ids


def times_of(monkeypatch: pytest.MonkeyPatch, clock: Clock, owner: object, name: str) -> list[float]:
    """The times at which this function is called from now on."""
    found: list[float] = []
    original = getattr(owner, name)

    def call(*arguments: Any) -> Any:
        found.append(clock.seconds)
        return original(*arguments)

    monkeypatch.setattr(owner, name, call)
    return found


def between(*times: float) -> list[float]:
    return [later - earlier for earlier, later in itertools.pairwise(times)]


def are_about(found: list[float], seconds: float) -> bool:
    return bool(found) and all(seconds - 0.01 <= each <= seconds + STEP for each in found)


# --- a gang that runs


@on_sqlite
def test_process_that_is_silent_for_half_a_minute_is_killed(store: Store, clock: Clock, tmp_path: Path) -> None:
    trainer = Idle(clock, tmp_path)
    trainer.silent_from = 100
    ids = run(store, trainer)
    ((call, at),) = trainer.calls
    assert call == "kill"
    assert 130 - STEP <= at <= 130 + STEP
    assert [(job.status, job.outcome) for job in queries.jobs_by_id(store, ids)] == [("queued", "failed")] * 2


@on_sqlite
def test_time_for_which_a_worker_was_suspended_is_no_silence(store: Store, clock: Clock, tmp_path: Path) -> None:
    trainer = Idle(clock, tmp_path)
    trainer.silent_from = 0
    trainer.plan[10] = lambda: clock.sleep(1000)
    run(store, trainer)
    ((_, at),) = trainer.calls
    assert 1029 - STEP <= at <= 1029 + STEP


@on_sqlite
def test_heartbeats_renew_leases_every_20_seconds(
    store: Store, clock: Clock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = Idle(clock, tmp_path)
    trainer.silent_from = 100
    beats = times_of(monkeypatch, clock, execution, "heartbeat")
    run(store, trainer)
    assert are_about(between(trainer.began, *beats), 20)


@on_sqlite
def test_epochs_are_written_twice_a_second_and_logs_every_20_seconds(
    store: Store, clock: Clock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = Idle(clock, tmp_path)
    trainer.trains_epochs = True
    trainer.plan[21] = lambda: trainer.sent.append(Died("ended"))
    beats = times_of(monkeypatch, clock, execution, "heartbeat")
    logs = times_of(monkeypatch, clock, trainer, "log_tail")
    run(store, trainer)
    assert are_about(between(trainer.began, *beats), 0.5)
    assert are_about(between(*sorted({trainer.began, *logs}))[:1], 20)  # the next one is that of the ending


@on_sqlite
def test_request_to_cancel_is_seen_in_two_seconds_and_a_deaf_process_killed_ten_later(
    store: Store, clock: Clock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = Idle(clock, tmp_path)
    looks = times_of(monkeypatch, clock, worker_queries, "cancel_requested")
    trainer.plan[7.1] = lambda: submission.cancel(store, queries.ids_of(store, "lab"))
    ids = run(store, trainer)
    assert are_about(between(trainer.began, *looks), 2)
    assert [call for call, _ in trainer.calls] == ["stop", "stop", "kill"]
    (_, first), _, (_, killed) = trainer.calls
    assert 7.1 <= first <= 9.1 + STEP
    assert are_about([killed - first], 10)
    assert {status(store, job) for job in ids} == {Status.CANCELLED}


@on_sqlite
def test_process_that_does_not_stop_one_job_of_a_gang_is_not_killed(store: Store, clock: Clock, tmp_path: Path) -> None:
    """It may be loading data, say; killing it would end the others' attempts."""

    def end() -> None:
        first, second = (job.token for job in trainer.jobs)
        trainer.sent += [JobStopped(first), JobSucceeded(second, RESULT, IMAGES)]

    trainer = Idle(clock, tmp_path)
    trainer.plan = {5: lambda: submission.cancel(store, queries.ids_of(store, "lab")[:1]), 60: end}
    ids = run(store, trainer)
    assert [call for call, _ in trainer.calls] == ["stop"]
    assert [status(store, job) for job in ids] == [Status.CANCELLED, Status.SUCCEEDED]


@on_sqlite
def test_worker_that_stops_gives_epochs_20_seconds(store: Store, clock: Clock, tmp_path: Path) -> None:
    trainer = Idle(clock, tmp_path)
    ids = run(store, trainer, Flag(clock, trainer.began + 5))
    (leave, left), (kill, killed) = trainer.calls
    assert (leave, kill) == ("leave", "kill")
    assert are_about([left], 5)
    assert are_about([killed - left], 20)
    assert [(job.status, job.outcome) for job in queries.jobs_by_id(store, ids)] == [("queued", "released")] * 2


@on_sqlite
def test_training_stops_45_seconds_after_the_last_heartbeat(
    store: Store, clock: Clock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A quarter of a minute before the leases end; meanwhile the database is tried every second."""

    def fail(*_: object) -> None:
        tries.append(clock.seconds)
        raise StoreError("the database is away")

    tries: list[float] = []
    trainer = Idle(clock, tmp_path)
    trainer.plan[50] = lambda: monkeypatch.setattr(worker_queries, "cancel_requested", fail)
    trainer.plan[50.1] = lambda: monkeypatch.setattr(execution, "heartbeat", fail)
    ids = run(store, trainer)
    assert {call for call, _ in trainer.calls} == {"kill"}
    at = trainer.calls[0][1]
    assert 40 + 45 <= at <= 40 + 45 + 2 + STEP  # the last heartbeat came at 40
    assert max(between(*tries)) <= 2 + 2 * STEP
    assert {status(store, job) for job in ids} == {Status.RUNNING}


# --- a worker that waits


def worker(store: Store, trainer: Idle, until: float) -> Executor:
    """A worker that ends after `until` seconds."""
    found = Executor(trainer._config, store, trainer, gang=4)
    found._awake = Flag(trainer.clock)  # type: ignore[assignment]
    found._stopping = Flag(trainer.clock, trainer.began + until)  # type: ignore[assignment]
    return found


@on_sqlite
def test_idle_worker_polls_every_3_seconds_and_looks_for_expired_leases_every_15(
    store: Store, clock: Clock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    polls = times_of(monkeypatch, clock, claiming, "next_setup")
    looks = times_of(monkeypatch, clock, execution, "requeue_expired")
    beats = times_of(monkeypatch, clock, execution, "worker_heartbeat")
    plug_ins = times_of(monkeypatch, clock, plugins, "packages")
    worker(store, Idle(clock, tmp_path), until=46)._run()
    assert are_about(between(*polls), 3)
    assert are_about(between(*looks), 15)
    assert are_about(between(*beats), 21)  # due after 20, which is no multiple of 3
    assert are_about(between(*plug_ins), 12)  # due after 10
    assert worker_queries.live_workers(store) == []


@on_sqlite
@pytest.mark.parametrize("error", [StoreError("the database is away"), RuntimeError("a fault of the worker")], ids=str)
def test_worker_goes_on_3_seconds_after_an_error(
    store: Store, clock: Clock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail(*_: object) -> None:
        tries.append(clock.seconds)
        raise error

    tries: list[float] = []
    monkeypatch.setattr(claiming, "next_setup", fail)
    worker(store, Idle(clock, tmp_path), until=10)._run()
    assert are_about(between(*tries), 3)


@on_sqlite
@pytest.mark.parametrize(("peer", "pause"), [("cpu", 5), ("cuda", 0)])
def test_worker_whose_gang_failed_lets_peers_claim_first_for_5_seconds(
    store: Store, clock: Clock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, peer: str, pause: float
) -> None:
    trainer = Idle(clock, tmp_path)
    submit(store, *specs(seeds="1..2"))
    execution.worker_heartbeat(store, "bob:2:b", WorkerCapabilities(peer))
    trainer.plan[1] = lambda: trainer.sent.append(Died("broken"))
    polls = times_of(monkeypatch, clock, claiming, "next_setup")
    worker(store, trainer, until=30)._run()
    assert are_about(between(*polls)[:1], 1 + pause)


# --- processes


def test_training_process_has_two_minutes_to_start(clock: Clock, tmp_path: Path) -> None:
    class Slow(Idle):
        def event(self, timeout: float) -> None:
            self.clock.seconds += timeout

    trainer = Slow(clock, tmp_path)
    with pytest.raises(MlpqError, match="did not start within 120 s"):
        trainer.wait_until_ready()
    assert trainer.calls == [("kill", 120)]


def test_process_that_hangs_for_a_minute_exits(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    def exit_now(code: int, message: str) -> None:
        raise SystemExit(f"{code}: {message}")

    monkeypatch.setattr(watchdog, "exit_now", exit_now)
    began = clock.seconds
    with pytest.raises(SystemExit, match="70: the executor has hung for 60 s"):
        Watchdog([Pulse("the executor")])._run()
    assert 60 <= clock.seconds - began <= 65
