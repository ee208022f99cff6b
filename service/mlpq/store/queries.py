"""Reads of jobs and what belongs to them. Their figures come from the view `results`, the one that people query too."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Select, column, false, func, select, table

from mlpq.errors import NotFoundError
from mlpq.jobs import Outcome, Status
from mlpq.question_records import Question, UnreadableQuestion
from mlpq.records import AnyJob, AttemptRecord, EnvironmentRecord, EpochMetrics, JobRecord, RunningJob, StoredResult
from mlpq.results_view import COLUMNS
from mlpq.store import questions, reading
from mlpq.store.reading import EPOCH_FIELDS, JOB_FIELDS, RESULT_FIELDS
from mlpq.store.schema import (
    UtcDateTime,
    attempts,
    environments,
    epochs,
    experiments,
    is_current_attempt,
    job_results,
    jobs,
    verifications,
)
from mlpq.store.session import Store, chunks, now
from mlpq.store.transitions import LOG_CHARACTERS
from mlpq.store.verifications import from_row
from mlpq.text import ERROR_CHARACTERS
from mlpq.verification_records import Verification

TIMES = ("created_at", "started_at", "finished_at")  # SQLite keeps no types of a view's columns
results = table(
    "results",
    column("seq"),
    *(column(name, UtcDateTime()) if name in TIMES else column(name) for name in COLUMNS),
)

_ENDED_BADLY = (Status.FAILED, Status.CANCELLED)


def job_records(store: Store, experiment: str | None = None, statuses: Sequence[str] = ()) -> list[JobRecord]:
    """Jobs in the order of submission, without those that can't be read."""
    return [job for job in listed_jobs(store, experiment, statuses) if isinstance(job, JobRecord)]


def listed_jobs(
    store: Store,
    experiment: str | None = None,
    statuses: Sequence[str] = (),
    limit: int | None = None,
    newest_first: bool = False,
) -> list[AnyJob]:
    """Jobs in the order of submission unless `newest_first`; `statuses` may name the outcome diverged too."""
    query = _filtered(_select_jobs(), experiment, statuses)
    query = query.order_by(results.c.seq.desc() if newest_first else results.c.seq).limit(limit)
    with store.read() as connection:
        return [reading.job(row) for row in connection.execute(query).mappings()]


def job_by_id(store: Store, job: str) -> JobRecord:
    """The job with this id; raises NotFoundError where it can't be read."""
    (found,) = listed_by_id(store, [job])
    if not isinstance(found, JobRecord):
        raise NotFoundError(f"the job {found.id} can't be read: {found.reason}")
    return found


def jobs_by_id(store: Store, ids: Sequence[str]) -> list[JobRecord]:
    """These jobs, in the order of submission, without those that can't be read."""
    return [job for job in listed_by_id(store, ids) if isinstance(job, JobRecord)]


def listed_by_id(store: Store, ids: Sequence[str]) -> list[AnyJob]:
    """These jobs, in the order of submission."""
    found: list[AnyJob] = []
    with store.read() as connection:
        for chunk in chunks(ids):
            query = _select_jobs().where(results.c.id.in_(chunk)).order_by(results.c.seq)
            found += [reading.job(row) for row in connection.execute(query).mappings()]
    return found


def ancestors(store: Store, records: Sequence[AnyJob]) -> list[JobRecord]:
    """The jobs that `records` continue from, all generations, without those that are among `records`."""
    known = {job.id for job in records}
    found: list[JobRecord] = []
    missing = _parents(records) - known
    while missing:
        generation = jobs_by_id(store, sorted(missing))
        found += generation
        known.update(missing)
        missing = _parents(generation) - known
    return found


def count_by_status(store: Store, experiment: str | None = None) -> dict[Status, int]:
    """How many jobs have each status; statuses without a job are left out."""
    query = select(jobs.c.status, func.count()).group_by(jobs.c.status)
    if experiment is not None:
        query = query.join(experiments).where(experiments.c.name == experiment)
    with store.read() as connection:
        counts = {Status(status): count for status, count in connection.execute(query)}
    return {status: counts[status] for status in Status if status in counts}


