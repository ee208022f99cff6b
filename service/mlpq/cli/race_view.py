"""The live view of a race: in a terminal a table above the progress of the jobs, lines elsewhere."""

from __future__ import annotations

import contextlib

from rich.console import Group, RenderableType
from rich.text import Text

from mlpq.analysis.questions import QuestionState
from mlpq.decide import look
from mlpq.errors import StoreError
from mlpq.lab.progress import progress_console
from mlpq.records import WaitSnapshot
from mlpq.report import race_tables
from mlpq.store.session import Store


class RaceView:
    """Shows states as they come, and between them what the results so far say."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._console = progress_console()
        self._state: QuestionState | None = None

    def show(self, state: QuestionState) -> None:
        """Print a new state where nothing can be drawn over: a line for each arm, once for each look."""
        is_news = self._state is None or race_tables.state_line(self._state) != race_tables.state_line(state)
        self._state = state
        if is_news and not self._console.is_interactive:
            self._console.print(race_tables.state_line(state), markup=False)
            for line in race_tables.race_lines(state):
                self._console.print(f"  {line}", markup=False)

    def above(self, snapshot: WaitSnapshot) -> RenderableType:
        """The race, with the results that have come since; the state before while the database can't be reached."""
        assert self._state is not None, "a state is shown first"
        if snapshot.finished:
            with contextlib.suppress(StoreError):
                self._state = look(self._store, self._state.question)
        line = Text(race_tables.state_line(self._state), style="bold")
        return Group(line, race_tables.race_table(self._state), Text(""))
