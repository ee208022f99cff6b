"""The worker and its training process, also when one of them misbehaves."""

from __future__ import annotations

import os
import signal
import sys
import threading
import uuid
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import update

from mlpq.errors import MlpqError
from mlpq.jobs import Engine, Outcome, Status
from mlpq.records import AttemptProgress, ClaimedJob, JobResult
from mlpq.settings import read_settings
from mlpq.spec.job import JobSpec
from mlpq.spec.sweep import Sweep, inherited
from mlpq.store import claiming, execution, queries, submission, worker_queries
from mlpq.store.schema import jobs
from mlpq.store.session import Store
from mlpq.worker_records import TrainingSetup, WorkerCapabilities
from mlpq_workers.kernel import ARITHMETIC
from mlpq_workers.protocol import Died, EpochDone, JobSucceeded, Ready, TrainJob
from mlpq_workers.worker.executor import Executor
from mlpq_workers.worker.gang_run import GangRun, WorkerContext
from mlpq_workers.worker.trainer_client import Trainer
from mlpq_workers.worker.watchdog import Pulse
from tests.support.gang_training import job
from tests.support.job_steps import IMAGES, RESULT, TOO_BIG_TO_STACK, epoch

# What a worker writes is tested on both databases elsewhere.
on_sqlite = pytest.mark.parametrize("store", ["sqlite"], indirect=True)

WORLD_SIZE = 1
READY = Ready("cpu", "", 1, {"world_size": 1})
CPU = WorkerCapabilities("cpu")


def printing(*lines: str) -> str:
    """Python code that prints these lines."""
    return "".join(f"print({line!r}, flush=True); " for line in lines)


class Misbehaving(Trainer):
    """A trainer whose process runs a few lines of Python."""

    def __init__(self, folder: Path, code: str) -> None:
        super().__init__(read_settings({"MLPQ_HOME": str(folder)}), "cpu")
        self.code = code

    def _command(self, scratch: str, setup: TrainingSetup | None) -> list[str]:
        return [sys.executable, "-c", self.code]


def submit(store: Store, **keys: object) -> list[str]:
    """Submit the jobs of a sweep under new ids; returns them."""
    specs = Sweep.parse({"dataset": "digits", "epochs": 2, **keys}).jobs()
    return [job.id for job in submission.submit_jobs(store, str(uuid.uuid4()), specs)]


def claim(store: Store, limit: int = 1) -> list[ClaimedJob]:
    return claiming.claim(store, "w", CPU, {}, limit)


def run(
    store: Store, trainer: Trainer, folder: Path, gang: list[ClaimedJob], stopping: threading.Event | None = None
) -> None:
    worker = WorkerContext(stopping or threading.Event(), lambda: None, Pulse(""))
    GangRun(store, trainer, gang, folder, worker).run()


def spec_of(store: Store, job: str) -> JobSpec:
    return queries.jobs_by_id(store, [job])[0].spec


def results(store: Store, ids: list[str]) -> list[JobResult]:
    found = [record.result for record in queries.jobs_by_id(store, ids)]
    return [result for result in found if result is not None]


def outcomes(store: Store, ids: list[str]) -> list[tuple[Status, Outcome | None]]:
    return [(record.status, record.outcome) for record in queries.jobs_by_id(store, ids)]


def test_incomplete_event_is_reported_as_the_end_of_the_process(tmp_path: Path) -> None:
    trainer = Misbehaving(tmp_path, printing(READY.dump()) + "print('{\"kind\": \"epo', end='', flush=True)")
    trainer.start()
    assert isinstance(trainer.event(30), Died)
    trainer.kill()


def test_undecodable_bytes_do_not_stop_the_log_of_200_lines(tmp_path: Path) -> None:
    lines = "b'a line\\n' * 300 + b'\\xff\\0\\n' + b'x' * 200_000 + b'\\nlast\\n'"
    write = f"sys.stderr.buffer.write({lines}); sys.stderr.flush()"
    trainer = Misbehaving(tmp_path, printing(READY.dump()) + f"import sys; sys.stdin.readline(); {write}")
    trainer.start()
    command = TrainJob(str(uuid.uuid4()), 1, job(), None, None, tmp_path / "weights.safetensors")
    trainer.train([command])
    assert isinstance(trainer.event(30), Died)
    trainer.kill()
    assert "last" in trainer.log_tail(command.token)
    assert trainer.log_tail(command.token).count("\n") == 199
    assert "\0" not in trainer.log_tail(command.token)


def test_process_that_does_not_start_is_an_error(tmp_path: Path) -> None:
    trainer = Misbehaving(tmp_path, "raise SystemExit(3)")
    with pytest.raises(MlpqError, match="exit status 3"):
        trainer.start()