def find_job(store: Store, prefix: str) -> str:
    """The id of the one job whose id begins with `prefix`; raises NotFoundError where there is none or several."""
    typed = prefix.strip().lower()
    digits = typed.replace("-", "")
    if not digits or len(digits) > 32 or any(digit not in "0123456789abcdef" for digit in digits):
        raise NotFoundError(f"'{prefix}' is not a job id: type the first digits of one that mlpq jobs shows")
    start = "-".join(filter(None, (digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:])))
    query = select(jobs.c.id).where(jobs.c.id >= start, jobs.c.id < start + "g").order_by(jobs.c.id).limit(3)
    with store.read() as connection:
        found = connection.execute(query).scalars().all()
    if not found:
        raise NotFoundError(f"no job begins with '{prefix}': mlpq jobs shows them")
    if len(found) > 1:
        raise NotFoundError(f"several jobs begin with '{prefix}', such as {found[0]} and {found[1]}: type more digits")
    return str(found[0])


def has_experiment(store: Store, name: str) -> bool:
    with store.read() as connection:
        return connection.execute(select(experiments.c.id).where(experiments.c.name == name)).first() is not None


def check_experiment(store: Store, name: str | None) -> None:
    """Raises NotFoundError where there is no experiment of that name."""
    if name is not None and not has_experiment(store, name):
        with store.read() as connection:
            query = select(experiments.c.name).order_by(experiments.c.id.desc()).limit(5)
            latest = connection.execute(query).scalars().all()
        known = f"the latest are: {', '.join(latest)}" if latest else "there is none yet"
        raise NotFoundError(f"no experiment is called '{name}'; {known}")


def job_or_experiment(store: Store, name: str) -> str | None:
    """The id of the one job whose id begins with `name`, or None where `name` is an experiment.

    Raises NotFoundError where it is neither, or both.
    """
    is_experiment = has_experiment(store, name)
    try:
        job = find_job(store, name)
    except NotFoundError as error:
        if not is_experiment:
            raise NotFoundError(f"no experiment is called '{name}', and {error}") from None
        return None
    if is_experiment:
        raise NotFoundError(f"'{name}' is both an experiment and the beginning of the job id {job}: type the whole id")
    return job


def unfinished(store: Store, ids: Sequence[str]) -> list[str]:
    """Those of `ids` that are not finished."""
    left: list[str] = []
    with store.read() as connection:
        for chunk in chunks(ids):
            query = select(jobs.c.id).where(jobs.c.id.in_(chunk), jobs.c.finished_at.is_(None))
            left += connection.execute(query).scalars().all()
    return left


def with_descendants(store: Store, job: str) -> list[str]:
    """The job, and the failed or cancelled jobs that were to continue from it, all generations."""
    found, generation = [job], [job]
    with store.read() as connection:
        while generation:
            children: list[str] = []
            for chunk in chunks(generation):
                query = select(jobs.c.id).where(jobs.c.parent_id.in_(chunk), jobs.c.status.in_(_ENDED_BADLY))
                children += connection.execute(query).scalars().all()
            generation = children
            found += children
    return found


def retryable(store: Store, experiment: str | None) -> list[str]:
    """Failed jobs that may succeed next time, parents before children.

    Jobs that were retried already are left out, and those that diverged (they would again) or whose spec can't be read,
    with their descendants.
    """
    later, parent = jobs.alias(), jobs.alias()
    superseded = select(later.c.seq).where(
        later.c.experiment_id == jobs.c.experiment_id,
        later.c.spec_hash == jobs.c.spec_hash,
        later.c.repeat > jobs.c.repeat,
    )
    query = (
        select(jobs.c.id, jobs.c.spec, jobs.c.parent_id, parent.c.status.label("parent_status"), attempts.c.outcome)
        .outerjoin(parent, parent.c.id == jobs.c.parent_id)
        .outerjoin(attempts, is_current_attempt(attempts))
        .where(jobs.c.status == Status.FAILED, ~superseded.exists())
        .order_by(jobs.c.seq)
    )
    if experiment is not None:
        query = query.join(experiments, experiments.c.id == jobs.c.experiment_id).where(
            experiments.c.name == experiment
        )
    chosen: dict[str, None] = {}
    with store.read() as connection:
        for row in connection.execute(query):
            has_parent = row.parent_id is None or row.parent_id in chosen
            may_succeed = row.outcome != Outcome.DIVERGED and reading.is_spec(row.spec)
            if may_succeed and (has_parent or row.parent_status not in _ENDED_BADLY):
                chosen[row.id] = None
    return list(chosen)


