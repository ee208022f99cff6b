"""Live progress: one line per finished job in a file or a pipe, bars in a terminal."""

from __future__ import annotations

import io
import itertools
import re
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
from mlpq.report.progress import Progress, Tracker, bars, show
from tests.support.result_rows import SUBMITTED, curve, failed_job, job_record, specs

ONE, TWO = specs(seeds="0..1")
IDS = [job_record(ONE, 1).id, job_record(TWO, 2).id]
RUNNING = RunningJob(IDS[0], ONE, SUBMITTED, SUBMITTED + timedelta(seconds=30), curve([20, 30, 80])[-1])
PLANNED = dict.fromkeys(IDS, 10)
SNAPSHOTS = [
    WaitSnapshot(IDS, [], [], "waiting for a worker"),
    WaitSnapshot(IDS, [RUNNING], [], "waiting for a worker"),
    WaitSnapshot(IDS[1:], [], [job_record(ONE, 1, 450)], "waiting for a worker"),
    WaitSnapshot([], [], [failed_job(TWO, 2, Outcome.DIVERGED, error="the loss became nan in epoch 1")], ""),
]


def shown(snapshots: Sequence[WaitSnapshot], *, is_terminal: bool) -> str:
    out = io.StringIO()
    show(snapshots, Console(file=out, force_terminal=is_terminal, width=120), PLANNED)
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
    assert "0 of 2 jobs done" in drawn
    assert "waiting for a worker" in drawn
    assert "00000001 sgd lr=0.001 seed 0" in drawn
    assert "epoch 3/10 loss 0.333 80.00 %, 1:10 left" in drawn
    assert "2 of 2 jobs done" in shown(SNAPSHOTS, is_terminal=True)


def test_no_snapshot_draws_nothing() -> None:
    assert shown([], is_terminal=False) == ""


def running(number: int, epoch: int, seconds: float) -> RunningJob:
    """A job of ten epochs that has trained `epoch` of them in so many seconds."""
    (spec,) = specs(seeds=4_294_967_295 - number, optimizer="sgd:momentum=0.9")
    latest = curve([50] * epoch)[-1] if epoch else None
    return RunningJob(job_record(spec, number).id, spec, SUBMITTED, SUBMITTED + timedelta(seconds=seconds), latest)


def progress_of(snapshot: WaitSnapshot) -> Progress:
    """The progress of jobs that are all to train ten epochs."""
    return Tracker(dict.fromkeys(snapshot.unfinished, 10)).of(snapshot)


def left_of(snapshot: WaitSnapshot) -> float | None:
    return progress_of(snapshot).seconds_left


@given(jobs=st.lists(st.tuples(st.integers(0, 10), st.floats(0.1, 1e5)), max_size=6), queued=st.integers(0, 20))
def test_the_time_left_is_never_less_than_that_of_a_running_job(jobs: list[tuple[int, float]], queued: int) -> None:
    found = [running(number, epoch, seconds) for number, (epoch, seconds) in enumerate(jobs)]
    snapshot = WaitSnapshot([*(job.id for job in found), *map(str, range(queued))], found, [], "")
    left = left_of(snapshot)
    own = [seconds / epoch * (10 - epoch) for epoch, seconds in jobs if epoch]
    assert (left is None) == (not own)
    assert left is None or left >= max(own) * 0.999


def test_the_time_left_of_equal_jobs_is_theirs_whenever_the_watch_began() -> None:
    jobs = [running(number, 1, 26.3) for number in range(4)]
    out = io.StringIO()
    snapshot = WaitSnapshot([job.id for job in jobs], jobs, [], "")
    Console(file=out, width=90).print(bars(snapshot, progress_of(snapshot), 90))
    assert out.getvalue().count("3:57 left") == 5


def test_the_time_left_by_the_kernel_does_not_count_the_wait_in_the_gang() -> None:
    """Two of nine jobs train at a time, an epoch in half a second; these have waited for a minute."""
    jobs = [replace(running(number, 4, 60), by_kernel=True) for number in range(2)]
    waiting = [replace(running(number, 0, 60), by_kernel=True) for number in range(2, 9)]
    snapshot = WaitSnapshot([job.id for job in (*jobs, *waiting)], [*jobs, *waiting], [], "")
    out = io.StringIO()
    Console(file=out, width=90).print(bars(snapshot, Progress(0, 9, 0.1, None), 90, at_most=9))
    assert out.getvalue().count(" 3.0 s left") == 2
    left = left_of(snapshot)
    assert left == pytest.approx((7 + 2 * 0.6) * 10 * 0.5 / 2)


def test_the_time_left_follows_finished_jobs_while_no_epoch_is_recorded() -> None:
    tracker = Tracker({"a": 10, "b": 10})
    assert tracker.of(WaitSnapshot(["a", "b"], [], [], "")).seconds_left is None
    assert tracker.of(WaitSnapshot(["b"], [], [], "")).seconds_left is not None


