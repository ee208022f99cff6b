"""The worker and its training process when one of them misbehaves."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import update

from mlpq.errors import MlpqError
from mlpq.settings import read_settings
from mlpq.spec import Sweep
from mlpq.store import filing, queries, repository
from mlpq.store.models import jobs
from mlpq.store.session import Store
from mlpq_workers.tasks import Attempt, Executor
from mlpq_workers.trainer_process import Trainer

READY = 'print(\'{"event": "ready", "token": "", "device": "cpu", "facts": {}}\', flush=True); '


class Misbehaving(Trainer):
    """A trainer whose child is a few lines of Python."""

    def __init__(self, folder: Path, code: str) -> None:
        super().__init__(read_settings({"MLPQ_HOME": str(folder)}), "cpu")
        self._command = [sys.executable, "-c", READY + code]


@pytest.fixture
def trainer(tmp_path: Path) -> Iterator[Trainer]:
    started = Trainer(read_settings({"MLPQ_HOME": str(tmp_path)}), "cpu")
    started.start()
    yield started
    started.kill()


def filed(store: Store, **keys: object) -> list[str]:
    specs = Sweep.parse({"dataset": "digits", "epochs": 2, **keys}).jobs()
    return [job.id for job in filing.file_jobs(store, "e", specs)]


def test_a_word_cut_short_by_the_childs_death_is_told_as_its_death(tmp_path: Path) -> None:
    trainer = Misbehaving(tmp_path, "print('{\"event\": \"epo', end='', flush=True)")
    trainer.start()
    event = trainer.event(30)
    assert event is not None
    assert event["event"] == "died"
    trainer.kill()


def test_bytes_that_are_no_text_do_not_stop_the_log(tmp_path: Path) -> None:
    code = "import sys; sys.stderr.buffer.write(b'\\xff\\0\\n' + b'x' * 200_000 + b'\\nlast\\n'); sys.stderr.flush()"
    trainer = Misbehaving(tmp_path, code)
    trainer.start()
    event = trainer.event(30)
    assert event is not None
    assert event["event"] == "died"
    trainer.kill()
    assert "last" in trainer.log_tail()
    assert "\0" not in trainer.log_tail()


def test_a_child_that_does_not_start_is_told(tmp_path: Path) -> None:
    trainer = Misbehaving(tmp_path, "")
    trainer._command = [sys.executable, "-c", "raise SystemExit(3)"]
    with pytest.raises(MlpqError, match="exit status 3"):
        trainer.start()


def test_words_about_another_job_are_not_taken_for_this_one(store: Store, trainer: Trainer, tmp_path: Path) -> None:
    filed(store, optimizer="sgd")
    (held,) = repository.claim(store, "w", "cpu", {})
    figures = {"epoch": 1, "train_loss": 9.0, "test_loss": 9.0, "test_correct": 1, "test_total": 500, "seconds": 9.0}
    trainer._events.put({"event": "epoch", "token": "another/1", "epoch": figures})
    trainer._events.put({"event": "succeeded", "token": "another/1", "result": {}})
    weights = tmp_path / "weights.safetensors"
    Attempt(store, trainer, held, weights, threading.Event(), lambda: None).run()
    (row,) = queries.job_rows(store)
    assert row["status"] == "succeeded"
    assert [epoch["epoch"] for epoch in queries.curve(store, held.id)] == [1, 2]
    assert all(epoch["train_loss"] != 9.0 for epoch in queries.curve(store, held.id))


def test_an_error_of_the_worker_itself_fails_the_attempt_and_ends_its_training(
    store: Store, trainer: Trainer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    filed(store, epochs=10_000)
    executor = Executor(read_settings({"MLPQ_HOME": str(tmp_path)}), store, trainer)

    def broken(*_: object) -> bool:
        raise TypeError("a bug")

    monkeypatch.setattr(repository, "beat", broken)
    assert executor._work_once()
    (row,) = queries.job_rows(store)
    assert (row["status"], row["outcome"]) == ("queued", "failed")
    (attempt,) = queries.attempts_of(store, row["id"])
    assert "TypeError: a bug" in attempt["error"]
    assert trainer._child is None


def test_a_spec_that_cannot_be_read_fails_and_lets_the_next_job_run(store: Store) -> None:
    first, second = filed(store, seeds="1,2")
    with store.write() as connection:
        connection.execute(update(jobs).where(jobs.c.id == first).values(spec={"dataset": "emnist"}))
    held = repository.claim(store, "w", "cpu", {}, limit=2)
    assert [job.id for job in held] == [second]
    (attempt,) = queries.attempts_of(store, first)
    assert attempt["outcome"] == "failed"
    assert "can't read the spec" in attempt["error"]


def test_many_submissions_that_go_on_from_one_job_do_not_block_each_other(store: Store) -> None:
    (parent,) = filed(store)
    spec = queries.spec_of(store, parent)

    def go_on(number: int) -> None:
        child = Sweep.parse({"dataset": "digits", "epochs": 2, "optimizer": "adam", "lr": number + 1}).jobs(spec)
        filing.file_jobs(store, f"e{number % 4}", child, parent_id=parent)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(go_on, range(40)))
    assert queries.count_by_status(store) == {"blocked": 40, "queued": 1}
