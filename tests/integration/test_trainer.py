"""The worker and its training process when one of them misbehaves."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import uuid
from collections.abc import Sequence
from pathlib import Path

import pytest
from sqlalchemy import update

from mlpq.errors import MlpqError
from mlpq.settings import read_settings
from mlpq.spec.job import Sweep, inherited
from mlpq.store import execution, queries, submission
from mlpq.store.execution import Able, Held, Progress
from mlpq.store.schema import jobs
from mlpq.store.session import Store
from mlpq_workers.worker import executor
from mlpq_workers.worker.executor import Executor, Run
from mlpq_workers.worker.trainer_client import Trainer
from mlpq_workers.worker.watchdog import Pulse
from tests.support.job_steps import RESULT, TOO_BIG_TO_STACK

pytestmark = pytest.mark.xdist_group("trainer")  # the one that the tests share

# What a worker writes of a gang's end is tested on both databases elsewhere.
on_sqlite = pytest.mark.parametrize("store", ["sqlite"], indirect=True)

WORLD_SIZE = 1
HAS = {"device": "cpu", "model": "", "most_ranks": 1, "facts": {"world_size": 1}}
READY = f"print({json.dumps({'event': 'ready', 'token': '', **HAS})!r}, flush=True); "


class Misbehaving(Trainer):
    """A trainer whose child is a few lines of Python."""

    def __init__(self, folder: Path, code: str) -> None:
        super().__init__(read_settings({"MLPQ_HOME": str(folder)}), "cpu")
        self.ready, self.code = READY, code

    def _command(self, scratch: str, world_size: int | None) -> list[str]:
        return [sys.executable, "-c", self.ready + self.code]


def filed(store: Store, **keys: object) -> list[str]:
    """The ids of jobs that the trainer has never heard of."""
    specs = Sweep.parse({"dataset": "digits", "epochs": 2, **keys}).jobs()
    return [job.id for job in submission.file_jobs(store, str(uuid.uuid4()), specs)]


def run(store: Store, trainer: Trainer, folder: Path, gang: list[Held]) -> None:
    Run(store, trainer, gang, folder, threading.Event(), lambda: None, Pulse("")).run()


def outcomes(store: Store, ids: list[str]) -> list[tuple[str, str | None]]:
    return [(row["status"], row["outcome"]) for row in queries.jobs_by_id(store, ids)]


def test_a_word_cut_short_by_the_childs_death_is_told_as_its_death(tmp_path: Path) -> None:
    trainer = Misbehaving(tmp_path, "print('{\"event\": \"epo', end='', flush=True)")
    trainer.start()
    event = trainer.event(30)
    assert event is not None
    assert event["event"] == "died"
    trainer.kill()


def test_bytes_that_are_no_text_do_not_stop_the_log(tmp_path: Path) -> None:
    write = "sys.stderr.buffer.write(b'\\xff\\0\\n' + b'x' * 200_000 + b'\\nlast\\n'); sys.stderr.flush()"
    trainer = Misbehaving(tmp_path, f"import sys; sys.stdin.readline(); {write}")
    trainer.start()
    trainer.train([{"token": "a job"}])
    event = trainer.event(30)
    assert event is not None
    assert event["event"] == "died"
    trainer.kill()
    assert "last" in trainer.log_tail("a job")
    assert "\0" not in trainer.log_tail("a job")


def test_a_child_that_does_not_start_is_told(tmp_path: Path) -> None:
    trainer = Misbehaving(tmp_path, "")
    trainer.ready = ""
    trainer.code = "raise SystemExit(3)"
    with pytest.raises(MlpqError, match="exit status 3"):
        trainer.start()


def test_words_about_another_job_are_not_taken_for_this_one(store: Store, trainer: Trainer, tmp_path: Path) -> None:
    filed(store, optimizer="sgd")
    (held,) = execution.claim(store, "w", Able("cpu"), {})
    figures = {"epoch": 1, "train_loss": 9.0, "test_loss": 9.0, "test_correct": 1, "test_total": 500, "seconds": 9.0}
    trainer._events.put({"event": "epoch", "token": "another/1", "epoch": figures})
    trainer._events.put({"event": "succeeded", "token": "another/1", "result": {}})
    Run(store, trainer, [held], tmp_path, threading.Event(), lambda: None, Pulse("")).run()
    (row,) = queries.job_rows(store)
    assert row["status"] == "succeeded"
    assert [epoch["epoch"] for epoch in queries.curve(store, held.id)] == [1, 2]
    assert all(epoch["train_loss"] != 9.0 for epoch in queries.curve(store, held.id))


def test_what_cannot_be_written_about_one_job_fails_only_that_one(
    store: Store, trainer: Trainer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad, good = filed(store, epochs=500, seeds="1,2")
    beat = execution.beat

    def broken(store: Store, progress: Sequence[Progress]) -> dict[str, bool]:
        if any(told.held.id == bad for told in progress):
            raise TypeError("a bug")
        return beat(store, progress)

    monkeypatch.setattr(execution, "beat", broken)
    run(store, trainer, tmp_path, execution.claim(store, "w", Able("cpu"), {}, limit=2))
    assert outcomes(store, [bad, good]) == [("queued", "failed"), ("succeeded", "succeeded")]
    (attempt,) = queries.attempts_of(store, bad)
    assert "an error of the worker itself: TypeError: a bug" in attempt["error"]


@on_sqlite
def test_an_error_of_the_worker_itself_fails_the_attempts_and_ends_their_training(
    store: Store, trainer: Trainer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = filed(store, epochs=10_000, seeds="1,2")
    executor = Executor(read_settings({"MLPQ_HOME": str(tmp_path)}), store, trainer, gang=2)

    def broken(*_: object) -> set[str]:
        raise TypeError("a bug")

    monkeypatch.setattr(queries, "cancel_requested", broken)
    assert executor._work_once()
    assert outcomes(store, ids) == [("queued", "failed")] * 2
    assert all("TypeError: a bug" in queries.attempts_of(store, job)[0]["error"] for job in ids)
    assert trainer._child is None


def test_a_gang_brings_each_job_its_own_result_curve_and_log(store: Store, trainer: Trainer, tmp_path: Path) -> None:
    ids = filed(store, optimizer=["sgd", "adam"], seeds="1,2")
    run(store, trainer, tmp_path, execution.claim(store, "w", Able("cpu"), {}, limit=4))
    rows = queries.jobs_by_id(store, ids)
    assert [(row["status"], row["gang_size"], row["engine"]) for row in rows] == [("succeeded", 4, "gang")] * 4
    assert len({row["weights_sha256"] for row in rows}) == 4
    for row in rows:
        curve = queries.curve(store, row["id"])
        assert [epoch["epoch"] for epoch in curve] == [1, 2]
        (attempt,) = queries.attempts_of(store, row["id"])
        assert [f"epoch {n}: train loss {curve[n - 1]['train_loss']:.4f}" in attempt["log_tail"] for n in (1, 2)]
        assert attempt["log_tail"].count("epoch") == 2


def test_a_job_has_the_same_weights_in_a_gang_as_alone(store: Store, trainer: Trainer, tmp_path: Path) -> None:
    together = filed(store, optimizer=["sgd", "adam"], seeds="1,2")
    run(store, trainer, tmp_path, execution.claim(store, "w", Able("cpu"), {}, limit=4))
    specs = [queries.spec_of(store, job) for job in together]
    alone = [job.id for job in submission.file_jobs(store, "alone", specs)]
    for _ in alone:
        run(store, trainer, tmp_path, execution.claim(store, "w", Able("cpu"), {}, limit=1))
    hashes = [[row["weights_sha256"] for row in queries.jobs_by_id(store, ids)] for ids in (together, alone)]
    assert hashes[0] == hashes[1]
    assert [row["gang_size"] for row in queries.jobs_by_id(store, alone)] == [1] * 4


def test_a_model_too_big_to_stack_is_trained_by_the_plain_engine(
    store: Store, trainer: Trainer, tmp_path: Path
) -> None:
    (job,) = filed(store, epochs=1, batch_size=2000, **TOO_BIG_TO_STACK)
    run(store, trainer, tmp_path, execution.claim(store, "w", Able("cpu"), {}, limit=4))
    (row,) = queries.jobs_by_id(store, [job])
    assert (row["status"], row["engine"], row["gang_size"]) == ("succeeded", "plain", 1)


@on_sqlite
def test_cancelling_one_of_a_gang_leaves_the_others(store: Store, trainer: Trainer, tmp_path: Path) -> None:
    ids = filed(store, seeds="1..3", epochs=1000)
    gang = execution.claim(store, "w", Able("cpu"), {}, limit=3)
    training = threading.Thread(target=run, args=(store, trainer, tmp_path, gang))
    training.start()
    submission.cancel(store, ids[1:2])
    training.join(120)
    assert outcomes(store, ids) == [("succeeded", "succeeded"), ("cancelled", "cancelled"), ("succeeded", "succeeded")]
    assert len(queries.curve(store, ids[0])) == 1000
    assert len(queries.curve(store, ids[1])) < 1000


@on_sqlite
def test_cancelling_one_while_the_training_process_does_not_listen_leaves_the_others(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It loads data, say; ending it would end the others' attempts."""
    monkeypatch.setattr(executor, "CANCEL_SECONDS", 0.1)
    monkeypatch.setattr(executor, "GRACE_SECONDS", 0.2)
    code = f"""
import json, sys, time
first, second = json.loads(sys.stdin.readline())["gang"]
time.sleep(3)
print(json.dumps({{"event": "stopped", "token": first["token"]}}), flush=True)
print(json.dumps({{"event": "succeeded", "token": second["token"], "result": {RESULT!r}}}), flush=True)
sys.stdin.read()
"""
    trainer = Misbehaving(tmp_path, "")
    trainer.code = f"exec({code!r})"
    trainer.start()
    ids = filed(store, seeds="1,2")
    gang = execution.claim(store, "w", Able("cpu"), {}, limit=2)
    submission.cancel(store, ids[:1])
    run(store, trainer, tmp_path, gang)
    trainer.kill()
    assert outcomes(store, ids) == [("cancelled", "cancelled"), ("succeeded", "succeeded")]


