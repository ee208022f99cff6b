"""All reads. The figures of jobs come from the view `results`, the one that people query too."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Integer, cast, column, false, func, select, table
from sqlalchemy.sql import Select

from mlpq.errors import NotFoundError
from mlpq.jobs import LEASE_SECONDS, Outcome, Status
from mlpq.spec.job import JobSpec
from mlpq.store.schema import attempts, environments, epochs, experiments, job_results, jobs, verifications, workers
from mlpq.store.session import Store, chunks, now

Row = dict[str, Any]

COLUMNS = (
    "id", "experiment", "status", "outcome", "dataset", "hidden", "activation", "bias", "initialisation", "dropout",
    "optimizer", "lr", "weight_decay", "optimizer_settings", "l1", "seed", "epochs", "batch_size", "validation",
    "patience", "test_correct", "test_total", "test_accuracy", "test_loss", "validation_correct", "validation_total",
    "validation_accuracy", "validation_loss", "best_epoch", "epochs_run", "weights_sha256", "weights_file",
    "train_seconds", "device", "world_size", "gang_size", "engine", "attempt", "spec_hash", "parent_id",
    "requested_device", "requested_world_size", "priority", "worker", "created_at", "started_at", "finished_at",
    "error",
)  # fmt: skip

results = table("results", column("seq"), *(column(name) for name in COLUMNS))

_ENDED_BADLY = (Status.FAILED, Status.CANCELLED)


def job_rows(
    store: Store,
    experiment: str | None = None,
    statuses: Sequence[str] = (),
    limit: int | None = None,
    newest_first: bool = False,
) -> list[Row]:
    """One row a job, with every column of the view; in the order of submission unless `newest_first`."""
    query = _filtered(select(*(results.c[name] for name in COLUMNS)), experiment, statuses)
    query = query.order_by(results.c.seq.desc() if newest_first else results.c.seq).limit(limit)
    with store.read() as connection:
        return [_row(found) for found in connection.execute(query).mappings()]


def jobs_by_id(store: Store, ids: Sequence[str]) -> list[Row]:
    """The rows of these jobs, in the order of submission."""
    found: list[Row] = []
    with store.read() as connection:
        for chunk in chunks(ids):
            query = select(*(results.c[name] for name in COLUMNS)).where(results.c.id.in_(chunk))
            found += [_row(row) for row in connection.execute(query.order_by(results.c.seq)).mappings()]
    return found


def ancestors(store: Store, rows: Sequence[Mapping[str, Any]]) -> list[Row]:
    """The jobs that `rows` go on from, all generations, but for those that are among `rows`."""
    known = {row["id"] for row in rows}
    found: list[Row] = []
    missing = sorted({row["parent_id"] for row in rows} - known - {None})
    while missing:
        generation = jobs_by_id(store, missing)
        found += generation
        known.update(missing)
        missing = sorted({row["parent_id"] for row in generation} - known - {None})
    return found


def count_by_status(store: Store, experiment: str | None = None) -> dict[str, int]:
    """How many jobs are in each state; states without a job are left out."""
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
        raise NotFoundError(f"'{prefix}' is no job id: type the first digits of one that mlpq jobs shows")
    start = "-".join(filter(None, (digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:])))
    query = select(jobs.c.id).where(jobs.c.id >= start, jobs.c.id < start + "g").order_by(jobs.c.id).limit(3)
    with store.read() as connection:
        found = connection.execute(query).scalars().all()
    if not found:
        raise NotFoundError(f"no job begins with '{prefix}': mlpq jobs shows them")
    if len(found) > 1:
        raise NotFoundError(
            f"several jobs begin with '{prefix}', {found[0]} and {found[1]} among them: type more of it"
        )
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


def spec_of(store: Store, job: str) -> JobSpec:
    with store.read() as connection:
        return JobSpec.model_validate(connection.execute(select(jobs.c.spec).where(jobs.c.id == job)).scalar_one())


def unfinished(store: Store, ids: Sequence[str]) -> list[str]:
    """Those of `ids` that are not finished."""
    left: list[str] = []
    with store.read() as connection:
        for chunk in chunks(ids):
            query = select(jobs.c.id).where(jobs.c.id.in_(chunk), jobs.c.finished_at.is_(None))
            left += connection.execute(query).scalars().all()
    return left


def with_descendants(store: Store, job: str) -> list[str]:
    """The job, and the failed or cancelled jobs that were to go on from it, all generations."""
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
    """Failed jobs that may fare better the next time, parents before children.

    Left out are those that were filed anew already, those that diverged (they would again), and their descendants.
    """
    later, parent = jobs.alias(), jobs.alias()
    superseded = select(later.c.seq).where(
        later.c.experiment_id == jobs.c.experiment_id,
        later.c.spec_hash == jobs.c.spec_hash,
        later.c.repeat > jobs.c.repeat,
    )
    query = (
        select(jobs.c.id, jobs.c.parent_id, parent.c.status.label("parent_status"), attempts.c.outcome)
        .outerjoin(parent, parent.c.id == jobs.c.parent_id)
        .outerjoin(attempts, (attempts.c.job_id == jobs.c.id) & (attempts.c.attempt == jobs.c.attempt))
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
            parent_lives = row.parent_id is None or row.parent_id in chosen
            if row.outcome != Outcome.DIVERGED and (parent_lives or row.parent_status not in _ENDED_BADLY):
                chosen[row.id] = None
    return list(chosen)


def curve(store: Store, job: str) -> list[Row]:
    """The epochs of a job's current attempt, in order."""
    query = (
        select(epochs)
        .join(jobs, (jobs.c.id == epochs.c.job_id) & (jobs.c.attempt == epochs.c.attempt))
        .where(epochs.c.job_id == job)
        .order_by(epochs.c.epoch)
    )
    with store.read() as connection:
        return [_epoch(row) for row in connection.execute(query).mappings()]


