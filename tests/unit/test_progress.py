"""Live progress: one line per finished job in a file or a pipe, bars in a terminal."""

from __future__ import annotations

import io
import itertools
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from mlpq.jobs import Outcome
from mlpq.records import RunningJob, WaitSnapshot
from mlpq.report import progress, tables
from mlpq.report.progress import ROOM, TimeLeft, bars, show
from tests.support.result_rows import SUBMITTED, curve, failed_job, job_record, specs

ONE, TWO = specs(seeds="0..1")
IDS = [job_record(ONE, 1).id, job_record(TWO, 2).id]
RUNNING = RunningJob(IDS[0], ONE, SUBMITTED, SUBMITTED + timedelta(seconds=30), curve([20, 30, 80])[-1])
SNAPSHOTS = [
    WaitSnapshot(IDS, [], [], "waiting for a worker"),
    WaitSnapshot(IDS, [RUNNING], [], "waiting for a worker"),
    WaitSnapshot(IDS[1:], [], [job_record(ONE, 1, 450)], "waiting for a worker"),
    WaitSnapshot([], [], [failed_job(TWO, 2, Outcome.DIVERGED, error="the loss became nan in epoch 1")], ""),
]


def shown(snapshots: Sequence[WaitSnapshot], *, is_terminal: bool) -> str:
    out = io.StringIO()
    show(snapshots, Console(file=out, force_terminal=is_terminal, width=120), total=2)
    return out.getvalue()


def test_a_file_gets_a_line_per_finished_job_and_each_obstacle_once() -> None:
    assert shown(SNAPSHOTS, is_terminal=False).splitlines() == [
        "waiting for a worker",
        "[1 of 2] 00000001 MLP 32 sigmoid, sgd lr=0.001, seed 0: 450 of 500 (90.00 %) in 1.5 s",
        "[2 of 2] 00000002 MLP 32 sigmoid, sgd lr=0.001, seed 1: diverged: the loss became nan in epoch 1",
    ]


def test_a_terminal_gets_bars_for_all_jobs_and_for_the_running_ones() -> None:
    drawn = shown(SNAPSHOTS[:2], is_terminal=True)
    assert "all jobs" in drawn
    assert "0 of 2 done" in drawn
    assert "waiting for a worker" in drawn
    assert "00000001 sgd lr=0.001 seed 0" in drawn
    assert "epoch 3/10 loss 0.333 80.00 % 1:10 left" in drawn
    assert "2 of 2 done" in shown(SNAPSHOTS, is_terminal=True)


def test_no_snapshot_draws_nothing() -> None:
    assert shown([], is_terminal=False) == ""


def running(number: int, epoch: int, seconds: float) -> RunningJob:
    """A job of ten epochs that has trained `epoch` of them in so many seconds."""
    (spec,) = specs(seeds=4_294_967_295 - number, optimizer="sgd:momentum=0.9")
    latest = curve([50] * epoch)[-1] if epoch else None
    return RunningJob(job_record(spec, number).id, spec, SUBMITTED, SUBMITTED + timedelta(seconds=seconds), latest)


@given(jobs=st.lists(st.tuples(st.integers(0, 10), st.floats(0.1, 1e5)), max_size=6), queued=st.integers(0, 20))
def test_the_time_left_is_never_less_than_that_of_a_running_job(jobs: list[tuple[int, float]], queued: int) -> None:
    found = [running(number, epoch, seconds) for number, (epoch, seconds) in enumerate(jobs)]
    snapshot = WaitSnapshot([*(job.id for job in found), *map(str, range(queued))], found, [], "")
    left = TimeLeft().of(snapshot)
    own = [seconds / epoch * (10 - epoch) for epoch, seconds in jobs if epoch]
    assert (left is None) == (not own)
    assert left is None or left >= max(own) * 0.999


def test_the_time_left_of_equal_jobs_is_theirs_whenever_the_watch_began() -> None:
    jobs = [running(number, 1, 26.3) for number in range(4)]
    out = io.StringIO()
    Console(file=out, width=80).print(bars(WaitSnapshot([job.id for job in jobs], jobs, [], ""), 4, 236.7, 80))
    assert out.getvalue().count("3:57 left") == 5
    left = TimeLeft().of(WaitSnapshot([job.id for job in jobs], jobs, [], ""))
    assert left is not None
    assert round(left) == 237


def test_the_time_left_by_the_kernel_does_not_count_the_wait_in_the_gang() -> None:
    """Two of nine jobs train at a time, an epoch in half a second; these have waited for a minute."""
    jobs = [replace(running(number, 4, 60), by_kernel=True) for number in range(2)]
    waiting = [replace(running(number, 0, 60), by_kernel=True) for number in range(2, 9)]
    snapshot = WaitSnapshot([job.id for job in (*jobs, *waiting)], [*jobs, *waiting], [], "")
    out = io.StringIO()
    Console(file=out, width=80).print(bars(snapshot, 9, None, 80))
    assert out.getvalue().count(" 3.0 s left") == 2
    left = TimeLeft().of(snapshot)
    assert left == pytest.approx((7 + 2 * 0.6) * 10 * 0.5 / 2)


def test_the_time_left_follows_finished_jobs_while_no_epoch_is_recorded() -> None:
    left = TimeLeft()
    assert left.of(WaitSnapshot(["a", "b"], [], [], "")) is None
    assert left.of(WaitSnapshot(["b"], [], [], "")) is not None


@given(width=st.integers(20, 200))
def test_a_notice_leaves_names_figures_and_bars_whole(width: int) -> None:
    jobs = [running(number, 3, 60) for number in range(3)]
    notice = "4 jobs waiting for a cuda worker that can run 2 processes; none is alive: mlpq worker --device cuda"
    snapshot = WaitSnapshot([*(job.id for job in jobs), "queued"], jobs, [], notice)
    out = io.StringIO()
    Console(file=out, width=width).print(bars(snapshot, 4, 99.0, width))
    lines = out.getvalue().splitlines()
    assert max(map(len, lines)) <= width
    assert "".join(notice.split()) in "".join("".join(lines).split())
    text = " ".join(" ".join(lines).split())
    for piece in ("00000001", "4294967294", "0 of 4 done 1:39 left"):
        assert piece in text
    if width >= ROOM:
        assert sum("━━━" in line and "epoch 3/10 loss 0.333 50.00 % 2:20 left" in line for line in lines) == 3


def test_a_pipe_gets_a_line_about_the_progress_every_few_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = itertools.count(step=progress.MAX_LINE_SECONDS)
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: float(next(clock))))
    assert shown(SNAPSHOTS, is_terminal=False).splitlines() == [
        "waiting for a worker",
        "0 of 2 done, 0 running",
        "0 of 2 done, 1 running, epoch 3/10, 2:50 left",
        "[1 of 2] 00000001 MLP 32 sigmoid, sgd lr=0.001, seed 0: 450 of 500 (90.00 %) in 1.5 s",
        "1 of 2 done, 0 running, 4:00 left",
        "[2 of 2] 00000002 MLP 32 sigmoid, sgd lr=0.001, seed 1: diverged: the loss became nan in epoch 1",
    ]


def test_a_terminal_that_cannot_move_its_cursor_gets_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    drawn = shown(SNAPSHOTS, is_terminal=True)
    assert "\x1b" not in drawn
    assert drawn.split() == shown(SNAPSHOTS, is_terminal=False).split()


def test_colors_that_are_forced_do_not_draw_over_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    out = io.StringIO()
    show(SNAPSHOTS, tables.console(file=out), total=2)
    assert "\x1b" not in out.getvalue()
    assert len(out.getvalue().splitlines()) == 3