def test_events_of_another_job_are_ignored(store: Store, trainer: Trainer, tmp_path: Path) -> None:
    submit(store, optimizer="sgd")
    (claimed,) = claim(store)
    trainer._events.put(EpochDone("another/1", replace(epoch(1), train_loss=9.0)))
    trainer._events.put(JobSucceeded("another/1", RESULT, IMAGES))
    run(store, trainer, tmp_path, [claimed])
    assert outcomes(store, [claimed.id]) == [(Status.SUCCEEDED, Outcome.SUCCEEDED)]
    curve = queries.curve(store, claimed.id)
    assert [metrics.epoch for metrics in curve] == [1, 2]
    assert all(metrics.train_loss != 9.0 for metrics in curve)


def test_write_that_fails_for_one_job_fails_only_that_job(
    store: Store, trainer: Trainer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad, good = submit(store, epochs=500, seeds="1,2", hidden=1000)
    heartbeat = execution.heartbeat

    def broken(store: Store, progress: Sequence[AttemptProgress]) -> dict[str, bool]:
        if any(each.job.id == bad for each in progress):
            raise TypeError("a bug")
        return heartbeat(store, progress)

    monkeypatch.setattr(execution, "heartbeat", broken)
    run(store, trainer, tmp_path, claim(store, limit=2))
    assert outcomes(store, [bad, good]) == [(Status.QUEUED, Outcome.FAILED), (Status.SUCCEEDED, Outcome.SUCCEEDED)]
    (attempt,) = queries.attempts_of(store, bad)
    assert attempt.error == "internal error of the worker: TypeError: a bug"


@on_sqlite
def test_internal_error_fails_the_attempts_and_ends_their_training(
    store: Store, trainer: Trainer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = submit(store, epochs=10_000, hidden=1000, seeds="1,2")
    executor = Executor(read_settings({"MLPQ_HOME": str(tmp_path)}), store, trainer, gang=2)

    def broken(*_: object) -> set[str]:
        raise TypeError("a bug")

    monkeypatch.setattr(worker_queries, "cancel_requested", broken)
    assert executor._work_once()
    assert outcomes(store, ids) == [(Status.QUEUED, Outcome.FAILED)] * 2
    assert [queries.attempts_of(store, job)[0].error for job in ids] == [
        "internal error of the worker: TypeError: a bug"
    ] * 2
    assert trainer._process is None


def test_each_job_of_a_gang_has_its_own_result_curve_and_log(store: Store, trainer: Trainer, tmp_path: Path) -> None:
    ids = submit(store, optimizer=["sgd", "adam"], seeds="1,2")
    run(store, trainer, tmp_path, claim(store, limit=4))
    found = results(store, ids)
    assert [(result.gang_size, result.engine) for result in found] == [(4, Engine.KERNEL)] * 4
    assert {result.arithmetic for result in found} == {ARITHMETIC}
    assert len({result.weights_sha256 for result in found}) == 4
    for each in ids:
        curve = queries.curve(store, each)
        assert [metrics.epoch for metrics in curve] == [1, 2]
        (attempt,) = queries.attempts_of(store, each)
        log_tail = str(attempt.log_tail)
        assert all(f"epoch {n}: train loss {curve[n - 1].train_loss:.4f}" in log_tail for n in (1, 2))
        assert log_tail.count("epoch") == 2


def test_job_has_the_same_weights_in_a_gang_as_alone(store: Store, trainer: Trainer, tmp_path: Path) -> None:
    together = submit(store, optimizer=["sgd", "adam"], seeds="1,2")
    run(store, trainer, tmp_path, claim(store, limit=4))
    specs = [spec_of(store, each) for each in together]
    alone = [each.id for each in submission.submit_jobs(store, "alone", specs)]
    for _ in alone:
        run(store, trainer, tmp_path, claim(store, limit=1))
    hashes = [[result.weights_sha256 for result in results(store, ids)] for ids in (together, alone)]
    assert hashes[0] == hashes[1]
    assert [result.gang_size for result in results(store, alone)] == [1] * 4


def test_process_without_the_kernel_trains_stacks_and_large_networks_alone(
    store: Store, trainer: Trainer, tmp_path: Path
) -> None:
    trainer.ensure_ready(TrainingSetup(1, kernel=False))
    assert trainer.facts["torch"]
    assert (trainer.has_kernel, trainer.setup.kernel) == (True, False)
    stacked = submit(store, seeds="1,2")
    ids = submit(store, epochs=1, batch_size=2000, **TOO_BIG_TO_STACK)
    run(store, trainer, tmp_path, claim(store, limit=4))
    run(store, trainer, tmp_path, claim(store, limit=4))
    trainer.ensure_ready(TrainingSetup(1, kernel=True))
    assert trainer.facts["kernel"]
    assert [(each.engine, each.gang_size, each.arithmetic) for each in results(store, stacked)] == [
        (Engine.GANG, 2, None)
    ] * 2
    (result,) = results(store, ids)
    assert (result.engine, result.gang_size, result.arithmetic) == (Engine.PLAIN, 1, None)


def test_process_that_trains_by_the_kernel_has_no_torch_in_memory(
    store: Store, trainer: Trainer, tmp_path: Path
) -> None:
    submit(store, seeds="1,2")
    run(store, trainer, tmp_path, claim(store, limit=2))
    assert trainer._process is not None
    mapped = Path(f"/proc/{trainer._process.pid}/maps").read_text()
    assert "libmlpq_kernel" in mapped
    assert "libtorch" not in mapped


@on_sqlite
def test_cancelling_one_job_of_a_gang_does_not_affect_the_others(
    store: Store, trainer: Trainer, tmp_path: Path
) -> None:
    ids = submit(store, seeds="1..3", epochs=1000, hidden=1000)
    gang = claim(store, limit=3)
    training = threading.Thread(target=run, args=(store, trainer, tmp_path, gang))
    training.start()
    submission.cancel(store, ids[1:2])
    training.join(120)
    assert outcomes(store, ids) == [
        (Status.SUCCEEDED, Outcome.SUCCEEDED),
        (Status.CANCELLED, Outcome.CANCELLED),
        (Status.SUCCEEDED, Outcome.SUCCEEDED),
    ]
    assert len(queries.curve(store, ids[0])) == 1000
    assert len(queries.curve(store, ids[1])) < 1000


@on_sqlite
def test_lost_lease_removes_only_its_own_job_from_the_gang(store: Store, trainer: Trainer, tmp_path: Path) -> None:
    ids = submit(store, seeds="1,2", epochs=1000, hidden=1000)
    gang = claim(store, limit=2)
    with store.write() as connection:
        connection.execute(update(jobs).where(jobs.c.id == ids[0]).values(attempt=2))
    run(store, trainer, tmp_path, gang)
    assert [status for status, _ in outcomes(store, ids)] == [Status.RUNNING, Status.SUCCEEDED]
    assert queries.curve(store, ids[0]) == []


def test_missing_parent_fails_only_its_child(store: Store, trainer: Trainer, tmp_path: Path) -> None:
    (parent,) = submit(store)
    run(store, trainer, tmp_path, claim(store))
    (weights,) = (tmp_path / parent).iterdir()
    weights.unlink()
    spec = spec_of(store, parent)
    (child,) = Sweep.parse({**inherited(spec), "optimizer": "adam"}).jobs(spec)
    (orphan,) = submission.submit_jobs(store, str(uuid.uuid4()), [child], parent_id=parent)
    (other,) = submit(store, seeds="7")
    run(store, trainer, tmp_path, claim(store, limit=2))
    assert outcomes(store, [orphan.id, other]) == [
        (Status.QUEUED, Outcome.FAILED),
        (Status.SUCCEEDED, Outcome.SUCCEEDED),
    ]
    (attempt,) = queries.attempts_of(store, orphan.id)
    assert "are missing" in str(attempt.error)


def test_diverging_job_ends_alone(store: Store, trainer: Trainer, tmp_path: Path) -> None:
    ids = submit(store, optimizer=["sgd:lr=1e30", "sgd:lr=0.1"], activation="relu")
    run(store, trainer, tmp_path, claim(store, limit=2))
    assert outcomes(store, ids) == [(Status.FAILED, Outcome.DIVERGED), (Status.SUCCEEDED, Outcome.SUCCEEDED)]


@on_sqlite
def test_death_of_the_training_process_fails_the_gang_and_each_job_is_retried_alone(
    store: Store, trainer: Trainer, tmp_path: Path
) -> None:
    ids = submit(store, seeds="1,2", epochs=10_000, hidden=1000)
    gang = claim(store, limit=2)
    training = threading.Thread(target=run, args=(store, trainer, tmp_path, gang))
    training.start()
    assert trainer._process is not None
    os.kill(trainer._process.pid, signal.SIGKILL)
    training.join(60)
    assert outcomes(store, ids) == [(Status.QUEUED, Outcome.FAILED)] * 2
    assert all("signal SIGKILL" in str(queries.attempts_of(store, each)[0].error) for each in ids)
    with store.write() as connection:
        connection.execute(update(jobs).values(not_before=None))
    assert [claimed.id for claimed in claim(store, limit=2)] == ids[:1]


@on_sqlite
def test_releasing_a_gang_queues_every_job_again(store: Store, trainer: Trainer, tmp_path: Path) -> None:
    ids = submit(store, seeds="1,2", epochs=10_000, hidden=1000)
    gang = claim(store, limit=2)
    stopping = threading.Event()
    stopping.set()
    run(store, trainer, tmp_path, gang, stopping)
    trainer.kill()  # it has left, and trains no other gang
    assert outcomes(store, ids) == [(Status.QUEUED, Outcome.RELEASED)] * 2
    assert [claimed.id for claimed in claim(store, limit=2)] == ids