def curves(store: Store, experiment: str) -> dict[str, list[Row]]:
    """The curve of each job of an experiment that has one, by its id."""
    query = (
        select(epochs)
        .join(jobs, (jobs.c.id == epochs.c.job_id) & (jobs.c.attempt == epochs.c.attempt))
        .join(experiments, experiments.c.id == jobs.c.experiment_id)
        .where(experiments.c.name == experiment)
        .order_by(epochs.c.job_id, epochs.c.epoch)
    )
    found: dict[str, list[Row]] = {}
    with store.read() as connection:
        for row in connection.execute(query).mappings():
            found.setdefault(row["job_id"], []).append(_epoch(row))
    return found


def attempts_of(store: Store, job: str) -> list[Row]:
    """The attempts of a job with the facts of their environments, in order."""
    query = (
        select(attempts, environments.c.facts.label("environment"))
        .outerjoin(environments, environments.c.id == attempts.c.environment_id)
        .where(attempts.c.job_id == job)
        .order_by(attempts.c.attempt)
    )
    with store.read() as connection:
        return [dict(row) for row in connection.execute(query).mappings()]


def environments_of(store: Store, experiment: str) -> list[Row]:
    """What the results of an experiment were made on: the `facts` of each environment, and how many `jobs` had it."""
    query = (
        select(environments.c.facts, func.count().label("jobs"))
        .join(attempts, attempts.c.environment_id == environments.c.id)
        .join(jobs, (jobs.c.id == attempts.c.job_id) & (jobs.c.attempt == attempts.c.attempt))
        .join(experiments, experiments.c.id == jobs.c.experiment_id)
        .where(experiments.c.name == experiment, jobs.c.status == Status.SUCCEEDED)
        .group_by(environments.c.id, environments.c.facts)
        .order_by(func.count().desc(), environments.c.id)
    )
    with store.read() as connection:
        return [dict(row) for row in connection.execute(query).mappings()]


