"""One job, as notebooks show it."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

from rich.console import Console

from mlpq import formatting
from mlpq.job_details import JobDetails
from mlpq.lab.frames import epochs_frame, frame
from mlpq.records import JobRecord
from mlpq.report import grades, job_details
from mlpq.report.notebook import Output, html, text

if TYPE_CHECKING:
    import pandas as pd

ATTEMPT_COLUMNS = ("attempt", "worker", "device", "started_at", "ended_at", "outcome", "error")


class Job:
    """Everything about one job, as `mlpq show` prints it: spec, result, learning curve, attempts and verifications.

    It is what was there: call `Lab.show` again for what came later. `id` is the job's id, and `experiment` the name of
    its experiment.
    """

    def __init__(self, found: JobDetails) -> None:
        self._found = found
        self.id = found.job.id
        self.experiment = found.job.experiment

    @property
    def status(self) -> str:
        """queued, blocked, running, succeeded, failed, diverged or cancelled."""
        return formatting.status(self._found.job)

    @property
    def attempts(self) -> pd.DataFrame:
        """One row for each attempt: its worker, when it ran, its outcome and its error."""
        return frame([asdict(attempt) for attempt in self._found.attempts], ATTEMPT_COLUMNS)

    @property
    def logs(self) -> str:
        """The last log lines of each attempt, as `mlpq logs` prints them."""
        return job_details.logs_text(self.id, self._found.attempts)

    def epochs(self) -> pd.DataFrame:
        """One row for each epoch that was recorded, as of `Lab.epochs`."""
        job = self._found.job
        return epochs_frame([job] if isinstance(job, JobRecord) else [], {self.id: self._found.curve})

    def __repr__(self) -> str:
        return text(self._print)

    def _print(self, out: Console) -> None:
        job_details.print_job(out, *self._found)

    def _repr_html_(self) -> str:
        found = self._found
        facts = [[name, value] for name, value in job_details.facts_of(found.job, found.missing)]
        last = (found.attempts[-1].environment if found.attempts else None) or {}
        environment = [[name, str(value)] for name, value in last.items()]
        tables = [("", (("", ""), facts)), ("", job_details.curve_table(found.curve))]
        folded = [
            ("Attempts", job_details.attempts_table(found.attempts)),
            ("Environment of the last attempt", (("", ""), environment)),
            ("Verifications", grades.history_cells(found.verifications)),
        ]
        return html(
            Output(
                f"Job {formatting.short_id(self.id)} of {self.experiment}",
                tables=[each for each in tables if each[1][1]],
                folded=[each for each in folded if each[1][1]],
            )
        )
