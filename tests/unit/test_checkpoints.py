"""A job that was interrupted goes on from its checkpoint and ends with the bits of one that never was."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlpq.spec.job import JobSpec
from mlpq_workers.engine import plain as plain_engine
from mlpq_workers.engine.gang_members import Member
from mlpq_workers.engine.training_state import Checkpoint, Stopped, Trained
from mlpq_workers.trainer.checkpoints import newest_checkpoint, save_checkpoint
from tests.support.gang_training import OPTIMIZERS_AND_OPTIONS, Record, assert_same, few, goes_on, job, train_together

pytestmark = pytest.mark.usefixtures("one_thread")

WHOSE = {"job": "a job", "environment": "here"}


class Interrupt(Record):
    """Takes a checkpoint of each member after as many epochs as `after` says, and ends it there."""

    def __init__(self, after: dict[str, int]) -> None:
        super().__init__()
        self._after = after
        self.taken: dict[str, Checkpoint] = {}

    def between(self, member: str, take: Callable[[], Checkpoint]) -> bool:
        if len(self.epochs[member]) != self._after.get(member):
            return False
        self.taken[member] = take()
        return True


def through_a_file(checkpoint: Checkpoint, folder: Path) -> Checkpoint:
    save_checkpoint(checkpoint, WHOSE, folder, 1)
    found = newest_checkpoint(WHOSE, folder, pytest.fail)
    assert found is not None
    return found


def interrupted(*members: Member, after: Collection[int | None]) -> Interrupt:
    moments = {str(i): moment for i, moment in enumerate(after) if moment is not None}
    record = Interrupt(moments)
    train_together(*members, data=few(), observer=record)
    assert all(isinstance(record.endings[name], Stopped) for name in moments)
    return record


@pytest.mark.parametrize("optimizer", OPTIMIZERS_AND_OPTIONS)
def test_a_stacked_job_goes_on_as_if_it_had_never_been_interrupted(optimizer: str, tmp_path: Path) -> None:
    spec = job(optimizer=optimizer, epochs=4, dropout=0.2)
    whole = train_together(spec, data=few())
    first = interrupted(Member(spec), after=[2])
    resumed = train_together(Member(spec, None, through_a_file(first.taken["0"], tmp_path)), data=few())
    assert_same(resumed.trained("0"), whole.trained("0"))
    assert [epoch.epoch for epoch in resumed.epochs["0"]] == [3, 4]


@pytest.mark.parametrize("optimizer", OPTIMIZERS_AND_OPTIONS)
def test_a_job_of_the_plain_engine_goes_on_as_if_it_had_never_been_interrupted(optimizer: str, tmp_path: Path) -> None:
    spec = job(optimizer=optimizer, epochs=4, dropout=0.2, l1=1e-4)
    whole = plain_engine.train(spec, few(), "cpu")
    taken: list[Checkpoint] = []

    def between(take: Callable[[], Checkpoint]) -> bool:
        taken.append(take())
        return len(taken) == 2

    with pytest.raises(Stopped):
        plain_engine.train(spec, few(), "cpu", between=between)
    resume = through_a_file(taken[-1], tmp_path)
    assert_same(plain_engine.train(spec, few(), "cpu", resume=resume), whole)


def plain(member: Member) -> Trained:
    return plain_engine.train(member.spec, few(), "cpu", member.start, member.resume)


def stacked(member: Member) -> Trained:
    return train_together(member, data=few()).trained("0")


@pytest.mark.parametrize("train", [plain, stacked])
@pytest.mark.parametrize("after", [1, 3, 5])
def test_early_stopping_remembers_its_best_epoch(
    train: Callable[[Member], Trained], after: int, tmp_path: Path
) -> None:
    spec = job(optimizer="adam:lr=0.05", epochs=30, validation=0.3, patience=3)
    whole = train(Member(spec))
    assert after < whole.epochs_run
    assert whole.best_epoch < whole.epochs_run
    taken: list[Checkpoint] = []

    def between(take: Callable[[], Checkpoint]) -> bool:
        taken.append(take())
        return len(taken) == after

    if train is plain:
        with pytest.raises(Stopped):
            plain_engine.train(spec, few(), "cpu", between=between)
    else:
        taken.append(interrupted(Member(spec), after=[after]).taken["0"])
    assert_same(train(Member(spec, None, through_a_file(taken[-1], tmp_path))), whole)


def test_a_job_that_went_on_from_a_parent_goes_on_from_itself(tmp_path: Path) -> None:
    parent = job(dropout=0.3)
    start = goes_on(train_together(parent, data=few()).trained("0"))
    child = job(parent, optimizer="adam", dropout=0.3, epochs=3)
    whole = train_together(Member(child, start), data=few()).trained("0")
    first = interrupted(Member(child, start), after=[1])
    resume = through_a_file(first.taken["0"], tmp_path)
    assert_same(train_together(Member(child, None, resume), data=few()).trained("0"), whole)


SPECS = [
    job(epochs=epochs, optimizer=optimizer, seeds=seed, dropout=dropout)
    for epochs, dropout in ((2, 0.0), (4, 0.2))
    for optimizer in ("sgd", "adam", "nadam", "sgd:lr=0.1,momentum=0.9")
    for seed in (1, 2)
]


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(members=st.lists(st.tuples(st.sampled_from(SPECS), st.integers(0, 3)), min_size=1, max_size=6))
def test_whoever_shares_the_gang_and_whenever_each_was_interrupted(members: list[tuple[JobSpec, int]]) -> None:
    """Some have been interrupted before, at different epochs, and are resumed beside others that begin."""
    gang = []
    for spec, after in members:
        resume = None
        if 0 < after < spec.epochs:
            resume = interrupted(Member(spec), after=[after]).taken["0"]
        gang.append(Member(spec, None, resume))
    together = train_together(*gang, data=few())
    for i, (spec, _) in enumerate(members):
        assert_same(together.trained(str(i)), train_together(spec, data=few()).trained("0"))


@pytest.fixture
def three(tmp_path: Path) -> list[Path]:
    """The files of checkpoints after epochs 1, 2 and 3 of a job, by three attempts."""
    spec = job(epochs=4, optimizer="adam")
    for epoch in (1, 2, 3):
        save_checkpoint(interrupted(Member(spec), after=[epoch]).taken["0"], WHOSE, tmp_path, epoch)
    return sorted(tmp_path.iterdir())


def newest(folder: Path) -> tuple[int | None, list[str]]:
    """The last epoch of the checkpoint that is found, and what was said of others."""
    told: list[str] = []
    found = newest_checkpoint(WHOSE, folder, told.append)
    return (len(found.curve) if found else None), told


def test_the_newest_is_taken_whatever_its_attempt(three: list[Path], tmp_path: Path) -> None:
    assert newest(tmp_path) == (3, [])


@pytest.mark.parametrize("size", [0, 7, 100, -1])
def test_a_torn_one_is_passed_over_with_a_warning(three: list[Path], tmp_path: Path, size: int) -> None:
    three[2].write_bytes(three[2].read_bytes()[:size])
    assert newest(tmp_path) == (2, [f"the checkpoint {three[2].name} is passed over: it is damaged"])


def test_one_bit_is_enough(three: list[Path], tmp_path: Path) -> None:
    for path in three:
        content = bytearray(path.read_bytes())
        content[-5] ^= 1
        path.write_bytes(content)
    found, told = newest(tmp_path)
    assert found is None
    assert len(told) == 3


def test_one_that_cannot_be_read_is_passed_over(three: list[Path], tmp_path: Path) -> None:
    three[2].unlink()
    three[2].mkdir()
    found, told = newest(tmp_path)
    assert found == 2
    assert "Is a directory" in told[0]


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ({"job": "another"}, "job was a job and is another"),
        ({"environment": "there"}, "environment was here and is there"),
    ],
)
def test_one_of_another_job_or_environment_is_passed_over(
    three: list[Path], tmp_path: Path, other: dict[str, str], said: str
) -> None:
    told: list[str] = []
    assert newest_checkpoint({**WHOSE, **other}, tmp_path, told.append) is None
    assert len(told) == 3
    assert said in told[0]


def test_an_attempt_keeps_its_last_two_and_leaves_others_alone(tmp_path: Path) -> None:
    spec = job(epochs=5)
    save_checkpoint(interrupted(Member(spec), after=[1]).taken["0"], WHOSE, tmp_path, 1)
    for epoch in (2, 3, 4):
        save_checkpoint(interrupted(Member(spec), after=[epoch]).taken["0"], WHOSE, tmp_path, 2)
    names = sorted(path.name.rpartition("-")[0] for path in tmp_path.iterdir())
    assert names == ["attempt-1-epoch-1", "attempt-2-epoch-3", "attempt-2-epoch-4"]


def test_without_any_there_is_nothing_to_go_on_from(tmp_path: Path) -> None:
    assert newest(tmp_path / "missing") == (None, [])


def test_a_file_is_on_the_disk_before_it_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Then its folder is, too: after a power cut it is either there and whole, or not there."""
    events: list[tuple[str, ...]] = []
    fsync, replace = os.fsync, os.replace

    def named(descriptor: int) -> str:
        return Path(os.readlink(f"/proc/self/fd/{descriptor}")).name

    def recorded_fsync(descriptor: int) -> None:
        events.append(("fsync", named(descriptor)))
        fsync(descriptor)

    def recorded_replace(source: Path, target: Path) -> None:
        events.append(("rename", source.name, target.name))
        replace(source, target)

    monkeypatch.setattr(os, "fsync", recorded_fsync)
    monkeypatch.setattr(os, "replace", recorded_replace)
    save_checkpoint(interrupted(Member(job(epochs=2)), after=[1]).taken["0"], WHOSE, tmp_path, 1)
    (file,) = tmp_path.iterdir()
    temporary = f".{file.name}.{os.getpid()}"
    assert events == [("fsync", temporary), ("rename", temporary, file.name), ("fsync", tmp_path.name)]
