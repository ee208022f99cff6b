"""Steps of a job's life (submit, claim, heartbeat, end), with small specs and made-up figures; and expired leases."""

from __future__ import annotations

import multiprocessing
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy import select, update

from mlpq.image_records import CalibrationBin, ResultImages
from mlpq.jobs import Engine, Outcome, Status
from mlpq.records import (
    AttemptEnding,
    AttemptProgress,
    ClaimedJob,
    EpochMetrics,
    JobRecord,
    JobResult,
    Placement,
    Rerun,
)
from mlpq.spec.job import JobSpec
from mlpq.spec.sweep import Sweep
from mlpq.store import claiming, execution, queries, submission
from mlpq.store.schema import jobs, workers
from mlpq.store.session import Store, now
from mlpq.worker_records import WorkerCapabilities

FACTS = {"python": "3.11", "torch": "2.13.0", "device": "cpu", "threads": 1}

TOO_BIG_TO_STACK = {"hidden": 14_000}

RESULT = JobResult(
    test_correct=450,
    test_total=500,
    test_loss=0.25,
    validation_correct=None,
    validation_total=None,
    validation_loss=None,
    best_epoch=2,
    epochs_run=2,
    weights_sha256="ab" * 32,
    weights_file="/nowhere/attempt-1.safetensors",
    train_seconds=1.5,
    device="cpu",
    world_size=1,
    gang_size=1,
    engine=Engine.PLAIN,
)
IMAGES = ResultImages(
    correct=bytes([255] * 56 + [0b11000000] + [0] * 6),
    predictions_sha256="cd" * 32,
    confusion=[[450, 20], [30, 0]],
    calibration=[CalibrationBin(500, 460.5, 450), *[CalibrationBin(0, 0.0, 0)] * 14],
)


def epoch(number: int, test_correct: int = 400) -> EpochMetrics:
    return EpochMetrics(
        epoch=number,
        train_loss=1.0 / number,
        validation_loss=None,
        validation_correct=None,
        validation_total=None,
        test_loss=1.5 / number,
        test_correct=test_correct,
        test_total=500,
        seconds=0.5,
    )


def specs(parent: JobSpec | None = None, /, **keys: object) -> list[JobSpec]:
    """The jobs of a sweep on the small data set."""
    return Sweep.parse({"dataset": "digits", "epochs": 2, **keys}).jobs(parent)


def spec(parent: JobSpec | None = None, /, **keys: object) -> JobSpec:
    (one,) = specs(parent, **keys)
    return one


def child_of(parent: JobSpec, /, **keys: object) -> JobSpec:
    return spec(parent, optimizer="adam", **keys)


def submit(
    store: Store,
    *some: JobSpec,
    experiment: str = "lab",
    parent_id: str | None = None,
    again: bool = False,
    **placement: Any,
) -> list[str]:
    """Submit jobs with these fields of a Placement; their ids."""
    submitted = submission.submit_jobs(store, experiment, some, Placement(**placement), parent_id, again)
    return [job.id for job in submitted]


def rerun_of(store: Store, job: str, parent_id: str | None = None) -> Rerun:
    """A rerun of a job's spec, as mlpq verify submits it."""
    return Rerun(row(store, job).spec, parent_id, "cpu", 1)


def claim(store: Store, worker: str = "ann:1:a", device: str = "cpu", limit: int = 1) -> list[ClaimedJob]:
    return claiming.claim(store, worker, WorkerCapabilities(device), FACTS, limit)


def claim_one(store: Store, worker: str = "ann:1:a") -> ClaimedJob:
    (job,) = claim(store, worker)
    return job


def claim_rest(store: Store, worker: str = "ann:1:a", limit: int = 1) -> list[ClaimedJob]:
    """Claim until nothing is left."""
    claimed: list[ClaimedJob] = []
    while found := claim(store, worker, limit=limit):
        claimed += found
    return claimed