@on_sqlite
def test_a_lost_lease_takes_only_its_own_job_out_of_the_gang(store: Store, trainer: Trainer, tmp_path: Path) -> None:
    ids = filed(store, seeds="1,2", epochs=1000)
    gang = execution.claim(store, "w", Able("cpu"), {}, limit=2)
    with store.write() as connection:
        connection.execute(update(jobs).where(jobs.c.id == ids[0]).values(attempt=2))
    run(store, trainer, tmp_path, gang)
    assert [row["status"] for row in queries.jobs_by_id(store, ids)] == ["running", "succeeded"]
    assert queries.curve(store, ids[0]) == []


def test_a_parent_that_is_missing_fails_only_its_child(store: Store, trainer: Trainer, tmp_path: Path) -> None:
    (parent,) = filed(store)
    run(store, trainer, tmp_path, execution.claim(store, "w", Able("cpu"), {}))
    (weights,) = (tmp_path / parent).iterdir()
    weights.unlink()
    spec = queries.spec_of(store, parent)
    (child,) = Sweep.parse({**inherited(spec), "optimizer": "adam"}).jobs(spec)
    (orphan,) = submission.file_jobs(store, str(uuid.uuid4()), [child], parent_id=parent)
    (other,) = filed(store, seeds="7")
    run(store, trainer, tmp_path, execution.claim(store, "w", Able("cpu"), {}, limit=2))
    assert outcomes(store, [orphan.id, other]) == [("queued", "failed"), ("succeeded", "succeeded")]
    (attempt,) = queries.attempts_of(store, orphan.id)
    assert "is missing" in attempt["error"]


