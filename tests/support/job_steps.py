"""Specs, results and epochs to file and record, and ways to make time pass in a database."""

from __future__ import annotations

import multiprocessing
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import select, update

from mlpq.jobs import Outcome, Status
from mlpq.spec.job import JobSpec, Sweep
from mlpq.store import execution, queries, submission
from mlpq.store.execution import Able, Ending, Held, Progress
from mlpq.store.schema import jobs
from mlpq.store.session import Store, now

FACTS = {"python": "3.11", "torch": "2.13.0", "device": "cpu", "threads": 1}

TOO_BIG_TO_STACK = {"hidden": 14_000}

RESULT = {
    "test_correct": 450, "test_total": 500, "test_loss": 0.25, "validation_correct": None, "validation_total": None,
    "validation_loss": None, "best_epoch": 2, "epochs_run": 2, "weights_sha256": "ab" * 32,
    "weights_file": "/nowhere/attempt-1.safetensors", "train_seconds": 1.5, "device": "cpu", "world_size": 1,
    "gang_size": 1, "engine": "plain",
}  # fmt: skip


def epoch(number: int, test_correct: int = 400) -> dict[str, Any]:
    return {
        "epoch": number, "train_loss": 1.0 / number, "validation_loss": None, "validation_correct": None,
        "validation_total": None, "test_loss": 1.5 / number, "test_correct": test_correct, "test_total": 500,
        "seconds": 0.5,
    }  # fmt: skip


def specs(parent: JobSpec | None = None, **keys: object) -> list[JobSpec]:
    """The jobs of a sweep on the small data set."""
    return Sweep.parse({"dataset": "digits", "epochs": 2, **keys}).jobs(parent)


def spec(parent: JobSpec | None = None, **keys: object) -> JobSpec:
    (one,) = specs(parent, **keys)
    return one


def child_of(parent: JobSpec, **keys: object) -> JobSpec:
    return spec(parent, optimizer="adam", **keys)


def file(store: Store, *some: JobSpec, experiment: str = "lab", **more: Any) -> list[str]:
    """File jobs; their ids."""
    return [job.id for job in submission.file_jobs(store, experiment, some, **more)]


def claim(store: Store, worker: str = "ann", device: str = "cpu", limit: int = 1) -> list[Held]:
    return execution.claim(store, worker, Able(device), FACTS, limit)


def claim_one(store: Store, worker: str = "ann") -> Held:
    (held,) = claim(store, worker)
    return held


def claim_rest(store: Store, worker: str = "ann", limit: int = 1) -> list[Held]:
    """Claim until there is nothing left."""
    claimed: list[Held] = []
    while held := claim(store, worker, limit=limit):
        claimed += held
    return claimed


def beat(store: Store, held: Held, curve: Sequence[Mapping[str, Any]] = (), log_tail: str | None = None) -> bool | None:
    """Whether the job was asked to stop; None where the lease was lost."""
    return execution.beat(store, [Progress(held, curve, log_tail)]).get(held.id)


def success(held: Held, **figures: object) -> Ending:
    result = {**RESULT, **figures}
    return Ending(held, Outcome.SUCCEEDED, result, None, "the last line", [epoch(1), epoch(2)])


def failure(held: Held, outcome: Outcome = Outcome.FAILED, error: str = "it broke") -> Ending:
    return Ending(held, outcome, None, error, "the last line")


def finish(store: Store, held: Held, **figures: object) -> Status | None:
    """What the job is now; None where the lease was lost."""
    return execution.record(store, [success(held, **figures)]).get(held.id)


def fail(store: Store, held: Held, outcome: Outcome = Outcome.FAILED, error: str = "it broke") -> Status | None:
    """What the job is now; None where the lease was lost."""
    return execution.record(store, [failure(held, outcome, error)]).get(held.id)


def row(store: Store, job: str) -> dict[str, Any]:
    """The job's row of the view `results`."""
    return queries.jobs_by_id(store, [job])[0]


def status(store: Store, job: str) -> str:
    return str(row(store, job)["status"])


def attempts(store: Store, job: str) -> list[tuple[int, str | None]]:
    """Number and outcome of each attempt."""
    return [(attempt["attempt"], attempt["outcome"]) for attempt in queries.attempts_of(store, job)]


def whole_row(store: Store, job: str) -> dict[str, Any]:
    """The row of the table, with the columns that the view leaves out."""
    with store.read() as connection:
        return dict(connection.execute(select(jobs).where(jobs.c.id == job)).mappings().one())


def let_lease_expire(store: Store, job: str) -> None:
    """As if the job's worker had been silent for a minute and a bit."""
    with store.write() as connection:
        connection.execute(update(jobs).where(jobs.c.id == job).values(lease_until=now(-1)))


def let_delay_pass(store: Store, job: str, ago: float = 1) -> None:
    """As if the wait before the next attempt were over since so many seconds."""
    with store.write() as connection:
        connection.execute(update(jobs).where(jobs.c.id == job).values(not_before=now(-ago)))


def claim_all(url: str, worker: str, limit: int = 1) -> list[str]:
    """Claim until there is nothing left; the ids. Runs in threads and processes that race."""
    store = Store(url)
    claimed = claim_rest(store, worker, limit)
    store.close()
    return [held.id for held in claimed]


def claim_all_in_processes(url: str, count: int) -> list[str]:
    """What `count` processes claimed, all told."""
    with multiprocessing.get_context("spawn").Pool(count) as pool:
        found = pool.starmap(claim_all, [(url, f"process {number}") for number in range(count)], chunksize=1)
    return [job for claimed in found for job in claimed]