def heartbeat(
    store: Store, job: ClaimedJob, curve: Sequence[EpochMetrics] = (), log_tail: str | None = None
) -> bool | None:
    """Whether the job's cancellation is requested; None where the lease was lost."""
    return execution.heartbeat(store, [AttemptProgress(job, curve, log_tail)]).get(job.id)


def success(job: ClaimedJob, **figures: Any) -> AttemptEnding:
    """A success with RESULT, but for these figures, and IMAGES."""
    result, curve = replace(RESULT, **figures), [epoch(1), epoch(2)]
    return AttemptEnding(job, Outcome.SUCCEEDED, result, None, "the last line", curve, images=IMAGES)


def failure(job: ClaimedJob, outcome: Outcome = Outcome.FAILED, error: str = "it broke") -> AttemptEnding:
    return AttemptEnding(job, outcome, None, error, "the last line")


def finish(store: Store, job: ClaimedJob, **figures: Any) -> Status | None:
    """The job's status after a success; None where the lease was lost."""
    return execution.record(store, [success(job, **figures)]).get(job.id)


def fail(store: Store, job: ClaimedJob, outcome: Outcome = Outcome.FAILED, error: str = "it broke") -> Status | None:
    """The job's status after an attempt without a result; None where the lease was lost."""
    return execution.record(store, [failure(job, outcome, error)]).get(job.id)


def row(store: Store, job: str) -> JobRecord:
    """The job as the store returns it."""
    return queries.job_by_id(store, job)


def result(store: Store, job: str) -> JobResult:
    """The result of a job that has one."""
    found = row(store, job).result
    assert found is not None
    return found


def status(store: Store, job: str) -> Status:
    return row(store, job).status


def attempts(store: Store, job: str) -> list[tuple[int, Outcome | None]]:
    """Number and outcome of each attempt."""
    return [(attempt.attempt, attempt.outcome) for attempt in queries.attempts_of(store, job)]


def whole_row(store: Store, job: str) -> dict[str, Any]:
    """The job's row of the table, with the columns that a record lacks."""
    with store.read() as connection:
        return dict(connection.execute(select(jobs).where(jobs.c.id == job)).mappings().one())


def let_lease_expire(store: Store, job: str) -> None:
    """As if the job's worker had sent no heartbeat for longer than a lease."""
    with store.write() as connection:
        connection.execute(update(jobs).where(jobs.c.id == job).values(lease_until=now(-1)))


def let_delay_pass(store: Store, job: str, ago: float = 1) -> None:
    """As if the delay before the next attempt had ended that many seconds ago."""
    with store.write() as connection:
        connection.execute(update(jobs).where(jobs.c.id == job).values(not_before=now(-ago)))


def set_lease(store: Store, job: str, seconds: float) -> None:
    """Let the job's lease end in that many seconds."""
    with store.write() as connection:
        connection.execute(update(jobs).where(jobs.c.id == job).values(lease_until=now(seconds)))


def set_beat(store: Store, worker: str, seconds: float) -> None:
    """As if the worker's last heartbeat were in that many seconds."""
    with store.write() as connection:
        connection.execute(update(workers).where(workers.c.name == worker).values(beat_at=now(seconds)))


def claim_all(url: str, worker: str, limit: int = 1) -> list[str]:
    """Claim until nothing is left; the ids. Runs in threads and processes that race."""
    store = Store(url)
    claimed = claim_rest(store, worker, limit)
    store.close()
    return [job.id for job in claimed]


def claim_all_in_processes(url: str, count: int) -> list[str]:
    """The ids that `count` processes claimed together."""
    with multiprocessing.get_context("spawn").Pool(count) as pool:
        found = pool.starmap(claim_all, [(url, f"process {number}") for number in range(count)], chunksize=1)
    return [job for claimed in found for job in claimed]


def ids(gang: Sequence[ClaimedJob]) -> list[str]:
    return [job.id for job in gang]