def test_a_diverging_job_ends_alone(store: Store, trainer: Trainer, tmp_path: Path) -> None:
    ids = filed(store, optimizer=["sgd:lr=1e30", "sgd:lr=0.1"], activation="relu")
    run(store, trainer, tmp_path, execution.claim(store, "w", Able("cpu"), {}, limit=2))
    assert outcomes(store, ids) == [("failed", "diverged"), ("succeeded", "succeeded")]


@on_sqlite
def test_a_death_of_the_training_process_fails_the_whole_gang_and_each_is_tried_again_alone(
    store: Store, trainer: Trainer, tmp_path: Path
) -> None:
    ids = filed(store, seeds="1,2", epochs=10_000)
    gang = execution.claim(store, "w", Able("cpu"), {}, limit=2)
    training = threading.Thread(target=run, args=(store, trainer, tmp_path, gang))
    training.start()
    assert trainer._child is not None
    os.kill(trainer._child.pid, signal.SIGKILL)
    training.join(60)
    assert outcomes(store, ids) == [("queued", "failed")] * 2
    assert all("SIGKILL" in queries.attempts_of(store, job)[0]["error"] for job in ids)
    with store.write() as connection:
        connection.execute(update(jobs).values(not_before=None))
    assert [held.id for held in execution.claim(store, "w", Able("cpu"), {}, limit=2)] == ids[:1]


@on_sqlite
def test_giving_back_a_gang_queues_every_job_again(store: Store, trainer: Trainer, tmp_path: Path) -> None:
    ids = filed(store, seeds="1,2", epochs=10_000)
    gang = execution.claim(store, "w", Able("cpu"), {}, limit=2)
    stopping = threading.Event()
    stopping.set()
    Run(store, trainer, gang, tmp_path, stopping, lambda: None, Pulse("")).run()
    trainer.kill()  # told to leave, it trains nothing more
    assert outcomes(store, ids) == [("queued", "released")] * 2
    assert [held.id for held in execution.claim(store, "w", Able("cpu"), {}, limit=2)] == ids
