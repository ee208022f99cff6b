"""Live progress of jobs until they are finished: bars in a terminal, a changing line in a notebook, else lines."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from rich.cells import cell_len
from rich.console import Console, Group, RenderableType
from rich.control import Control
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.segment import ControlType
from rich.table import Table
from rich.text import Text

from mlpq import formatting
from mlpq.records import AnyJob, JobRecord, RunningJob, WaitSnapshot

BARS_AT_MOST = 8  # jobs shown at a time; the first line is for all
LINES_BESIDE_BARS = 4  # of the terminal: all jobs, those that don't fit, an obstacle, the cursor
BAR_WIDTH = 10  # characters
ROOM = 76  # columns from which on a job's name, bar and figures are side by side
LINE_SECONDS, MAX_LINE_SECONDS = 5.0, 60.0  # between two lines about the progress, at first and in a long wait
LISTED = 20  # of so many jobs each has a line when it is finished; of more, those that failed

Above = Callable[[WaitSnapshot], RenderableType]


@dataclass(frozen=True, slots=True)
class Progress:
    """How far some jobs are: how many, and how many of the epochs of all."""

    done: int
    total: int
    share: float
    seconds_left: float | None

    @property
    def text(self) -> str:
        """ "2 of 9 jobs done, 1:05 left"."""
        return f"{self.done} of {formatting.count_of(self.total, 'job')} done{_left(self.seconds_left)}"


class Tracker:
    """Computes the progress of jobs; `planned` are the epochs of each by its id."""

    def __init__(self, planned: Mapping[str, int]) -> None:
        self._planned, self._epochs = planned, max(1, sum(planned.values()))
        self._began, self._unfinished = time.monotonic(), -1

    def of(self, snapshot: WaitSnapshot) -> Progress:
        """The progress at that moment. Seconds left are None where nothing is known.

        They are by the pace of the running jobs, or else of those that finished, and at least those of each running
        job.
        """
        unfinished = len(snapshot.unfinished)
        self._unfinished = max(self._unfinished, unfinished)
        left = sum(self._planned.get(job, 0) for job in snapshot.unfinished) - sum(map(_epoch, snapshot.running))
        return Progress(
            len(self._planned) - unfinished, len(self._planned), 1 - left / self._epochs, self._seconds(snapshot, left)
        )

    def _seconds(self, snapshot: WaitSnapshot, epochs: int) -> float | None:
        pace = sum(_epoch(job) / _elapsed(job) for job in snapshot.running)
        if pace:
            own = [left for job in snapshot.running if (left := _time_left(job)) is not None]
            return max(epochs / pace, *own)
        unfinished = len(snapshot.unfinished)
        done = self._unfinished - unfinished
        return (time.monotonic() - self._began) / done * unfinished if done else None


def show(
    snapshots: Iterable[WaitSnapshot],
    console: Console,
    planned: Mapping[str, int],
    above: Above | None = None,
    in_notebook: bool = False,
) -> None:
    """Draw the snapshots of jobs as they come, until there are no more; in a terminal with what is `above`.

    `planned` are the epochs of each job by its id.
    """
    if in_notebook:
        _show_one_line(snapshots, console, Tracker(planned))
    elif console.is_interactive:
        _show_bars(snapshots, console, Tracker(planned), above)
    else:
        _show_lines(snapshots, console, Tracker(planned), len(planned))


def _show_bars(snapshots: Iterable[WaitSnapshot], console: Console, tracker: Tracker, above: Above | None) -> None:
    with Live(console=console, transient=True, refresh_per_second=10) as live:
        for snapshot in snapshots:
            head = above(snapshot) if above else None
            taken = len(console.render_lines(head)) if head else 0
            room = max(1, min(BARS_AT_MOST, console.height - taken - LINES_BESIDE_BARS))
            drawn = bars(snapshot, tracker.of(snapshot), console.width, room)
            live.update(Group(head, drawn) if head else drawn)


def bars(snapshot: WaitSnapshot, progress: Progress, width: int, at_most: int = BARS_AT_MOST) -> RenderableType:
    """A line for all jobs, one for each of `at_most` running jobs, and what keeps the others from running."""
    lines = [("all jobs", progress.share, progress.text)]
    for job in snapshot.running[:at_most]:
        label = f"{formatting.short_id(job.id)} {formatting.optimizer(job.spec)} seed {job.spec.seed}"
        lines.append((label, _epoch(job) / job.spec.epochs, _figures(job)))
    more = len(snapshot.running) - at_most
    notices = [f"{more} more running"] if more > 0 else []
    notice = [Text(text) for text in [*notices, snapshot.obstacle] if text]
    if width < ROOM:
        return Group(*(Text(f"{label}:\n  {figures}") for label, _, figures in lines), *notice)
    grid = Table.grid(padding=(0, 1, 0, 0))
    grid.add_column(overflow="fold")
    grid.add_column(width=BAR_WIDTH)
    grid.add_column(min_width=max(len(figures) for _, _, figures in lines), no_wrap=True)
    for label, share, figures in lines:
        # The default colors are those of errors.
        bar = ProgressBar(1.0, share, BAR_WIDTH, complete_style="cyan", finished_style="green")
        grid.add_row(Text(label), bar, Text(figures))
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
    return "" if seconds is None else f", {formatting.seconds(seconds)} left"


def _show_lines(snapshots: Iterable[WaitSnapshot], console: Console, tracker: Tracker, total: int) -> None:
    done, obstacle = 0, ""
    began = latest = time.monotonic()
    for snapshot in snapshots:
        for job in snapshot.finished:
            done += 1
            if total <= LISTED or not (isinstance(job, JobRecord) and job.result is not None):
                console.print(f"[{done} of {total}] {finished_line(job)}", markup=False)
        if snapshot.obstacle and snapshot.obstacle != obstacle:
            console.print(snapshot.obstacle, markup=False)
        obstacle = snapshot.obstacle
        progress, now = tracker.of(snapshot), time.monotonic()
        pause = min(max(LINE_SECONDS, (now - began) / 20), MAX_LINE_SECONDS)
        if snapshot.unfinished and now - latest >= pause:
            latest = now
            console.print(progress_line(snapshot, progress), markup=False)


def _show_one_line(snapshots: Iterable[WaitSnapshot], console: Console, tracker: Tracker) -> None:
    """Write each line over the one before: the output of a cell takes carriage returns, and no other movement."""
    shown = ""
    for snapshot in snapshots:
        line = progress_line(snapshot, tracker.of(snapshot))
        if snapshot.obstacle:
            line += f"; {snapshot.obstacle}"
        if line != shown:
            console.control(Control(ControlType.CARRIAGE_RETURN))
            padding = " " * (cell_len(shown) - cell_len(line))
            console.print(line + padding, markup=False, end="", soft_wrap=True)
            shown = line
    if shown:
        console.print()


def progress_line(snapshot: WaitSnapshot, progress: Progress) -> str:
    """ "2 of 9 jobs done, 3 running, 45 % of the epochs, 1:05 left"; with the epoch where a single job runs."""
    line = f"{progress.done} of {formatting.count_of(progress.total, 'job')} done"
    line += f", {len(snapshot.running)} running" if snapshot.unfinished else ""
    if len(snapshot.running) == 1:
        (job,) = snapshot.running
        line += f", epoch {_epoch(job)}/{job.spec.epochs}"
    elif snapshot.unfinished:
        line += f", {100 * progress.share:.0f} % of the epochs"
    return line + (_left(progress.seconds_left) if snapshot.unfinished else "")


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
