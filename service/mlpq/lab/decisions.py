"""Registered decisions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console

from mlpq import formatting
from mlpq.decide import Step, step, until_decided
from mlpq.lab.frames import frame
from mlpq.lab.runs import INTERRUPTED
from mlpq.lab.session import LabSession, warn
from mlpq.question_records import Question
from mlpq.report import race_tables
from mlpq.report.notebook import Output, html, text

if TYPE_CHECKING:
    import pandas as pd

PAIR_COLUMNS = ("a", "b", "verdict", "n", "cap", "p_anytime", "low", "high")


class Decision:
    """A question that was registered before its first look, and how far it is, as `mlpq decide` shows it.

    Its error rate of 5 % allows for all looks. `Lab.decide` with the same arguments finds the same question again.
    """

    def __init__(self, session: LabSession, question: Question) -> None:
        self._session = session
        self._step = self._taken(step(session.config, session.store, question))

    def wait(self, progress: bool | None = None) -> Decision:
        """Submit seeds and look at the results in turn until it is decided, and return the decision.

        It ends too where a job fails. An interruption ends the wait only: call `wait` again.
        """
        view = self._session.view(progress)

        def wait(taken: Step) -> None:
            self._step = self._taken(taken)
            view.say(race_tables.state_line(taken.state))
            self._session.wait([job.id for job in taken.state.waiting], view)

        try:
            question = self._step.state.question
            self._step = self._taken(until_decided(self._session.config, self._session.store, question, wait))
        except KeyboardInterrupt as error:
            error.add_note(INTERRUPTED)
            raise
        if self._step.state.failed and not self.is_over:
            failed = self._step.state.failed
            ids = ", ".join(formatting.short_id(job.id) for job in failed[:5])
            warn(f"{formatting.count_of(len(failed), 'job')} failed: retry {ids} by Lab.retry, then wait() again")
        return self

    @property
    def is_over(self) -> bool:
        """Whether it is decided, or all seeds that were planned have been looked at."""
        return self._step.state.is_over

    @property
    def verdict(self) -> str:
        """The verdict on all arms, or how far the question is before the first one."""
        return next(iter(self.verdicts), race_tables.state_line(self._step.state))

    @property
    def verdicts(self) -> list[str]:
        """The verdict on all arms, then those on the pairs; empty before the first look."""
        return race_tables.verdict_lines(self._step.state)

    @property
    def best(self) -> str | None:
        """The arm that is better than all others; None where that is not decided."""
        found = race_tables.question_document(self._step.state)["best"]
        return None if found is None else str(found)

    @property
    def pairs(self) -> pd.DataFrame:
        """One row for each pair of arms: its verdict after `n` of at most `cap` seeds, p, and the interval of a − b.

        Both are valid however often one looks. Differences of accuracies are fractions, from −1 to 1.
        """
        document = race_tables.question_document(self._step.state)
        rows = []
        for pair in document.get("pairs", [document] if "a" in document else []):
            low, high = pair["interval"] or (None, None)
            rows.append({**pair, "verdict": str(pair["verdict"]), "low": low, "high": high})
        return frame(rows, PAIR_COLUMNS)

    def __repr__(self) -> str:
        return text(self._print)

    def _print(self, out: Console) -> None:
        race_tables.print_question(out, self._step.state)

    def _repr_html_(self) -> str:
        shown = race_tables.question_text(self._step.state)
        cells = (tuple(shown.headings), [list(line) for line in shown.lines])
        notes = [f"{shown.registered}.", *shown.notes]
        return html(Output("Registered question", shown.verdicts or [shown.state], notes, [("", cells)]))

    @staticmethod
    def _taken(taken: Step) -> Step:
        warn(taken.warning)
        return taken
