"""Submitted jobs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Unpack

from mlpq import formatting
from mlpq.analysis.arms import arms
from mlpq.errors import DataError, NotFoundError, reason_of
from mlpq.lab.frames import epochs_frame, results_frame
from mlpq.lab.keys import ComparisonKeys
from mlpq.lab.session import LabSession, warn
from mlpq.records import AnyJob, JobRecord
from mlpq.regular_files import check_inside
from mlpq.report import tables
from mlpq.report.notebook import Output, html
from mlpq.store import queries
from mlpq.submit import cancel, retry
from mlpq.verification.weights import read_arrays

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from mlpq.lab.comparisons import Comparison

INTERRUPTED = "the jobs stay queued: wait() waits again, cancel() cancels them"


class Run:
    """The jobs of one submission, in its order: those that are new, and those that the experiment had already.

    `Lab.experiment` makes one of all jobs of an experiment. `experiment` is the name of their experiment, `ids` are
    those of the jobs, and `new` is how many are new. In a notebook, a run shows how many of its jobs have finished, and
    the mean accuracy of each arm.
    """

    def __init__(self, session: LabSession, experiment: str, ids: Sequence[str], new: int) -> None:
        self._session = session
        self.experiment = experiment
        self.ids = tuple(ids)
        self.new = new

    def wait(self, progress: bool | None = None) -> Run:
        """Wait until all jobs are finished, and return the run.

        Where no worker is alive, one is started for the duration of the wait; with services, `mlpq worker` starts
        them. `progress` shows or hides the progress, as the lab does by default. An interruption ends the wait only:
        the jobs stay queued. Warns of jobs that failed or were cancelled.
        """
        try:
            self._session.wait(self.ids, self._session.view(progress))
        except KeyboardInterrupt as error:
            error.add_note(INTERRUPTED)
            raise
        counts = self.counts
        if lost := [f"{counts[status]} {status}" for status in ("failed", "diverged", "cancelled") if counts[status]]:
            jobs = formatting.count_of(len(self), "job")
            warn(f"{formatting.listed(lost)} of {jobs}: results() has the errors, retry() runs failed jobs again")
        return self

    @property
    def counts(self) -> Counter[str]:
        """How many jobs have each status; those that failed because they diverged count as "diverged"."""
        return Counter(formatting.status(job) for job in self._jobs())

    @property
    def is_finished(self) -> bool:
        """Whether all jobs are finished, well or not."""
        return not queries.unfinished(self._session.store, self.ids)

    @property
    def has_succeeded(self) -> bool:
        """Whether all jobs have a result."""
        return self.counts.keys() == {"succeeded"}

    def results(self) -> pd.DataFrame:
        """One row for each job, with the columns of the view `results`, in the order of submission."""
        return results_frame(self._jobs())

    def epochs(self) -> pd.DataFrame:
        """One row for each epoch that was recorded of each job, as of `Lab.epochs`."""
        jobs = [job for job in self._jobs() if isinstance(job, JobRecord)]
        return epochs_frame(jobs, {job.id: queries.curve(self._session.store, job.id) for job in jobs})

    def compare(self, **options: Unpack[ComparisonKeys]) -> Comparison:
        """Compare the arms of the run's experiment, as `Lab.compare` does."""
        from mlpq.lab.comparisons import compared

        return compared(self._session, self.experiment, **options)

    def retry(self) -> Run:
        """Run the failed jobs again, as new jobs, and return those without waiting; not those that diverged."""
        own = set(self.ids)
        ids = [id_ for id_ in queries.retryable(self._session.store, self.experiment) if id_ in own]
        return retried(self._session, self.experiment, ids)

    def cancel(self) -> dict[str, int]:
        """Cancel the jobs that are not finished; how many, by what was done to them. Others stay as they are."""
        return cancel(self._session.store, self.ids)

    def weights(self, job: str | None = None) -> dict[str, np.ndarray]:
        """The final weights of a job, by their names, "layer0.weight" and so on; their hash is verified.

        `job` is the first digits of an id; a run of one job needs none. Raises NotFoundError where the job has no
        result, and DataError where its file is not on this machine or damaged.
        """
        found = self._job(job)
        if found.result is None:
            raise NotFoundError(f"job {found.id} is {formatting.status(found)}: only a succeeded job has weights")
        path = Path(found.result.weights_file)
        try:
            check_inside(path, self._session.config.artifacts_dir)
            file, arrays = read_arrays(path, found.spec.parameters)
        except OSError as error:
            raise DataError(f"can't read the weights {path}: {reason_of(error)}") from error
        if file.sha256 != found.result.weights_sha256:
            raise DataError(f"{path} does not hold the recorded weights: mlpq verify {formatting.short_id(found.id)}")
        return arrays

    def _jobs(self) -> list[AnyJob]:
        return queries.listed_by_id(self._session.store, self.ids)

    def _job(self, prefix: str | None) -> JobRecord:
        ids = [id_ for id_ in self.ids if id_.startswith("" if prefix is None else prefix.strip().lower())]
        if len(ids) != 1:
            count = formatting.count_of(len(ids), "job")
            begin = "" if prefix is None else f" whose id begins with '{prefix}'"
            raise NotFoundError(f"this run has {count}{begin}: name one of {', '.join(map(repr, self.ids[:3]))} …")
        return queries.job_by_id(self._session.store, ids[0])

    def __len__(self) -> int:
        return len(self.ids)

    def __repr__(self) -> str:
        counts = ", ".join(f"{count} {status}" for status, count in self.counts.items())
        jobs = f"Run of {formatting.count_of(len(self), 'job')} in the experiment {self.experiment}"
        return f"{jobs}: {counts}" if counts else jobs

    def _repr_html_(self) -> str:
        jobs = self._jobs()
        readable = [job for job in jobs if isinstance(job, JobRecord)]
        found = arms(readable, queries.ancestors(self._session.store, readable))
        errors = [f"{formatting.short_id(job.id)}: {job.error}" for job in jobs if job.error][:5]
        headings = tuple(f">{heading}" if i else heading for i, heading in enumerate(tables.ARM_HEADINGS))
        own: list[tuple[str, tables.Cells]] = [("", (headings, tables.arm_lines(found)))]
        return html(Output(repr(self), notes=errors, tables=own if found else ()))


def retried(session: LabSession, experiment: str, ids: Sequence[str]) -> Run:
    """Submit failed or cancelled jobs again."""
    submitted, warning = retry(session.config, session.store, ids)
    warn(warning)
    return Run(session, experiment, [job.id for job in submitted], sum(job.is_new for job in submitted))
