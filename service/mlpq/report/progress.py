"""Live progress of jobs until they are finished: bars in a terminal, lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from mlpq import formatting
from mlpq.records import AnyJob, JobRecord, RunningJob, WaitSnapshot

BARS_AT_MOST = 8  # jobs shown at a time; the first line counts them all
BAR_WIDTH = 10  # characters
ROOM = 76  # columns from which on a job's name, bar and figures are side by side
LINE_SECONDS, MAX_LINE_SECONDS = 5.0, 60.0  # between two lines about the progress, at first and in a long wait


def show(
    snapshots: Iterable[WaitSnapshot],
    console: Console,
    total: int,
    above: Callable[[WaitSnapshot], RenderableType] | None = None,
) -> None:
    """Draw the snapshots of `total` jobs as they come, until there are no more; in a terminal with what is `above`."""
    if console.is_interactive:
        _show_bars(snapshots, console, total, above)
    else:
        _show_lines(snapshots, console, total)


class TimeLeft:
    """Estimates the time until all jobs are finished."""

    def __init__(self) -> None:
        self._began, self._unfinished = time.monotonic(), -1

    def of(self, snapshot: WaitSnapshot) -> float | None:
        """Seconds left, by the pace of the running jobs, or else of those that finished; None where nothing is known.

        It is at least the time left of each running job.
        """
        unfinished = len(snapshot.unfinished)
        self._unfinished = max(self._unfinished, unfinished)
        shares = [_epoch(job) / job.spec.epochs for job in snapshot.running]
        pace = sum(share / _elapsed(job) for share, job in zip(shares, snapshot.running, strict=True))
        if pace:
            own = [left for job in snapshot.running if (left := _time_left(job)) is not None]
            return max((unfinished - sum(shares)) / pace, *own)
        done = self._unfinished - unfinished
        return (time.monotonic() - self._began) / done * unfinished if done else None


def _show_bars(
    snapshots: Iterable[WaitSnapshot],
    console: Console,
    total: int,
    above: Callable[[WaitSnapshot], RenderableType] | None,
) -> None:
    left = TimeLeft()
    with Live(console=console, transient=True, refresh_per_second=10) as live:
        for snapshot in snapshots:
            drawn = bars(snapshot, total, left.of(snapshot), console.width)
            live.update(Group(above(snapshot), drawn) if above else drawn)


def bars(snapshot: WaitSnapshot, total: int, left: float | None, width: int) -> RenderableType:
    """A line for all jobs, one for each running job, and what keeps the others from running."""
    done = total - len(snapshot.unfinished)
    partly = sum(_epoch(job) / job.spec.epochs for job in snapshot.running)
    lines = [("all jobs", (done + partly) / total, f"{done} of {total} done{_left(left)}")]
    for job in snapshot.running[:BARS_AT_MOST]:
        label = f"{formatting.short_id(job.id)} {formatting.optimizer(job.spec)} seed {job.spec.seed}"
        lines.append((label, _epoch(job) / job.spec.epochs, _figures(job)))
    notice = [Text(snapshot.obstacle)] if snapshot.obstacle else []
    if width < ROOM:
        return Group(*(Text(f"{label}:\n  {figures}") for label, _, figures in lines), *notice)
    grid = Table.grid(padding=(0, 1, 0, 0))
    grid.add_column(overflow="fold")
    grid.add_column(width=BAR_WIDTH)
    grid.add_column(min_width=max(len(figures) for _, _, figures in lines), no_wrap=True)
    for label, share, figures in lines:
        grid.add_row(Text(label), ProgressBar(total=1.0, completed=share, width=BAR_WIDTH), Text(figures))
    return Group(grid, *notice)


def _epoch(job: RunningJob) -> int:
    return 0 if job.latest is None else job.latest.epoch


def _elapsed(job: RunningJob) -> float:
    """Seconds of the training so far."""
    if job.by_kernel and job.latest is not None:
        return max(job.latest.epoch * job.latest.seconds, 0.001)
    return max((job.now - job.started_at).total_seconds(), 0.001)


def _time_left(job: RunningJob) -> float | None:
    """Seconds until the job is finished; None before its first epoch."""
    epoch = _epoch(job)
    return _elapsed(job) / epoch * (job.spec.epochs - epoch) if epoch else None


def _figures(job: RunningJob) -> str:
    latest, epochs = job.latest, job.spec.epochs
    if latest is None:
        return f"epoch 0/{epochs}"
    accuracy = formatting.percent(latest.test_accuracy)
    return f"epoch {latest.epoch}/{epochs} loss {latest.train_loss:.3f} {accuracy}{_left(_time_left(job))}"


def _left(seconds: float | None) -> str:
    return "" if seconds is None else f" {formatting.seconds(seconds)} left"


def _show_lines(snapshots: Iterable[WaitSnapshot], console: Console, total: int) -> None:
    done, obstacle, left = 0, "", TimeLeft()
    began = latest = time.monotonic()
    for snapshot in snapshots:
        for job in snapshot.finished:
            done += 1
            console.print(f"[{done} of {total}] {finished_line(job)}", markup=False)
        if snapshot.obstacle and snapshot.obstacle != obstacle:
            console.print(snapshot.obstacle, markup=False)
        obstacle = snapshot.obstacle
        seconds, now = left.of(snapshot), time.monotonic()
        pause = min(max(LINE_SECONDS, (now - began) / 20), MAX_LINE_SECONDS)
        if snapshot.unfinished and now - latest >= pause:
            latest = now
            console.print(_progress_line(snapshot, total) + _left(seconds).replace(" ", ", ", 1), markup=False)


def _progress_line(snapshot: WaitSnapshot, total: int) -> str:
    """ "2 of 9 done, 3 running", with the epoch where a single job runs."""
    line = f"{total - len(snapshot.unfinished)} of {total} done, {len(snapshot.running)} running"
    if len(snapshot.running) != 1:
        return line
    (job,) = snapshot.running
    return f"{line}, epoch {_epoch(job)}/{job.spec.epochs}"


def finished_line(job: AnyJob) -> str:
    """A finished job in one line: what it was, and its figures or why it has none."""
    if not isinstance(job, JobRecord):
        return f"{formatting.short_id(job.id)}: {job.description}"
    label = (
        f"{formatting.short_id(job.id)} {formatting.model(job.spec)}, {formatting.optimizer(job.spec)}, "
        f"seed {job.spec.seed}"
    )
    if job.result is None:
        return f"{label}: {formatting.status(job)}: {job.error}"
    return f"{label}: {formatting.figures(job.result)} in {formatting.seconds(job.result.train_seconds)}"
