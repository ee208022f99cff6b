"""How waits are shown: bars in a terminal, one line that changes in a notebook, lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

from rich.console import Console

from mlpq import formatting
from mlpq.records import JobRecord, WaitSnapshot
from mlpq.report import tables
from mlpq.report.progress import Above, Tracker, show
from mlpq.settings import OutputKind, output_kind

REDRAW_SECONDS = 0.5  # between two states of the line in a notebook, which stores the last one
BAR = '<progress value="{value:.3f}" max="1" style="width: 12em; vertical-align: middle"></progress> '


def in_notebook() -> bool:
    """Whether this is the kernel of a notebook, which can display HTML."""
    if "IPython" not in sys.modules:
        return False
    from IPython import get_ipython

    return getattr(get_ipython(), "kernel", None) is not None


def progress_console() -> Console:
    """Standard error; it is drawn over only in a terminal that shows each moment, unlike a log or a notebook."""
    console = tables.console(stderr=True)
    console.is_interactive = console.is_interactive and output_kind() is OutputKind.TERMINAL
    return console


def epochs_planned(ids: Sequence[str], jobs: Iterable[JobRecord]) -> dict[str, int]:
    """The epochs of each job by its id; 0 of those that can't be read."""
    return {**dict.fromkeys(ids, 0), **{job.id: job.spec.epochs for job in jobs}}


def show_progress(snapshots: Iterable[WaitSnapshot], planned: Mapping[str, int], above: Above | None = None) -> None:
    """Show the snapshots on standard error as they come, until there are no more; `planned` is `epochs_planned`.

    In a terminal, what `above` returns for a snapshot is drawn above it.
    """
    console = progress_console()
    show(snapshots, console, planned, above, console.is_terminal and output_kind() is OutputKind.NOTEBOOK)


class View:
    """What is shown of one wait or of several in turn, which share one line of a notebook."""

    def __init__(self, is_shown: bool) -> None:
        self._is_shown = is_shown
        self._line = NotebookLine() if is_shown and in_notebook() else None

    def follow(self, snapshots: Iterable[WaitSnapshot], planned: Mapping[str, int]) -> None:
        """Show the snapshots as they come, until there are no more; `planned` is `epochs_planned`."""
        if self._line is not None:
            self._line.follow(snapshots, planned)
        elif self._is_shown:
            show_progress(snapshots, planned)
        else:
            for _ in snapshots:
                pass

    def say(self, text: str) -> None:
        """A line about what comes next; in a notebook, it is put before the progress."""
        if self._line is not None:
            self._line.prefix = text
        elif self._is_shown:
            progress_console().print(text, markup=False)


class NotebookLine:
    """A line with a bar, which needs neither widgets nor scripts: it is stored with the notebook as it was last."""

    def __init__(self) -> None:
        self.prefix = ""
        self._handle: Any = None

    def follow(self, snapshots: Iterable[WaitSnapshot], planned: Mapping[str, int]) -> None:
        """Draw the snapshots; the last state stays."""
        began = drawn = time.monotonic()
        tracker, finished = Tracker(planned), Counter[str]()
        for snapshot in snapshots:
            finished.update(formatting.status(job) for job in snapshot.finished)
            progress, now = tracker.of(snapshot), time.monotonic()
            if self._handle is None or now - drawn >= REDRAW_SECONDS:
                drawn = now
                text = ", ".join(filter(None, [progress.text, snapshot.obstacle]))
                self._draw(text, progress.share)
        if planned:
            counts = ", ".join(f"{count} {status}" for status, count in finished.items())
            jobs = formatting.count_of(len(planned), "job")
            self._draw(f"{jobs} in {formatting.seconds(time.monotonic() - began)}: {counts}", None)

    def _draw(self, text: str, share: float | None) -> None:
        from IPython.display import display

        text = f"{self.prefix}: {text}" if self.prefix else text
        bar = "" if share is None else BAR.format(value=share)
        shown = {"text/plain": text, "text/html": f"<div>{bar}{escape(text)}</div>"}
        if self._handle is None:
            self._handle = display(shown, raw=True, display_id=True)
        else:
            self._handle.update(shown, raw=True)
