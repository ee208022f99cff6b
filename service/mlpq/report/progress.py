"""Live progress of jobs until they are finished: bars in a terminal, lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from mlpq import formatting
from mlpq.records import JobRecord, RunningJob, WaitSnapshot

BARS_AT_MOST = 8  # jobs shown at a time; the first line counts them all


def show(snapshots: Iterable[WaitSnapshot], console: Console, total: int) -> None:
    """Draw the snapshots of `total` jobs as they come, until there are no more."""
    if console.is_terminal:
        _show_bars(snapshots, console, total)
    else:
        _show_lines(snapshots, console, total)


def _show_bars(snapshots: Iterable[WaitSnapshot], console: Console, total: int) -> None:
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=10),
        TextColumn("{task.fields[figures]}", markup=False),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        all_jobs = progress.add_task("all jobs", total=total, figures="")
        bars: dict[str, TaskID] = {}
        began, done_before = time.monotonic(), -1
        for snapshot in snapshots:
            done = total - len(snapshot.unfinished)
            if done_before < 0:
                done_before = done
            partly = sum(_epoch(job) / job.spec.epochs for job in snapshot.running)
            eta = _eta(time.monotonic() - began, done + partly - done_before, total - done_before)
            figures = f"{done} of {total} done{eta} {snapshot.obstacle}"
            progress.update(all_jobs, completed=done + partly, figures=figures)
            _show_running(progress, bars, snapshot.running)


def _show_running(progress: Progress, bars: dict[str, TaskID], running: Sequence[RunningJob]) -> None:
    for job_id in set(bars) - {job.id for job in running}:
        progress.remove_task(bars.pop(job_id))
    for job in running[:BARS_AT_MOST]:
        if job.id not in bars:
            label = f"{formatting.short_id(job.id)} {formatting.optimizer(job.spec)} seed {job.spec.seed}"
            bars[job.id] = progress.add_task(label, total=job.spec.epochs, figures="")
        progress.update(bars[job.id], completed=_epoch(job), figures=_figures(job))


def _epoch(job: RunningJob) -> int:
    return 0 if job.latest is None else job.latest.epoch


def _figures(job: RunningJob) -> str:
    latest, epochs = job.latest, job.spec.epochs
    if latest is None:
        return f"epoch 0/{epochs}"
    elapsed = (job.now - job.started_at).total_seconds()
    accuracy = formatting.percent(latest.test_accuracy)
    eta = _eta(elapsed, latest.epoch, epochs)
    return f"epoch {latest.epoch}/{epochs} loss {latest.train_loss:.3f} {accuracy}{eta}"


def _eta(elapsed: float, done: float, total: float) -> str:
    """The time left after `done` of `total` took `elapsed` seconds; empty where nothing is done yet."""
    return f" {formatting.seconds(elapsed / done * (total - done))} left" if done else ""


def _show_lines(snapshots: Iterable[WaitSnapshot], console: Console, total: int) -> None:
    done, obstacle = 0, ""
    for snapshot in snapshots:
        for job in snapshot.finished:
            done += 1
            console.print(f"[{done} of {total}] {finished_line(job)}", markup=False)
        if snapshot.obstacle and snapshot.obstacle != obstacle:
            console.print(snapshot.obstacle, markup=False)
        obstacle = snapshot.obstacle


def finished_line(job: JobRecord) -> str:
    """A finished job in one line: what it was, and its figures or why it has none."""
    label = (
        f"{formatting.short_id(job.id)} {formatting.model(job.spec)}, {formatting.optimizer(job.spec)}, "
        f"seed {job.spec.seed}"
    )
    if job.result is None:
        return f"{label}: {formatting.status(job)}: {job.error}"
    return f"{label}: {formatting.figures(job.result)} in {formatting.seconds(job.result.train_seconds)}"
