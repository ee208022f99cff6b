"""Specs, results and epochs to file and record, and ways to make time pass in a database."""

from __future__ import annotations

import multiprocessing
from typing import Any

from sqlalchemy import select, update

from mlpq.jobs import Outcome
from mlpq.spec import JobSpec, Sweep
from mlpq.store import filing, queries, repository
from mlpq.store.models import jobs
from mlpq.store.repository import Held
from mlpq.store.session import Store, now

FACTS = {"python": "3.11", "torch": "2.13.0", "device": "cpu", "threads": 1}

RESULT = {
    "test_correct": 450, "test_total": 500, "test_loss": 0.25, "validation_correct": None, "validation_total": None,
    "validation_loss": None, "best_epoch": 2, "epochs_run": 2, "weights_sha256": "ab" * 32,
    "weights_file": "/nowhere/attempt-1.safetensors", "train_seconds": 1.5, "device": "cpu", "world_size": 1,
    "gang_size": 1,
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
    return [job.id for job in filing.file_jobs(store, experiment, some, **more)]


def claim(store: Store, worker: str = "ann", device: str = "cpu", limit: int = 1) -> list[Held]:
    return repository.claim(store, worker, device, FACTS, limit)


def claim_one(store: Store, worker: str = "ann") -> Held:
    (held,) = claim(store, worker)
    return held


def finish(store: Store, held: Held, **figures: object) -> None:
    repository.finish(store, held, {**RESULT, **figures}, [epoch(1), epoch(2)], "the last line")


def fail(store: Store, held: Held, outcome: Outcome = Outcome.FAILED, error: str = "it broke") -> str:
    return repository.fail(store, held, outcome, error, "the last line")


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


def let_delay_pass(store: Store, job: str) -> None:
    """As if the wait before the next attempt were over."""
    with store.write() as connection:
        connection.execute(update(jobs).where(jobs.c.id == job).values(not_before=now(-1)))


def claim_all(url: str, worker: str) -> list[str]:
    """Claim until there is nothing left; the ids. Runs in threads and processes that race."""
    store = Store(url)
    claimed: list[str] = []
    while held := claim(store, worker):
        claimed += [job.id for job in held]
    store.close()
    return claimed


def claim_all_in_processes(url: str, count: int) -> list[str]:
    """What `count` processes claimed, all told."""
    with multiprocessing.get_context("spawn").Pool(count) as pool:
        found = pool.starmap(claim_all, [(url, f"process {number}") for number in range(count)], chunksize=1)
    return [job for claimed in found for job in claimed]
