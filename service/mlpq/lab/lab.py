"""The entry to the Python interface.

What loads scipy or Altair is imported where it is used: they take longer to load than the rest.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Unpack, overload

from mlpq import data_registry
from mlpq.errors import MlpqError, SpecError, nearest
from mlpq.experiment_list import experiment_list
from mlpq.job_details import job_details
from mlpq.lab.exports import ExportKind, job_text
from mlpq.lab.files import write
from mlpq.lab.frames import epochs_frame, experiments_frame, frame, query_frame, results_frame
from mlpq.lab.keys import ComparisonKeys, DataOptions, LabSettings, SweepKeys, params_of, plain
from mlpq.lab.runs import Run, retried
from mlpq.lab.session import LabSession, warn
from mlpq.report.tables import worker_document
from mlpq.settings import masked, settings_with
from mlpq.spec.document import with_options
from mlpq.spec.job import DEVICES
from mlpq.spec.parsing import parse_world_size
from mlpq.spec.spec_file import read
from mlpq.store import queries, sql, worker_queries
from mlpq.submit import cancel_named, change_waiting_jobs, check_data, planned, submit

if TYPE_CHECKING:
    import pandas as pd

    from mlpq.lab.comparisons import Comparison, ProblemsComparison
    from mlpq.lab.data_sets import DataSet
    from mlpq.lab.decisions import Decision
    from mlpq.lab.details import Job
    from mlpq.lab.error_analysis import ErrorAnalysis
    from mlpq.lab.plans import Plan
    from mlpq.lab.verifications import Verifications

EXPORTS = {".py": ExportKind.SCRIPT, ".ipynb": ExportKind.NOTEBOOK, ".yaml": ExportKind.SPEC}
WORKER_COLUMNS = ("name", "device", "model", "most_ranks", "jobs_running", "jobs_done", "started_at", "beat_at")


class Lab:
    """A database of experiments, and what can be done with it: the commands of `mlpq` in Python.

    `Lab()` has the settings that the environment has; others can be given, by the names of their variables without
    MLPQ_, as `Lab(home="~/course")`. `progress` says whether waits show their progress. A lab can be used in a `with`
    block, which closes its connections.

    Errors are those of the command line, as exceptions below `mlpq.MlpqError`.
    """

    def __init__(self, *, progress: bool = True, **settings: Unpack[LabSettings]) -> None:
        config = settings_with(settings)
        for unknown in config.unknown:
            warn(unknown)
        self._session = LabSession(config, progress)

    def submit(
        self,
        file: str | PathLike[str] | None = None,
        *,
        preset: str | None = None,
        again: bool = False,
        **keys: Unpack[SweepKeys],
    ) -> Run:
        """Submit training jobs, by a spec file or its keys, and return them without waiting.

        Each key takes text as on the command line, a Python value, or several in any iterable, such as
        `seeds=range(10)` or `lr=[0.1, 0.01]`; every combination is one job. Keys given here take precedence over those
        of `file`, as options do. `preset` is "textbook" or "fmnist_mlp". Specs that the experiment already has are not
        submitted again, unless `again`.
        """
        document = with_options(read(file), {name: plain(value) for name, value in keys.items()})
        config = self._session.config
        submission = planned(config, document, preset)
        check_data(config, submission)
        submitted, warning = submit(config, self._session.store, submission, again)
        warn(warning)
        if not again:
            warn(change_waiting_jobs(config, self._session.store, submission, submitted))
        new = sum(job.is_new for job in submitted)
        return Run(self._session, submission.experiment, [job.id for job in submitted], new)

    def experiments(self, limit: int = 20) -> pd.DataFrame:
        """One row for each of the latest experiments: how many jobs have each status, its best arm, owner and age.

        The best arm is the one with the best mean validation accuracy, or test accuracy where `best_by` is "test":
        `test_accuracy` and `sd` are over its `n` seeds, and `arms` says how many have a result.
        """
        if limit < 1:
            raise SpecError(f"limit must be 1 or more, not {limit}")
        return experiments_frame(experiment_list(self._session.store, limit))

    def experiment(self, name: str) -> Run:
        """All jobs of an experiment, to wait for them, cancel them or read their results."""
        queries.check_experiment(self._session.store, name)
        return Run(self._session, name, queries.ids_of(self._session.store, name), 0)

    def show(self, job: str) -> Job:
        """Everything about one job, which is named by the first digits of its id."""
        from mlpq.lab.details import Job

        return Job(job_details(self._session.store, job))

    def export(self, job: str, file: str | PathLike[str]) -> Path:
        """Write a job as what the file's name says, and return its path; `job` is the first digits of its id.

        NAME.py is a PyTorch script and NAME.ipynb a notebook, which need torch and NumPy, and not mlpq. NAME.yaml is a
        spec file, which `submit` takes.
        """
        path = Path(file)
        if path.suffix not in EXPORTS:
            names = " or ".join(f"NAME{suffix}" for suffix in EXPORTS)
            raise MlpqError(f"the suffix of '{file}' is not a supported format: name the file {names}")
        return write(path, job_text(self._session.config, self._session.store, job, EXPORTS[path.suffix]).encode())

    def retry(self, name: str) -> Run:
        """Run failed or cancelled jobs again, as new jobs, and return those without waiting.

        `name` is the first digits of a job's id: the job is retried with those that were to continue from it. Or it is
        an experiment: its failed jobs are retried, but not those that diverged, which would diverge again.
        """
        store = self._session.store
        job = queries.job_or_experiment(store, name)
        ids = queries.retryable(store, name) if job is None else queries.with_descendants(store, job)
        return retried(self._session, name if job is None else queries.job_by_id(store, job).experiment, ids)

    def cancel(self, name: str) -> dict[str, int]:
        """Cancel a job, by the first digits of its id, or the unfinished jobs of an experiment.

        Jobs that wait for a cancelled job are cancelled too. Returns how many, by what was done to them.
        """
        return cancel_named(self._session.store, name)

    def results(self, experiment: str | None = None) -> pd.DataFrame:
        """One row for each job of an experiment, or of all, with the columns of the view `results`."""
        queries.check_experiment(self._session.store, experiment)
        return results_frame(queries.listed_jobs(self._session.store, experiment))

    def epochs(self, experiment: str) -> pd.DataFrame:
        """One row for each epoch of each job of an experiment, with the label of the job's arm.

        Accuracies are fractions, losses are mean cross-entropies in nats.
        """
        store = self._session.store
        queries.check_experiment(store, experiment)
        return epochs_frame(queries.job_records(store, experiment), queries.curves(store, experiment))

    @overload
    def compare(self, experiment: str, **options: Unpack[ComparisonKeys]) -> Comparison: ...

    @overload
    def compare(
        self, experiment: list[str] | tuple[str, ...], **options: Unpack[ComparisonKeys]
    ) -> ProblemsComparison: ...

    def compare(
        self, experiment: str | list[str] | tuple[str, ...], **options: Unpack[ComparisonKeys]
    ) -> Comparison | ProblemsComparison:
        """Compare the arms of an experiment, paired by seed; of several experiments, over all their problems.

        `by` are the fields that distinguish the sides, such as "optimizer"; without it each arm is a side. `metric` is
        accuracy, loss, validation, or epochs or seconds to the `target` accuracy in percent. `against` is the only arm
        to compare with. `choose_seeds` are the seeds that choose the setting of a side.
        """
        from mlpq.lab.comparisons import compared, problems_compared

        if isinstance(experiment, str):
            return compared(self._session, experiment, **options)
        return problems_compared(self._session, experiment, **options)

    def plan(self, experiment: str, difference: float, power: float = 0.8, **options: Unpack[ComparisonKeys]) -> Plan:
        """How many seeds detect a true difference of that size with that probability, from the spread so far.

        `options` are those of `compare`.
        """
        from mlpq.analysis.planning import Power
        from mlpq.experiment import compare_experiment
        from mlpq.lab.plans import Plan

        wanted = Power(difference, power)
        wanted.check()
        comparison = compare_experiment(self._session.store, experiment, params_of(**options)).comparison
        return Plan(self._session, experiment, comparison, wanted)

    def decide(
        self,
        experiment: str,
        difference: float,
        *,
        margin: float | None = None,
        max_seeds: int | None = None,
        **options: Unpack[ComparisonKeys],
    ) -> Decision:
        """Register the question which arm is better, and take the first step to its decision; `wait` takes the others.

        `difference` is the smallest that matters and `margin` the largest that counts as equivalent, both in the
        metric's unit; it ends after `max_seeds`, or after as many as the first ones show to be needed. `options` are
        those of `compare`.
        """
        from mlpq.analysis.question_terms import Goal
        from mlpq.decide import register
        from mlpq.lab.decisions import Decision

        goal = Goal(difference, margin, max_seeds)
        goal.check()
        return Decision(self._session, register(self._session.store, experiment, params_of(**options), goal))

    def verify(
        self,
        *names: str,
        sample: int | None = None,
        seed: int | None = None,
        device: str | None = None,
        progress: bool | None = None,
    ) -> Verifications:
        """Train results again and grade them; `names` are experiments, or the first digits of job ids.

        With `sample` only so many of the results are drawn at random, by `seed` if it is given. `device` is that of the
        results by default. An interruption cancels the reruns.
        """
        from mlpq.lab.verifications import Verifications
        from mlpq.verification import verify

        if not names:
            raise SpecError("name an experiment or a job to verify")
        if sample is not None and sample < 1:
            raise SpecError(f"sample must be 1 or more, not {sample}")
        if device is not None and device not in DEVICES:
            raise SpecError(f"unknown device '{device}'{nearest(device, DEVICES)}")
        config, store, view = self._session.config, self._session.store, self._session.view(progress)
        ids = verify.candidates(store, names)
        if sample is not None:
            seed = verify.any_seed() if seed is None else seed
            ids = verify.sampled(ids, sample, seed)

        def wait(reruns: Sequence[str], warning: str) -> None:
            warn(warning)
            self._session.wait(reruns, view)

        found = verify.verified(config, store, ids, device, wait)
        wanted = [job for each in found for job in (each.job_id, each.rerun_id) if job]
        jobs = {job.id: job for job in queries.listed_by_id(store, wanted)}
        return Verifications(found, jobs, seed if sample is not None else None)

    def errors(self, experiment: str, by: str | Iterable[str] = "") -> ErrorAnalysis:
        """Which test images the arms of an experiment get wrong; `by` is that of `compare`."""
        from mlpq.error_analysis import experiment_errors
        from mlpq.experiment import compare_experiment
        from mlpq.lab.error_analysis import ErrorAnalysis

        config, store = self._session.config, self._session.store
        compared = compare_experiment(store, experiment, params_of(by=by))
        return ErrorAnalysis(experiment_errors(config, store, compared.comparison))

    def data_sets(self) -> pd.DataFrame:
        """One row for each data set and, of own ones, for each content; checks the files that are on this machine."""
        from mlpq.lab.data_sets import listed

        return listed(self._session.config)

    def data_set(self, name: str) -> DataSet:
        """An own data set, or its older content NAME@HASH."""
        from mlpq.lab.data_sets import data_set_of

        return data_set_of(data_registry.named(self._session.config, name)[1])

    def add_data(self, name: str, source: str | PathLike[str], **options: Unpack[DataOptions]) -> DataSet:
        """Read a source, and store it as an own data set that `submit(dataset=name)` trains on.

        `source` is a CSV, Parquet or NPZ file, a folder with idx files or with a folder of images for each class, or a
        data set of a library, as "sklearn:wine".
        """
        from mlpq.lab.data_sets import add

        return add(self._session.config, name, source, **options)

    def workers(self) -> pd.DataFrame:
        """One row for each live worker: its device, its jobs and its last heartbeat."""
        rows = [worker_document(worker) for worker in worker_queries.live_workers(self._session.store)]
        return frame(rows, WORKER_COLUMNS)

    def sql(self, statement: str) -> pd.DataFrame:
        """The result of a read-only SQL query, such as "SELECT * FROM results"; raises QueryError."""
        columns, rows = sql.read_only(self._session.store, statement)
        return query_frame(rows, columns)

    @contextmanager
    def worker(self, device: str = "auto", world_size: int | str | None = None) -> Iterator[None]:
        """Run a worker on this machine for the duration of a `with` block, which spares each wait the start of one.

        `world_size` is the number of processes for each job that requests none. At the end of the block its jobs return
        to the queue. With services it raises MlpqError: there, `mlpq worker` runs where the jobs should train.
        """
        if device not in DEVICES:
            raise SpecError(f"unknown device '{device}'{nearest(device, DEVICES)}")
        try:
            ranks = parse_world_size(world_size)
        except ValueError as error:
            raise SpecError(str(error)) from None
        with self._session.worker(device, ranks):
            yield

    def close(self) -> None:
        """Close the connections to the database; the next use opens new ones."""
        self._session.close()

    def __enter__(self) -> Lab:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        config = self._session.config
        return f"Lab(database={masked(config.database_url)}, broker={masked(config.broker_url)})"