@given(width=st.integers(20, 200))
def test_a_notice_leaves_names_figures_and_bars_whole(width: int) -> None:
    jobs = [running(number, 3, 60) for number in range(3)]
    notice = "4 jobs waiting for a cuda worker that can run 2 processes; none is alive: mlpq worker --device cuda"
    snapshot = WaitSnapshot([*(job.id for job in jobs), "queued"], jobs, [], notice)
    out = io.StringIO()
    Console(file=out, width=width).print(bars(snapshot, Progress(0, 4, 0.1, 99.0), width))
    lines = out.getvalue().splitlines()
    assert max(map(len, lines)) <= width
    assert "".join(notice.split()) in "".join("".join(lines).split())
    text = " ".join(" ".join(lines).split())
    for piece in ("00000001", "4294967294", "0 of 4 jobs done, 1:39 left"):
        assert piece in text
    if width >= 76:
        assert sum("━━━" in line and "epoch 3/10 loss 0.333 50.00 %, 2:20 left" in line for line in lines) == 3


def test_a_pipe_gets_a_line_about_the_progress_every_few_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = itertools.count(step=60.0)
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: float(next(clock))))
    assert shown(SNAPSHOTS, is_terminal=False).splitlines() == [
        "waiting for a worker",
        "0 of 2 jobs done, 0 running, 0 % of the epochs",
        "0 of 2 jobs done, 1 running, epoch 3/10, 2:50 left",
        "[1 of 2] 00000001 MLP 32 sigmoid, sgd lr=0.001, seed 0: 450 of 500 (90.00 %) in 1.5 s",
        "1 of 2 jobs done, 0 running, 50 % of the epochs, 4:00 left",
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
    show(SNAPSHOTS, tables.console(file=out), PLANNED)
    assert "\x1b" not in out.getvalue()
    assert len(out.getvalue().splitlines()) == 3


def test_the_bar_of_all_jobs_is_of_epochs_not_of_jobs() -> None:
    """Nine short jobs are finished, and one of 91 epochs has trained 10."""
    (long,) = specs(epochs=91)
    job = RunningJob("long", long, SUBMITTED, SUBMITTED + timedelta(seconds=10), curve([50] * 10)[-1])
    progress = Tracker({"long": 91, **{str(n): 1 for n in range(9)}}).of(WaitSnapshot(["long"], [job], [], ""))
    assert (progress.done, progress.total) == (9, 10)
    assert progress.share == pytest.approx(19 / 100)
    assert progress.seconds_left == pytest.approx(81)


def test_jobs_that_do_not_fit_are_counted() -> None:
    jobs = [running(number, 1, 60) for number in range(12)]
    snapshot = WaitSnapshot([job.id for job in jobs], jobs, [], "")
    out = io.StringIO()
    show(
        [snapshot], Console(file=out, force_terminal=True, width=120, height=24), dict.fromkeys(snapshot.unfinished, 10)
    )
    assert "4 more running" in out.getvalue()
    out = io.StringIO()
    show(
        [snapshot], Console(file=out, force_terminal=True, width=120, height=8), dict.fromkeys(snapshot.unfinished, 10)
    )
    assert "8 more running" in out.getvalue()


def test_no_color_of_a_bar_looks_like_an_error() -> None:
    jobs = [running(1, 5, 60), running(2, 10, 60)]
    snapshot = WaitSnapshot([job.id for job in jobs], jobs, [], "")
    out = io.StringIO()
    Console(file=out, force_terminal=True, color_system="truecolor", width=120).print(
        bars(snapshot, progress_of(snapshot), 120)
    )
    codes = set(re.findall(r"\x1b\[([\d;]+)m", out.getvalue())) - {"0"}
    # Cyan and green, and the gray of what is left.
    assert codes <= {"36", "32", "90", "38;5;237"}
    assert {"36", "32"} <= codes


def test_a_notebook_gets_one_line_that_changes() -> None:
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=60, highlight=False)
    show(SNAPSHOTS, console, PLANNED, in_notebook=True)
    text = out.getvalue()
    assert "\x1b" not in text
    assert text.count("\n") == 1
    assert text.endswith("\n")
    assert [line.strip() for line in text.split("\r")[1:]] == [
        "0 of 2 jobs done, 0 running, 0 % of the epochs; waiting for a worker",
        "0 of 2 jobs done, 1 running, epoch 3/10, 2:50 left; waiting for a worker",
        f"1 of 2 jobs done, 0 running, 50 % of the epochs, {text.split('epochs, ')[1].split(' left')[0]} left; "
        "waiting for a worker",
        "2 of 2 jobs done",
    ]


def test_a_long_log_lists_only_jobs_that_failed() -> None:
    jobs = [job_record(ONE, number, 450) for number in range(20)]
    assert shown([WaitSnapshot([], [], jobs, "")], is_terminal=False).count("\n") == 20
    bad = failed_job(TWO, 20, error="it broke")
    out = io.StringIO()
    planned = {job.id: 10 for job in (*jobs, bad)}
    show([WaitSnapshot([], [], [*jobs, bad], "")], Console(file=out, width=120), planned)
    (line,) = out.getvalue().splitlines()
    assert line.startswith("[21 of 21]")
    assert "it broke" in line
