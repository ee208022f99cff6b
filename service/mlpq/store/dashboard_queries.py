"""What the dashboard reads beside `queries`: counts by index and pages by key, never all jobs of the database."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from sqlalchemy import func, select, union_all

from mlpq.errors import NotFoundError
from mlpq.jobs import Status
from mlpq.store import queries
from mlpq.store.schema import epochs, experiments, job_results, jobs
from mlpq.store.session import Store

Row = dict[str, Any]


def experiments_page(store: Store, before: int | None, limit: int) -> list[Row]:
    """The latest experiments, or those filed before the one with that id: `id`, `name`, `created_at`."""
    query = select(experiments).order_by(experiments.c.id.desc()).limit(limit)
    if before is not None:
        query = query.where(experiments.c.id < before)
    with store.read() as connection:
        return [dict(row) for row in connection.execute(query).mappings()]


def experiment(store: Store, name: str) -> Row:
    """`id`, `name` and `created_at`; raises NotFoundError where there is none of that name."""
    if "\0" in name:  # which PostgreSQL refuses
        raise NotFoundError("no experiment has such a name")
    with store.read() as connection:
        found = connection.execute(select(experiments).where(experiments.c.name == name)).mappings().first()
    if found is None:
        queries.check_experiment(store, name)  # which tells what there is
        return experiment(store, name)  # filed just now
    return dict(found)


def counts(store: Store, ids: Collection[int]) -> dict[int, dict[str, int]]:
    """By experiment, how many of its jobs are in each state; states without a job are left out."""
    query = select(jobs.c.experiment_id, jobs.c.status, func.count()).where(jobs.c.experiment_id.in_(ids))
    found: dict[int, dict[str, int]] = {id_: {} for id_ in ids}
    with store.read() as connection:
        for id_, status, count in connection.execute(query.group_by(jobs.c.experiment_id, jobs.c.status)):
            found[id_][status] = count
    return {id_: {status: each[status] for status in Status if status in each} for id_, each in found.items()}


def waiting(store: Store, ids: Collection[int]) -> dict[int, list[Row]]:
    """By experiment, what its queued jobs ask for: `device`, `world_size` and how many `jobs`."""
    asked = (jobs.c.experiment_id, jobs.c.device, jobs.c.world_size)
    query = select(*asked, func.count().label("jobs")).where(
        jobs.c.status == Status.QUEUED, jobs.c.experiment_id.in_(ids)
    )
    found: dict[int, list[Row]] = {id_: [] for id_ in ids}
    with store.read() as connection:
        for row in connection.execute(query.group_by(*asked).order_by(*asked)).mappings():
            found[row["experiment_id"]].append(dict(row))
    return found


def history(store: Store, experiment_id: int) -> str:
    """A word that changes with the status of any job of the experiment.

    Between two equal ones no job was claimed, since that raises `attempt`; and without a claim no way of `jobs` leads
    back to the same counts.
    """
    query = select(jobs.c.status, func.count(), func.sum(jobs.c.attempt)).where(jobs.c.experiment_id == experiment_id)
    filed = select(experiments.c.created_at).where(experiments.c.id == experiment_id)  # another one in another database
    with store.read() as connection:
        states = sorted(tuple(row) for row in connection.execute(query.group_by(jobs.c.status)))
        return f"{experiment_id} {connection.execute(filed).scalar_one()} {states}"


def epochs_of_running(store: Store, experiment_id: int) -> int:
    """How many epochs are recorded of the attempts that run now."""
    of_attempt = (epochs.c.job_id == jobs.c.id) & (epochs.c.attempt == jobs.c.attempt)
    query = select(func.count()).select_from(jobs).join(epochs, of_attempt)
    query = query.where(jobs.c.experiment_id == experiment_id, jobs.c.status == Status.RUNNING)
    with store.read() as connection:
        return int(connection.execute(query).scalar_one())


def epochs_of_results(store: Store, experiment_id: int) -> int:
    """How many epochs the finished jobs of an experiment trained."""
    query = select(func.coalesce(func.sum(job_results.c.epochs_run), 0)).select_from(jobs).join(job_results)
    query = query.where(jobs.c.experiment_id == experiment_id)
    with store.read() as connection:
        return int(connection.execute(query).scalar_one())


def jobs_page(store: Store, experiment_id: int, statuses: Sequence[str], after: int, limit: int) -> list[Row]:
    """Rows of the view in the order of submission, with their `seq`: the first ones behind the job with that `seq`."""
    pages = [
        select(jobs.c.seq, jobs.c.id)
        .where(jobs.c.experiment_id == experiment_id, jobs.c.status == status, jobs.c.seq > after)
        .order_by(jobs.c.seq)
        .limit(limit)
        .subquery()
        for status in statuses
    ]  # each by the index; of the jobs of an experiment in several states only so many are sorted
    merged = union_all(*(select(page) for page in pages)).subquery()
    with store.read() as connection:
        found = connection.execute(select(merged).order_by(merged.c.seq).limit(limit)).all()
    seqs = {row.id: row.seq for row in found}
    return [{**row, "seq": seqs[row["id"]]} for row in queries.jobs_by_id(store, list(seqs))]


def latest_epochs(store: Store, ids: Sequence[str]) -> dict[str, Row]:
    """Of those jobs that have one, the last epoch of the current attempt."""
    seen = epochs.alias()
    last = select(func.max(seen.c.epoch)).where(seen.c.job_id == jobs.c.id, seen.c.attempt == jobs.c.attempt)
    on_last = (epochs.c.job_id == jobs.c.id) & (epochs.c.attempt == jobs.c.attempt)
    is_last = epochs.c.epoch == last.correlate(jobs).scalar_subquery()
    query = select(epochs).select_from(jobs.join(epochs, on_last & is_last))
    with store.read() as connection:
        return {row["job_id"]: dict(row) for row in connection.execute(query.where(jobs.c.id.in_(ids))).mappings()}