def curve(store: Store, job: str) -> list[EpochMetrics]:
    """The epochs of a job's current attempt, in order."""
    query = select(epochs).join(jobs, is_current_attempt(epochs)).where(epochs.c.job_id == job)
    with store.read() as connection:
        rows = connection.execute(query.order_by(epochs.c.epoch)).mappings()
        return [epoch for row in rows if (epoch := reading.epoch(row)) is not None]


def curves(store: Store, experiment: str) -> dict[str, list[EpochMetrics]]:
    """The curve of each job of an experiment that has one, by job id."""
    query = (
        select(epochs)
        .join(jobs, is_current_attempt(epochs))
        .join(experiments, experiments.c.id == jobs.c.experiment_id)
        .where(experiments.c.name == experiment)
        .order_by(epochs.c.job_id, epochs.c.epoch)
    )
    found: dict[str, list[EpochMetrics]] = {}
    with store.read() as connection:
        for row in connection.execute(query).mappings():
            if (epoch := reading.epoch(row)) is not None:
                found.setdefault(row["job_id"], []).append(epoch)
    return found


def attempts_of(store: Store, job: str) -> list[AttemptRecord]:
    """The attempts of a job with the facts of their environments, in order."""
    query = (
        select(
            *(attempts.c[name] for name in reading.ATTEMPT_FIELDS if name not in ("error", "log_tail", "environment")),
            func.substr(attempts.c.error, 1, ERROR_CHARACTERS).label("error"),
            func.substr(attempts.c.log_tail, 1, LOG_CHARACTERS).label("log_tail"),
            environments.c.facts.label("environment"),
        )
        .outerjoin(environments, environments.c.id == attempts.c.environment_id)
        .where(attempts.c.job_id == job)
        .order_by(attempts.c.attempt)
    )
    with store.read() as connection:
        return [reading.attempt(row) for row in connection.execute(query).mappings()]


def environments_of(store: Store, experiment: str) -> list[EnvironmentRecord]:
    """The environments that the results of an experiment come from, the most frequent first."""
    query = (
        select(environments.c.facts, func.count().label("jobs"))
        .join(attempts, attempts.c.environment_id == environments.c.id)
        .join(jobs, is_current_attempt(attempts))
        .join(experiments, experiments.c.id == jobs.c.experiment_id)
        .where(experiments.c.name == experiment, jobs.c.status == Status.SUCCEEDED)
        .group_by(environments.c.id, environments.c.facts)
        .order_by(func.count().desc(), environments.c.id)
    )
    with store.read() as connection:
        return reading.readable(EnvironmentRecord, connection.execute(query).mappings())


