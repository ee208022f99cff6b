"""Messages between a worker and its training process are read back as they were written."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlpq.records import EpochMetrics
from mlpq_workers.protocol import (
    Alive,
    Command,
    Died,
    EpochDone,
    Event,
    JobDiverged,
    JobFailed,
    JobStopped,
    JobSucceeded,
    Leave,
    Ready,
    StopJob,
    TrainGang,
    TrainingSettings,
    TrainJob,
    Unusable,
    parse_command,
    parse_event,
)
from tests.support.gang_training import job
from tests.support.job_steps import IMAGES, RESULT, epoch

PARENT = job()
JOBS = (
    TrainJob("a", 1, PARENT, None, None, Path("/artifacts/a/attempt-1.safetensors")),
    TrainJob(
        "b", 2, job(PARENT, optimizer="adam:betas=0.8/0.99"), Path("/parent"), "0" * 64, Path("/artifacts/b/attempt-2")
    ),
)
COMMANDS: list[Command] = [TrainGang(JOBS), StopJob("a/1"), Leave()]
EVENTS: list[Event] = [
    Ready("cuda", "2 x H100", 2, {"world_size": 2, "gpu": None, "determinism": {"tf32": False}}),
    Unusable("no device"),
    Alive(),
    EpochDone("a/1", epoch(1)),
    JobSucceeded("a/1", RESULT, IMAGES),
    JobDiverged("a/1", "the loss became nan in epoch 1"),
    JobStopped("a/1"),
    JobFailed("a/1", "OSError: \0 \u2028", alone=True, lines=("Traceback", "\u2028")),
    Died("signal SIGKILL"),
]


@pytest.mark.parametrize("command", COMMANDS, ids=lambda message: message.kind)
def test_command_is_read_back_from_one_line(command: Command) -> None:
    assert "\n" not in command.dump()
    assert parse_command(command.dump()) == command


@pytest.mark.parametrize("event", EVENTS, ids=lambda message: message.kind)
def test_event_is_read_back_from_one_line(event: Event) -> None:
    assert "\n" not in event.dump()
    assert parse_event(event.dump()) == event


def test_settings_are_read_back() -> None:
    settings = TrainingSettings(1, "cpu", None, 4, "/data", 60, "/scratch")
    assert TrainingSettings.parse(settings.dump()) == settings


def test_spec_keeps_its_hash() -> None:
    command = parse_command(TrainGang(JOBS).dump())
    assert isinstance(command, TrainGang)
    assert [each.spec.hash for each in command.jobs] == [each.spec.hash for each in JOBS]
    assert [each.token for each in command.jobs] == ["a/1", "b/2"]


@given(st.floats(allow_nan=False, allow_infinity=False), st.floats(min_value=0, allow_infinity=False))
def test_figures_keep_their_bits(loss: float, seconds: float) -> None:
    metrics = EpochMetrics(1, loss, loss, 1, 2, -loss, 3, 4, seconds)
    event = parse_event(EpochDone("a/1", metrics).dump())
    assert isinstance(event, EpochDone)
    assert repr(event.metrics) == repr(metrics)


@pytest.mark.parametrize("line", ["", "{", "{}", '{"kind": "unknown"}', '{"kind": "job_stopped"}', json.dumps([1])])
def test_line_that_is_no_event_is_rejected(line: str) -> None:
    with pytest.raises(ValueError, match="validation error"):
        parse_event(line)


@given(st.text(st.characters(codec=None)))
def test_any_error_text_becomes_one_line_of_ascii_that_is_read_back(error: str) -> None:
    """The name of a file in it may hold bytes that are not UTF-8, which Python keeps as lone surrogates."""
    for event in (Unusable(error), JobDiverged("a/1", error), JobFailed("a/1", error), Died(error)):
        line = event.dump()
        assert line.isascii()
        assert "\n" not in line
        assert parse_event(line) == event


def test_job_that_fails_is_retried_as_before_and_jobs_of_a_process_that_died_alone() -> None:
    assert not JobFailed("a/1", "no such file").alone
    assert Died("signal SIGKILL").alone


def test_reason_of_a_failure_can_be_stored_whatever_it_contains() -> None:
    assert JobFailed("a/1", "no file \udcff").error == "no file \\udcff"