def records(store: Store, ids: Sequence[str]) -> list[Row]:
    """What is stored about these finished jobs, as it is stored, in the order of submission.

    `result` is the row of `job_results`, None where there is none; `environment`, `fingerprint` and `outcome` are those
    of the attempt that it is of.
    """
    parent = jobs.alias()
    on_result = (attempts.c.job_id == jobs.c.id) & (attempts.c.attempt == job_results.c.attempt)
    query = (
        select(
            jobs.c.id, experiments.c.name.label("experiment"), jobs.c.repeat, jobs.c.spec, jobs.c.spec_hash,
            jobs.c.seed, jobs.c.attempt, jobs.c.parent_id, parent.c.spec_hash.label("parent_hash"), attempts.c.outcome,
            environments.c.facts.label("environment"), environments.c.fingerprint,
            *(result.label(f"result.{result.name}") for result in job_results.c),
        )
        .join(experiments, experiments.c.id == jobs.c.experiment_id)
        .outerjoin(parent, parent.c.id == jobs.c.parent_id)
        .outerjoin(job_results, job_results.c.job_id == jobs.c.id)
        .outerjoin(attempts, on_result)
        .outerjoin(environments, environments.c.id == attempts.c.environment_id)
        .order_by(jobs.c.seq)
    )  # fmt: skip
    found: list[Row] = []
    with store.read() as connection:
        for chunk in chunks(ids):
            found += [_record(row) for row in connection.execute(query.where(jobs.c.id.in_(chunk))).mappings()]
    return found


def _record(found: Mapping[Any, Any]) -> Row:
    result = {name.removeprefix("result."): value for name, value in found.items() if name.startswith("result.")}
    own = {name: value for name, value in found.items() if not name.startswith("result.")}
    return {**own, "result": result if result.pop("job_id") else None}


def verifications_of(store: Store, job: str) -> list[Row]:
    """What mlpq verify found about a job, in order."""
    query = select(verifications).where(verifications.c.job_id == job).order_by(verifications.c.id)
    with store.read() as connection:
        rows = [dict(row) for row in connection.execute(query).mappings()]
    return [{key: row[key] for key in row if key not in ("id", "job_id")} for row in rows]


def running(store: Store, ids: Sequence[str]) -> list[Row]:
    """Those of `ids` that run now: spec, and the latest epoch that was recorded (nulls before the first)."""
    seen = epochs.alias()
    latest = select(func.max(seen.c.epoch)).where(seen.c.job_id == jobs.c.id, seen.c.attempt == jobs.c.attempt)
    on_attempt = (attempts.c.job_id == jobs.c.id) & (attempts.c.attempt == jobs.c.attempt)
    on_epoch = (epochs.c.job_id == jobs.c.id) & (epochs.c.attempt == jobs.c.attempt)
    query = (
        select(
            jobs.c.id,
            jobs.c.spec,
            attempts.c.started_at,
            now().label("now"),
            epochs.c.epoch,
            epochs.c.train_loss,
            epochs.c.test_correct,
            epochs.c.test_total,
        )
        .join(attempts, on_attempt)
        .outerjoin(epochs, on_epoch & (epochs.c.epoch == latest.correlate(jobs).scalar_subquery()))
        .where(jobs.c.status == Status.RUNNING)
        .order_by(jobs.c.seq)
    )
    wanted = set(ids)
    with store.read() as connection:
        return [dict(row) for row in connection.execute(query).mappings() if row["id"] in wanted]


def live_workers(store: Store) -> list[Row]:
    """Workers that beat within the length of a lease, with how many jobs they run, and the time by the same clock."""
    busy = select(jobs.c.worker, func.count().label("jobs")).where(jobs.c.status == Status.RUNNING)
    counted = busy.group_by(jobs.c.worker).subquery()
    query = select(workers, func.coalesce(counted.c.jobs, 0).label("jobs_running"), now().label("now"))
    query = (
        query.outerjoin(counted, counted.c.worker == workers.c.name)
        .where(workers.c.beat_at > now(-LEASE_SECONDS))
        .order_by(workers.c.started_at)
    )
    with store.read() as connection:
        return [dict(row) for row in connection.execute(query).mappings()]