def stored_results(store: Store, ids: Sequence[str]) -> list[StoredResult]:
    """What the tables hold about these finished jobs, unchecked, in the order of submission."""
    parent = jobs.alias()
    is_results_attempt = (attempts.c.job_id == jobs.c.id) & (attempts.c.attempt == job_results.c.attempt)
    query = (
        select(
            jobs.c.id, experiments.c.name.label("experiment"), jobs.c.repeat, jobs.c.spec, jobs.c.spec_hash,
            jobs.c.seed, jobs.c.attempt, jobs.c.parent_id, parent.c.spec_hash.label("parent_hash"), attempts.c.outcome,
            environments.c.facts.label("environment"), environments.c.fingerprint,
            job_results.c.attempt.label("result_attempt"),
            *(job_results.c[name].label(f"result.{name}") for name in RESULT_FIELDS),
        )
        .join(experiments, experiments.c.id == jobs.c.experiment_id)
        .outerjoin(parent, parent.c.id == jobs.c.parent_id)
        .outerjoin(job_results, job_results.c.job_id == jobs.c.id)
        .outerjoin(attempts, is_results_attempt)
        .outerjoin(environments, environments.c.id == attempts.c.environment_id)
        .order_by(jobs.c.seq)
    )  # fmt: skip
    found: list[StoredResult] = []
    with store.read() as connection:
        for chunk in chunks(ids):
            found += [
                reading.stored_result(row) for row in connection.execute(query.where(jobs.c.id.in_(chunk))).mappings()
            ]
    return found


def verifications_of(store: Store, job: str) -> list[Verification]:
    """What mlpq verify found about a job, in order."""
    query = select(verifications).where(verifications.c.job_id == job).order_by(verifications.c.id)
    with store.read() as connection:
        return [from_row(row) for row in connection.execute(query).mappings()]


def questions_of(store: Store, experiment: str) -> list[Question | UnreadableQuestion]:
    """The registered questions of an experiment, in the order of registration."""
    with store.read() as connection:
        found = connection.execute(questions.select_questions(experiment)).mappings()
        return [questions.from_row(row) for row in found]


def running_jobs(store: Store, ids: Sequence[str]) -> list[RunningJob]:
    """Those of `ids` that run now, in the order of submission, without those that can't be read."""
    query = (
        select(
            jobs.c.id,
            jobs.c.spec,
            attempts.c.started_at,
            now().label("now"),
            environments.c.facts["kernel"].as_string().label("kernel"),
            *(epochs.c[name] for name in EPOCH_FIELDS),
        )
        .join(attempts, is_current_attempt(attempts))
        .outerjoin(environments, environments.c.id == attempts.c.environment_id)
        .outerjoin(epochs, is_latest_epoch())
        .where(jobs.c.status == Status.RUNNING)
        .order_by(jobs.c.seq)
    )
    wanted = set(ids)
    with store.read() as connection:
        rows = [row for row in connection.execute(query).mappings() if row["id"] in wanted]
        return [job for row in rows if (job := reading.running_job(row)) is not None]


def is_latest_epoch() -> ColumnElement[bool]:
    """Joins jobs to the last recorded epoch of their current attempts."""
    seen = epochs.alias()
    latest = select(func.max(seen.c.epoch)).where(is_current_attempt(seen)).correlate(jobs).scalar_subquery()
    return is_current_attempt(epochs) & (epochs.c.epoch == latest)


def ids_of(store: Store, experiment: str) -> list[str]:
    """The ids of an experiment's jobs, in the order of submission."""
    query = select(jobs.c.id).join(experiments).where(experiments.c.name == experiment).order_by(jobs.c.seq)
    with store.read() as connection:
        return list(connection.execute(query).scalars())


def _select_jobs() -> Select[Any]:
    columns = [results.c[name] for name in dict.fromkeys((*JOB_FIELDS, *RESULT_FIELDS)) if name != "error"]
    error = func.substr(results.c.error, 1, ERROR_CHARACTERS).label("error")
    return select(*columns, error, jobs.c.spec).join_from(results, jobs, jobs.c.seq == results.c.seq)


def _filtered(query: Select[Any], experiment: str | None, statuses: Iterable[str]) -> Select[Any]:
    if experiment is not None:
        query = query.where(results.c.experiment == experiment)
    wanted = [str(status) for status in statuses]
    if not wanted:
        return query
    is_diverged = results.c.outcome == Outcome.DIVERGED
    return query.where(results.c.status.in_(wanted) | (is_diverged if Outcome.DIVERGED in wanted else false()))


def _parents(records: Iterable[AnyJob]) -> set[str]:
    return {job.parent_id for job in records if isinstance(job, JobRecord) and job.parent_id is not None}
