"""Live progress of jobs until they are finished: bars in a terminal, lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from mlpq import formatting
from mlpq.store import queries
from mlpq.store.session import Store

LOOK_SECONDS = 0.25
BARS_AT_MOST = 8  # jobs shown at a time; the first line counts them all

Row = Mapping[str, Any]


def follow(store: Store, ids: Sequence[str], console: Console, tend: Callable[[], str]) -> None:
    """Show the jobs until every one is finished. `tend` is called at each look and says what stands in the way, if
    anything does."""
    if console.is_terminal:
        _follow_live(store, ids, console, tend)
    else:
        _follow_lines(store, ids, console, tend)


def _follow_live(store: Store, ids: Sequence[str], console: Console, tend: Callable[[], str]) -> None:
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=10),
        TextColumn("{task.fields[figures]}", markup=False),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        every = progress.add_task("all jobs", total=len(ids), figures="")
        bars: dict[str, TaskID] = {}
        left = queries.unfinished(store, ids)
        before, began = len(ids) - len(left), time.monotonic()
        while left := queries.unfinished(store, left):
            running = queries.running(store, left)
            done = len(ids) - len(left)
            partly = sum((row["epoch"] or 0) / row["spec"]["epochs"] for row in running)
            eta = _eta(time.monotonic() - began, done + partly - before, len(ids) - before)
            progress.update(every, completed=done + partly, figures=f"{done} of {len(ids)} done{eta} {tend()}")
            _show_running(progress, bars, running)
            time.sleep(LOOK_SECONDS)


def _show_running(progress: Progress, bars: dict[str, TaskID], running: Sequence[Row]) -> None:
    for job in set(bars) - {row["id"] for row in running}:
        progress.remove_task(bars.pop(job))
    for row in running[:BARS_AT_MOST]:
        spec = row["spec"]
        if row["id"] not in bars:
            label = f"{formatting.short_id(row['id'])} {formatting.optimizer(spec)} seed {spec['seed']}"
            bars[row["id"]] = progress.add_task(label, total=spec["epochs"], figures="")
        progress.update(bars[row["id"]], completed=row["epoch"] or 0, figures=_figures(row))


def _figures(row: Row) -> str:
    epochs = row["spec"]["epochs"]
    if row["epoch"] is None:
        return f"epoch 0/{epochs}"
    elapsed = (row["now"] - row["started_at"]).total_seconds()
    accuracy = formatting.percent(row["test_correct"] / row["test_total"])
    eta = _eta(elapsed, row["epoch"], epochs)
    return f"epoch {row['epoch']}/{epochs} loss {row['train_loss']:.3f} {accuracy}{eta}"


def _eta(elapsed: float, done: float, total: float) -> str:
    return f" {formatting.seconds(elapsed / done * (total - done))} left" if done else ""


def _follow_lines(store: Store, ids: Sequence[str], console: Console, tend: Callable[[], str]) -> None:
    left, said = list(ids), ""
    done = 0
    while left:
        still = queries.unfinished(store, left)
        waiting = set(still)
        for row in queries.jobs_by_id(store, [job for job in left if job not in waiting]):
            done += 1
            console.print(f"[{done} of {len(ids)}] {finished_line(row)}", markup=False)
        left = still
        obstacle = tend() if left else ""
        if obstacle and obstacle != said:
            console.print(obstacle, markup=False)
        said = obstacle
        if left:
            time.sleep(LOOK_SECONDS)


def finished_line(row: Row) -> str:
    """One finished job in a line: what it was and what became of it."""
    label = f"{formatting.short_id(row['id'])} {formatting.model(row)}, {formatting.optimizer(row)}, seed {row['seed']}"
    if row["test_correct"] is None:
        return f"{label}: {formatting.status(row)}: {row['error']}"
    figures = f"{formatting.count(row['test_correct'], row['test_total'])} ({formatting.percent(row['test_accuracy'])})"
    return f"{label}: {figures} in {formatting.seconds(row['train_seconds'])}"
