"""How waits are shown: bars in a terminal, one line that changes in a notebook, lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Iterable
from html import escape
from typing import Any

from mlpq import formatting
from mlpq.records import WaitSnapshot
from mlpq.report import tables
from mlpq.report.progress import TimeLeft, show

REDRAW_SECONDS = 0.5  # between two states of the line in a notebook, which stores the last one
BAR = '<progress value="{value:.3f}" max="1" style="width: 12em; vertical-align: middle"></progress> '


def in_notebook() -> bool:
    """Whether this is the kernel of a notebook, which can display HTML."""
    if "IPython" not in sys.modules:
        return False
    from IPython import get_ipython

    return getattr(get_ipython(), "kernel", None) is not None


class View:
    """What is shown of one wait or of several in turn, which share one line of a notebook."""

    def __init__(self, is_shown: bool) -> None:
        self._is_shown = is_shown
        self._line = NotebookLine() if is_shown and in_notebook() else None

    def follow(self, snapshots: Iterable[WaitSnapshot], total: int) -> None:
        """Show the snapshots of `total` jobs as they come, until there are no more."""
        if self._line is not None:
            self._line.follow(snapshots, total)
        elif self._is_shown:
            show(snapshots, tables.console(stderr=True), total)
        else:
            for _ in snapshots:
                pass

    def say(self, text: str) -> None:
        """A line about what comes next; in a notebook, it is put before the progress."""
        if self._line is not None:
            self._line.prefix = text
        elif self._is_shown:
            tables.console(stderr=True).print(text, markup=False)


class NotebookLine:
    """A line with a bar, which needs neither widgets nor scripts: it is stored with the notebook as it was last."""

    def __init__(self) -> None:
        self.prefix = ""
        self._handle: Any = None

    def follow(self, snapshots: Iterable[WaitSnapshot], total: int) -> None:
        """Draw the snapshots; the last state stays."""
        began = drawn = time.monotonic()
        left, finished = TimeLeft(), Counter[str]()
        text, share = f"{formatting.count_of(total, 'job')}", 0.0
        for snapshot in snapshots:
            finished.update(formatting.status(job) for job in snapshot.finished)
            share = 1 - len(snapshot.unfinished) / total
            text = _progress(snapshot, total, left.of(snapshot))
            now = time.monotonic()
            if self._handle is None or now - drawn >= REDRAW_SECONDS:
                drawn = now
                self._draw(text, share)
        if total:
            counts = ", ".join(f"{count} {status}" for status, count in finished.items())
            text = f"{formatting.count_of(total, 'job')} in {formatting.seconds(time.monotonic() - began)}: {counts}"
            self._draw(text, None)

    def _draw(self, text: str, share: float | None) -> None:
        from IPython.display import display

        text = f"{self.prefix}: {text}" if self.prefix else text
        bar = "" if share is None else BAR.format(value=share)
        shown = {"text/plain": text, "text/html": f"<div>{bar}{escape(text)}</div>"}
        if self._handle is None:
            self._handle = display(shown, raw=True, display_id=True)
        else:
            self._handle.update(shown, raw=True)


def _progress(snapshot: WaitSnapshot, total: int, left: float | None) -> str:
    """ "12 of 64 done, 8 running, 0:40 left"."""
    parts = [f"{total - len(snapshot.unfinished)} of {total} done", f"{len(snapshot.running)} running"]
    parts += [] if left is None else [f"{formatting.seconds(left)} left"]
    return ", ".join([*parts, *filter(None, [snapshot.obstacle])])
