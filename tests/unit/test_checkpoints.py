"""A job that resumes from its checkpoint ends with the bits of a job that was never interrupted."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Collection
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlpq.spec.job import JobSpec
from mlpq_workers.engine import plain
from mlpq_workers.engine.training_state import Checkpoint, EngineJob, Stopped, Trained
from mlpq_workers.trainer.checkpoints import newest_checkpoint, save_checkpoint
from tests.support.gang_training import OPTIMIZERS_AND_OPTIONS, Interrupt, assert_same, few, job, train_together
from tests.support.optimizer_options import OF_MATRICES_AND_OPTIONS

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("one_thread")]

OWNER = {"job": "a job", "environment": "here"}


def through_a_file(checkpoint: Checkpoint, folder: Path) -> Checkpoint:
    save_checkpoint(checkpoint, OWNER, folder, 1)
    found = newest_checkpoint(OWNER, folder, pytest.fail)
    assert found is not None
    return found


def interrupted(*jobs: EngineJob, after: Collection[int | None]) -> Interrupt:
    moments = {str(i): moment for i, moment in enumerate(after) if moment is not None}
    record = Interrupt(moments)
    train_together(*jobs, data=few(), observer=record)
    assert all(isinstance(record.endings[name], Stopped) for name in moments)
    return record


@pytest.mark.parametrize("optimizer", OPTIMIZERS_AND_OPTIONS)
def test_resumed_job_of_a_stack_has_the_bits_of_an_uninterrupted_one(optimizer: str, tmp_path: Path) -> None:
    spec = job(optimizer=optimizer, epochs=4, dropout=0.2)
    whole = train_together(spec, data=few())
    first = interrupted(EngineJob(spec), after=[2])
    resumed = train_together(EngineJob(spec, None, through_a_file(first.taken["0"], tmp_path)), data=few())
    assert_same(resumed.trained("0"), whole.trained("0"))
    assert [epoch.epoch for epoch in resumed.epochs["0"]] == [3, 4]


def interrupt_plain(spec: JobSpec, after: int) -> Checkpoint:
    record = Interrupt({"0": after})
    with pytest.raises(Stopped):
        plain.train(EngineJob(spec), few(), "cpu", record, "0")
    return record.taken["0"]


@pytest.mark.parametrize("optimizer", [*OF_MATRICES_AND_OPTIONS, "slowstart", "slowstart:nesterov=true", "jitter"])
@pytest.mark.parametrize("keys", [{}, {"schedule": "cosine", "warmup": 1, "bias": False}], ids=str)
def test_resumed_job_that_only_the_plain_engine_trains_has_the_same_bits(
    optimizer: str, keys: dict[str, object], tmp_path: Path
) -> None:
    spec = job(optimizer=optimizer, epochs=4, dropout=0.2, **keys)
    whole = plain.train(EngineJob(spec), few(), "cpu")
    resume = through_a_file(interrupt_plain(spec, 2), tmp_path)
    torch.rand(3)  # another job may have drawn from the default generator
    assert_same(plain.train(EngineJob(spec, None, resume), few(), "cpu"), whole)


def interrupt_stacked(spec: JobSpec, after: int) -> Checkpoint:
    return interrupted(EngineJob(spec), after=[after]).taken["0"]


@pytest.mark.parametrize("optimizer", OPTIMIZERS_AND_OPTIONS)
def test_resumed_job_of_the_plain_engine_has_the_bits_of_an_uninterrupted_one(optimizer: str, tmp_path: Path) -> None:
    spec = job(optimizer=optimizer, epochs=4, dropout=0.2, l1=1e-4)
    whole = plain.train(EngineJob(spec), few(), "cpu")
    resume = through_a_file(interrupt_plain(spec, 2), tmp_path)
    assert_same(plain.train(EngineJob(spec, resume=resume), few(), "cpu"), whole)


def train_plain(job: EngineJob) -> Trained:
    return plain.train(job, few(), "cpu")


def train_stacked(job: EngineJob) -> Trained:
    return train_together(job, data=few()).trained("0")


@pytest.mark.parametrize(
    ("train", "interrupt"),
    [(train_plain, interrupt_plain), (train_stacked, interrupt_stacked)],
    ids=["plain", "stacked"],
)
@pytest.mark.parametrize("after", [1, 3, 5])
def test_resumed_job_remembers_its_best_epoch(
    train: Callable[[EngineJob], Trained],
    interrupt: Callable[[JobSpec, int], Checkpoint],
    after: int,
    tmp_path: Path,
) -> None:
    spec = job(optimizer="adam:lr=0.05", epochs=30, validation=0.3, patience=3)
    whole = train(EngineJob(spec))
    assert after < whole.epochs_run
    assert whole.best.epoch < whole.epochs_run
    resume = through_a_file(interrupt(spec, after), tmp_path)
    assert_same(train(EngineJob(spec, resume=resume)), whole)


def test_child_resumes_from_its_own_checkpoint(tmp_path: Path) -> None:
    parent = job(dropout=0.3)
    start = train_together(parent, data=few()).trained("0").final
    child = job(parent, optimizer="adam", dropout=0.3, epochs=3)
    whole = train_together(EngineJob(child, start), data=few()).trained("0")
    first = interrupted(EngineJob(child, start), after=[1])
    resume = through_a_file(first.taken["0"], tmp_path)
    assert_same(train_together(EngineJob(child, None, resume), data=few()).trained("0"), whole)


SPECS = [
    job(epochs=epochs, optimizer=optimizer, seeds=seed, dropout=dropout)
    for epochs, dropout in ((2, 0.0), (4, 0.2))
    for optimizer in ("sgd", "adam", "nadam", "sgd:lr=0.1,momentum=0.9")
    for seed in (1, 2)
]


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(jobs=st.lists(st.tuples(st.sampled_from(SPECS), st.integers(0, 3)), min_size=1, max_size=6))
def test_jobs_resume_with_the_same_bits_in_any_gang_from_any_epoch(jobs: list[tuple[JobSpec, int]]) -> None:
    """Some jobs were interrupted before, after different numbers of epochs, and resume beside others that start."""
    gang = []
    for spec, after in jobs:
        resume = None
        if 0 < after < spec.epochs:
            resume = interrupted(EngineJob(spec), after=[after]).taken["0"]
        gang.append(EngineJob(spec, None, resume))
    together = train_together(*gang, data=few())
    for i, (spec, _) in enumerate(jobs):
        assert_same(together.trained(str(i)), train_together(spec, data=few()).trained("0"))


@pytest.fixture
def three(tmp_path: Path) -> list[Path]:
    """The files of checkpoints after epochs 1, 2 and 3 of a job, by three attempts."""
    spec = job(epochs=4, optimizer="adam")
    for epoch in (1, 2, 3):
        save_checkpoint(interrupted(EngineJob(spec), after=[epoch]).taken["0"], OWNER, tmp_path, epoch)
    return sorted(tmp_path.iterdir())


def newest(folder: Path) -> tuple[int | None, list[str]]:
    """The last epoch of the newest valid checkpoint, and the warnings about others."""
    warnings: list[str] = []
    found = newest_checkpoint(OWNER, folder, warnings.append)
    return (len(found.curve) if found else None), warnings


def test_newest_checkpoint_of_any_attempt_is_used(three: list[Path], tmp_path: Path) -> None:
    assert newest(tmp_path) == (3, [])


@pytest.mark.parametrize("size", [0, 7, 100, -1])
def test_truncated_checkpoint_is_skipped_with_a_warning(three: list[Path], tmp_path: Path, size: int) -> None:
    three[2].write_bytes(three[2].read_bytes()[:size])
    assert newest(tmp_path) == (2, [f"checkpoint {three[2].name} skipped: the file is damaged"])


def test_checkpoint_with_one_flipped_bit_is_skipped(three: list[Path], tmp_path: Path) -> None:
    for path in three:
        content = bytearray(path.read_bytes())
        content[-5] ^= 1
        path.write_bytes(content)
    found, warnings = newest(tmp_path)
    assert found is None
    assert len(warnings) == 3


def test_unreadable_checkpoint_is_skipped(three: list[Path], tmp_path: Path) -> None:
    three[2].unlink()
    three[2].mkdir()
    found, warnings = newest(tmp_path)
    assert found == 2
    assert "Is a directory" in warnings[0]


@pytest.mark.parametrize(
    ("other", "reason"),
    [
        ({"job": "another"}, "job was a job, now another"),
        ({"environment": "there"}, "environment was here, now there"),
    ],
)
def test_checkpoint_of_another_job_or_environment_is_skipped(
    three: list[Path], tmp_path: Path, other: dict[str, str], reason: str
) -> None:
    warnings: list[str] = []
    assert newest_checkpoint({**OWNER, **other}, tmp_path, warnings.append) is None
    assert len(warnings) == 3
    assert reason in warnings[0]


def test_attempt_keeps_its_last_two_checkpoints_and_those_of_others(tmp_path: Path) -> None:
    spec = job(epochs=5)
    save_checkpoint(interrupted(EngineJob(spec), after=[1]).taken["0"], OWNER, tmp_path, 1)
    for epoch in (2, 3, 4):
        save_checkpoint(interrupted(EngineJob(spec), after=[epoch]).taken["0"], OWNER, tmp_path, 2)
    names = sorted(path.name.rpartition("-")[0] for path in tmp_path.iterdir())
    assert names == ["attempt-1-epoch-1", "attempt-2-epoch-3", "attempt-2-epoch-4"]


def test_missing_folder_has_no_checkpoint(tmp_path: Path) -> None:
    assert newest(tmp_path / "missing") == (None, [])


def test_file_is_synced_before_it_is_renamed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Then its folder is synced too: after a power failure the file is either complete or absent."""
    events: list[tuple[str, ...]] = []
    fsync, replace = os.fsync, os.replace

    def named(descriptor: int) -> str:
        return Path(os.readlink(f"/proc/self/fd/{descriptor}")).name

    def recorded_fsync(descriptor: int) -> None:
        events.append(("fsync", named(descriptor)))
        fsync(descriptor)

    def recorded_replace(source: str, target: str, *, src_dir_fd: int, dst_dir_fd: int) -> None:
        events.append(("rename", source, target))
        replace(source, target, src_dir_fd=src_dir_fd, dst_dir_fd=dst_dir_fd)

    monkeypatch.setattr(os, "fsync", recorded_fsync)
    monkeypatch.setattr(os, "replace", recorded_replace)
    save_checkpoint(interrupted(EngineJob(job(epochs=2)), after=[1]).taken["0"], OWNER, tmp_path, 1)
    (file,) = tmp_path.iterdir()
    temporary = events[0][1]
    assert re.fullmatch(rf"\.{re.escape(file.name)}\.[0-9a-f]{{16}}", temporary), "a name that nobody can guess"
    assert events == [("fsync", temporary), ("rename", temporary, file.name), ("fsync", tmp_path.name)]
