"""What the dashboard reads beside `queries`: counts by index and pages by key, never all jobs of the database."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, cast, func, select, union_all

from mlpq.errors import NotFoundError
from mlpq.jobs import Status
from mlpq.records import AnyJob, EpochMetrics, ExperimentRecord, WaitingJobs
from mlpq.store import queries, reading, worker_queries
from mlpq.store.schema import (
    epochs,
    experiments,
    is_current_attempt,
    job_results,
    jobs,
    question_caps,
    questions,
)
from mlpq.store.session import Store, now


def experiments_page(store: Store, before: int | None, limit: int) -> list[ExperimentRecord]:
    """The latest experiments, or those created before the one with the id `before`."""
    query = select(experiments).order_by(experiments.c.id.desc()).limit(limit)
    if before is not None:
        query = query.where(experiments.c.id < before)
    with store.read() as connection:
        return [ExperimentRecord(**row) for row in connection.execute(query).mappings()]


def database_time(store: Store) -> datetime:
    """The time by the database's clock."""
    with store.read() as connection:
        found: datetime = connection.execute(select(now())).scalar_one()
    return found


def experiment(store: Store, name: str) -> ExperimentRecord:
    """Raises NotFoundError where there is no experiment of that name."""
    if "\0" in name:  # which PostgreSQL refuses
        raise NotFoundError("no experiment has such a name")
    with store.read() as connection:
        found = connection.execute(select(experiments).where(experiments.c.name == name)).mappings().first()
    if found is None:
        queries.check_experiment(store, name)
        return experiment(store, name)  # it was created just now
    return ExperimentRecord(**found)


def counts(store: Store, ids: Collection[int]) -> dict[int, dict[Status, int]]:
    """By experiment id, how many of its jobs have each status; statuses without a job are left out."""
    query = select(jobs.c.experiment_id, jobs.c.status, func.count()).where(jobs.c.experiment_id.in_(ids))
    found: dict[int, dict[Status, int]] = {id_: {} for id_ in ids}
    with store.read() as connection:
        for id_, status, count in connection.execute(query.group_by(jobs.c.experiment_id, jobs.c.status)):
            found[id_][Status(status)] = count
    return {id_: {status: each[status] for status in Status if status in each} for id_, each in found.items()}


def waiting(store: Store, ids: Collection[int]) -> dict[int, list[WaitingJobs]]:
    """By experiment id, what its queued jobs request."""
    requested = (jobs.c.experiment_id, jobs.c.device, jobs.c.world_size, jobs.c.data_sha256)
    query = select(*requested, func.count().label("jobs"))
    query = query.where(jobs.c.status == Status.QUEUED, jobs.c.experiment_id.in_(ids))
    found: dict[int, list[Mapping[str, Any]]] = {id_: [] for id_ in ids}
    with store.read() as connection:
        for row in connection.execute(query.group_by(*requested).order_by(*requested)).mappings():
            found[row["experiment_id"]].append(dict(row))
    return {id_: worker_queries.waiting_jobs(store, rows) for id_, rows in found.items()}


def history_token(store: Store, experiment_id: int) -> str:
    """A token that differs after any job of the experiment changes its status, or a question is registered.

    Between two equal tokens no job was claimed, since that raises `attempt`; and without a claim no sequence of
    transitions leads back to the same counts.
    """
    query = select(jobs.c.status, func.count(), func.sum(jobs.c.attempt)).where(jobs.c.experiment_id == experiment_id)
    asked = (
        select(func.count(questions.c.id), func.count(question_caps.c.question_id))
        .outerjoin_from(questions, question_caps)
        .where(questions.c.experiment_id == experiment_id)
    )
    created = select(experiments.c.created_at).where(experiments.c.id == experiment_id)  # tells databases apart
    with store.read() as connection:
        states = sorted(tuple(row) for row in connection.execute(query.group_by(jobs.c.status)))
        registered = tuple(connection.execute(asked).one())
        return f"{experiment_id} {connection.execute(created).scalar_one()} {states} {registered}"


def epochs_of_running(store: Store, experiment_id: int) -> int:
    """How many epochs are recorded of the attempts that run now."""
    query = select(func.count()).select_from(jobs).join(epochs, is_current_attempt(epochs))
    query = query.where(jobs.c.experiment_id == experiment_id, jobs.c.status == Status.RUNNING)
    with store.read() as connection:
        return int(connection.execute(query).scalar_one())


def epochs_of_results(store: Store, experiment_id: int) -> int:
    """How many epochs the finished jobs of an experiment trained."""
    query = (
        select(cast(func.coalesce(func.sum(job_results.c.epochs_run), 0), BigInteger))
        .select_from(jobs)
        .join(job_results)
    )
    query = query.where(jobs.c.experiment_id == experiment_id)
    with store.read() as connection:
        return int(connection.execute(query).scalar_one())


def jobs_page(
    store: Store, experiment_id: int, statuses: Sequence[Status], after: int, limit: int
) -> list[tuple[int, AnyJob]]:
    """Jobs in the order of submission with their `seq`: the first ones after the job with the `seq` `after`."""
    pages = [
        select(jobs.c.seq, jobs.c.id)
        .where(jobs.c.experiment_id == experiment_id, jobs.c.status == status, jobs.c.seq > after)
        .order_by(jobs.c.seq)
        .limit(limit)
        .subquery()
        for status in statuses
    ]  # each by the index, so that no more than `limit` jobs of each status are sorted
    merged = union_all(*(select(page) for page in pages)).subquery()
    with store.read() as connection:
        found = connection.execute(select(merged).order_by(merged.c.seq).limit(limit)).all()
    seqs = {row.id: row.seq for row in found}
    return [(seqs[job.id], job) for job in queries.listed_by_id(store, list(seqs))]


def latest_epochs(store: Store, ids: Sequence[str]) -> dict[str, EpochMetrics]:
    """By job id, the last epoch of the current attempt, for jobs that have one."""
    query = select(epochs).select_from(jobs.join(epochs, queries.is_latest_epoch()))
    with store.read() as connection:
        rows = connection.execute(query.where(jobs.c.id.in_(ids))).mappings()
        return {row["job_id"]: epoch for row in rows if (epoch := reading.epoch(row)) is not None}