def stranded(store: Store, experiment: str | None = None) -> list[Row]:
    """Queued jobs that no live worker can run: `device` and `world_size` as they were asked for, and how many."""
    asked = (jobs.c.experiment_id, jobs.c.device, jobs.c.world_size)  # in the order of the index, which has it all
    query = select(*asked, func.count().label("jobs")).where(jobs.c.status == Status.QUEUED).group_by(*asked)
    if experiment is not None:
        query = query.join(experiments).where(experiments.c.name == experiment)
    each = query.subquery()
    total = select(each.c.device, each.c.world_size, cast(func.sum(each.c.jobs), Integer).label("jobs"))
    with store.read() as connection:
        found = connection.execute(total.group_by(each.c.device, each.c.world_size)).mappings().all()
    alive = live_workers(store)
    left = [
        dict(row) for row in found if not any(can_run(worker, row["device"], row["world_size"]) for worker in alive)
    ]
    return sorted(left, key=lambda row: (row["device"], row["world_size"] or 1))


def can_run(worker: Mapping[str, Any], device: str, world_size: int | None) -> bool:
    """Whether a worker could take a job that asks for that device and world size, where it asks."""
    return device in ("auto", worker["device"]) and (world_size or 1) <= worker["most_ranks"]


def fair_share(store: Store, device: str, limit: int, most_ranks: int = 1) -> int:
    """How many jobs a worker should claim, at most `limit`, so that each one alive with its device gets as many.

    Jobs that ask for more than `most_ranks` processes are not shared.
    """
    alive = select(func.count()).where(workers.c.device == device, workers.c.beat_at > now(-LEASE_SECONDS))
    with store.read() as connection:
        sharing = connection.execute(alive).scalar_one()
        if sharing < 2:
            return limit
        active = 0
        for status in (Status.QUEUED, Status.RUNNING):  # one by one, each by the index that knows its status
            fitting = (jobs.c.status == status) & jobs.c.device.in_(("auto", device))
            fitting &= jobs.c.world_size.is_(None) | (jobs.c.world_size <= most_ranks)
            enough = select(jobs.c.seq).where(fitting).limit(limit * sharing).subquery()
            active += connection.execute(select(func.count()).select_from(enough)).scalar_one()
    return max(1, min(limit, math.ceil(active / sharing)))


def cancel_requested(store: Store, ids: Sequence[str]) -> set[str]:
    """Those of `ids` that a person asked to stop."""
    found: set[str] = set()
    with store.read() as connection:
        for chunk in chunks(ids):
            query = select(jobs.c.id).where(jobs.c.id.in_(chunk), jobs.c.cancel_requested)
            found.update(connection.execute(query).scalars())
    return found


def ids_of(store: Store, experiment: str) -> list[str]:
    """The ids of an experiment's jobs, in the order of submission."""
    query = select(jobs.c.id).join(experiments).where(experiments.c.name == experiment).order_by(jobs.c.seq)
    with store.read() as connection:
        return list(connection.execute(query).scalars())


def _filtered(query: Select[Any], experiment: str | None, statuses: Iterable[str]) -> Select[Any]:
    if experiment is not None:
        query = query.where(results.c.experiment == experiment)
    wanted = [str(status) for status in statuses]
    if not wanted:
        return query
    is_diverged = results.c.outcome == Outcome.DIVERGED
    return query.where(results.c.status.in_(wanted) | (is_diverged if Outcome.DIVERGED in wanted else false()))


def _epoch(found: Mapping[Any, Any]) -> Row:
    return {key: found[key] for key in found if key not in ("job_id", "attempt")}


def _row(found: Mapping[Any, Any]) -> Row:
    """A row of the view as Python values: SQLite gives JSON, booleans and times as text or numbers."""
    row = dict(found)
    row["hidden"] = [] if row["hidden"] == "none" else [int(width) for width in row["hidden"].split(",")]
    row["bias"] = bool(row["bias"])
    row["optimizer_settings"] = json.loads(row["optimizer_settings"])
    for name in ("created_at", "started_at", "finished_at"):
        if isinstance(row[name], str):
            row[name] = datetime.fromisoformat(row[name]).replace(tzinfo=UTC)
    return row
