"""What became of results that were run again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from rich.console import Console

from mlpq import formatting
from mlpq.lab.frames import frame
from mlpq.records import AnyJob, JobRecord
from mlpq.report import grades
from mlpq.report.notebook import Output, html, text
from mlpq.verification_records import Grade, Verification

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = ("job", "optimizer", "seed", "grade", "reason")
VERIFIED = {Grade.SAME_BITS, Grade.SAME_FIGURES, Grade.CONSISTENT}


class Verifications:
    """The grades of results that were trained again, as `mlpq verify` gives them.

    `sample_seed` draws the same sample again; None where all results were verified.
    """

    def __init__(
        self, found: Sequence[Verification], jobs: Mapping[str, AnyJob], sample_seed: int | None = None
    ) -> None:
        self._found = found
        self._jobs = jobs
        self.sample_seed = sample_seed

    @property
    def summary(self) -> str:
        """How many results have which grade, as "3 of 3 results: same bits"."""
        return grades.summary(self._found)

    @property
    def all_verified(self) -> bool:
        """Whether no result is refuted, and each could be run again."""
        return {each.grade for each in self._found} <= VERIFIED

    @property
    def grades(self) -> pd.DataFrame:
        """One row for each result: its job, the grade and the reason."""
        rows = []
        for each in self._found:
            job = self._jobs[each.job_id]
            spec = job.spec if isinstance(job, JobRecord) else None
            rows.append(
                {
                    "job": each.job_id, "optimizer": spec and formatting.optimizer(spec), "seed": spec and spec.seed,
                    "grade": str(each.grade), "reason": each.reason,
                }
            )  # fmt: skip
        return frame(rows, COLUMNS)

    def __repr__(self) -> str:
        return text(self._print)

    def _print(self, out: Console) -> None:
        grades.print_grades(out, self._found, self._jobs)

    def _repr_html_(self) -> str:
        return html(Output(self.summary, tables=[("", grades.grades_cells(self._found, self._jobs))]))
