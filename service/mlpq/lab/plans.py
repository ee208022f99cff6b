"""How many seeds a comparison needs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Console

from mlpq import formatting
from mlpq.analysis.comparison import Comparison
from mlpq.analysis.fairness import notes
from mlpq.analysis.planning import Power, SeedsNeeded, needs, seeds_for, seeds_missing
from mlpq.lab.frames import frame
from mlpq.lab.runs import Run
from mlpq.lab.session import LabSession, warn
from mlpq.report.notebook import Output, html, text
from mlpq.report.planning_tables import needs_cells, needs_table
from mlpq.submit import submit_seeds

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = ("a", "b", "seeds_now", "sd", "seeds_needed")


class Plan:
    """How many seeds detect a difference, from the spread of those that are there, as `mlpq plan` computes it.

    `seeds` are the seeds to compare on in each arm: those that were submitted, and new ones.
    """

    def __init__(self, session: LabSession, experiment: str, comparison: Comparison, power: Power) -> None:
        self._session = session
        self._experiment = experiment
        self._comparison = comparison
        self._power = power
        self._found: Sequence[SeedsNeeded] = needs(comparison, power.difference, power.power)
        self.seeds = seeds_for(comparison, max(need.needed for need in self._found))
        self._missing = seeds_missing(comparison, self.seeds)

    @property
    def missing(self) -> int:
        """How many jobs are missing for these seeds."""
        return sum(len(seeds) for _, seeds in self._missing)

    @property
    def pairs(self) -> pd.DataFrame:
        """One row for each pair of arms, with the standard deviation of its differences and the seeds it needs."""
        rows = [
            {
                "a": need.pair.a.label, "b": need.pair.b.label, "seeds_now": len(need.pair.seeds), "sd": need.sd,
                "seeds_needed": need.needed,
            }
            for need in self._found
        ]  # fmt: skip
        return frame(rows, COLUMNS)

    def submit(self) -> Run:
        """Submit the jobs that are missing."""
        submitted, warning = submit_seeds(self._session.config, self._session.store, self._missing)
        warn(warning)
        new = sum(job.is_new for job in submitted)
        return Run(self._session, self._experiment, [job.id for job in submitted], new)

    @property
    def _summary(self) -> str:
        unit, chosen = self._comparison.metric.unit, self._comparison.choosing
        chose = f" besides {formatting.seeds(chosen)}, which chose the settings," if chosen else ""
        return (
            f"{formatting.count_of(len(self.seeds), 'seed')} in each arm{chose} detect a difference of "
            f"{self._power.difference:g} {unit} with probability {self._power.power:g}; "
            f"{formatting.count_of(self.missing, 'job')} missing"
        )

    def __repr__(self) -> str:
        return text(self._print)

    def _print(self, out: Console) -> None:
        for note in notes(self._comparison):
            out.print(f"! {note}", markup=False)
        out.print(needs_table(self._found, self._comparison.metric))
        out.print(f"\n{self._summary}", markup=False)

    def _repr_html_(self) -> str:
        cells = needs_cells(self._found, self._comparison.metric)
        return html(Output(self._summary, notes=notes(self._comparison), tables=[("", cells)]))
