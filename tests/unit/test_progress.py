"""Live progress: one line per finished job in a file or a pipe, bars in a terminal."""

from __future__ import annotations

import io
from collections.abc import Sequence
from datetime import timedelta

from rich.console import Console

from mlpq.jobs import Outcome
from mlpq.records import RunningJob, WaitSnapshot
from mlpq.report.progress import show
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
