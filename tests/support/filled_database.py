"""A database with realistic content: a sweep with its curves, reruns, failures, and a job that continues from another.

Written by the functions that submitters and workers use. Only the times are set afterwards, so that both databases have
the same times.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import select, update

from mlpq.jobs import Outcome
from mlpq.records import AttemptEnding, ClaimedJob, EpochMetrics
from mlpq.spec.job import JobSpec
from mlpq.store import claiming, execution
from mlpq.store.schema import attempts, jobs
from mlpq.store.session import Store
from mlpq.worker_records import WorkerCapabilities
from tests.support.job_steps import (
    FACTS,
    RESULT,
    child_of,
    failure,
    let_delay_pass,
    let_lease_expire,
    spec,
    specs,
    submit,
)

BEGAN = datetime(2026, 3, 2, 9, tzinfo=UTC)
WAIT, LENGTH = 30, 60  # seconds: the n-th attempt of all starts after n times WAIT, and each takes LENGTH
ANN, BOB = "ann:11:aaaa", "bob:22:bbbb"
MACHINES = {
    ANN: {**FACTS, "cpu": "EPYC 7763", "code_version": "1a2b3c4"},
    BOB: {**FACTS, "cpu": "Core i7-1260P", "code_version": "1a2b3c4"},
}
COMMON: dict[str, Any] = {"validation": 0.1, "epochs": 10}
SWEEP = [
    one
    for width in ("16", "64")
    for one in specs(hidden=width, optimizer=["sgd", "adam"], lr=[0.1, 0.01], seeds="0..4", **COMMON)
]
# The count of 500 that an arm approaches, and its time constant in epochs.
REACHES = {
    ("sgd", 0.1): (455, 2.0), ("sgd", 0.01): (400, 6.0), ("adam", 0.1): (430, 1.0), ("adam", 0.01): (470, 1.5),
}  # fmt: skip


def fill(store: Store) -> None:
    """Submit and run everything; the same rows on either database."""
    for worker in MACHINES:
        execution.worker_heartbeat(store, worker, WorkerCapabilities("cpu"))
    submit(store, *SWEEP, experiment="sweep")
    _run(store, ANN, 25)
    _run(store, BOB, 40)
    _rerun(store, SWEEP[0], SWEEP[1])
    _let_fail(store)
    first = spec(hidden="16", optimizer="sgd", lr=0.1, seeds=5, **COMMON)
    (parent,) = submit(store, first)
    _run(store, ANN)
    submit(store, child_of(first, hidden="16", lr=0.01, seeds=5, **COMMON), parent_id=parent)
    _run(store, ANN)
    submit(store, spec(seeds=9), experiment="waiting")
    _set_times(store)


def _rerun(store: Store, same: JobSpec, other: JobSpec) -> None:
    """Run both again, one of them on the other machine, where the bits differ."""
    submit(store, same, experiment="again")
    _run(store, ANN)
    submit(store, other, experiment="again")
    _run(store, BOB)


def _let_fail(store: Store) -> None:
    """A job that diverges, one that is lost once and then succeeds, and one that fails twice."""
    submit(store, spec(optimizer="sgd", lr=1e30), experiment="hard")
    (job,) = _claim(store, ANN)
    execution.record(store, [failure(job, Outcome.DIVERGED, "the loss became nan in epoch 1")])
    (lost,) = submit(store, spec(seeds=7), experiment="hard")
    _claim(store, BOB)
    let_lease_expire(store, lost)
    execution.requeue_expired(store)
    _run(store, ANN)
    (failing,) = submit(store, spec(seeds=8), experiment="hard", attempts=2)
    for worker in (ANN, BOB):
        (job,) = _claim(store, worker)
        execution.record(store, [failure(job, Outcome.FAILED, "no space left on device")])
        let_delay_pass(store, failing)


def _claim(store: Store, worker: str, limit: int = 1) -> list[ClaimedJob]:
    return claiming.claim(store, worker, WorkerCapabilities("cpu"), MACHINES[worker], limit)


def _run(store: Store, worker: str, limit: int = 1) -> None:
    """Claim jobs until `limit` are done or none is left, and record made-up results."""
    done = 0
    while done < limit and (gang := _claim(store, worker, limit - done)):
        execution.record(store, [_success(job, worker) for job in gang])
        done += len(gang)


def _success(job: ClaimedJob, worker: str) -> AttemptEnding:
    spec = job.spec
    curve = [_epoch(spec, number) for number in range(1, spec.epochs + 1)]
    last = curve[-1]
    result = replace(
        RESULT,
        test_correct=last.test_correct,
        test_total=last.test_total,
        test_loss=last.test_loss,
        validation_correct=last.validation_correct,
        validation_total=last.validation_total,
        validation_loss=last.validation_loss,
        best_epoch=spec.epochs,
        epochs_run=spec.epochs,
        weights_sha256=hashlib.sha256(f"{spec.hash} on {worker}".encode()).hexdigest(),
        train_seconds=0.5 + 0.25 * len(spec.hidden) + sum(spec.hidden) / 64,
    )
    return AttemptEnding(job, Outcome.SUCCEEDED, result, None, "the last line", curve)


def _epoch(spec: JobSpec, number: int) -> EpochMetrics:
    """An epoch of a curve that rises to the arm's limit; Adam's validation loss rises again from epoch 7 on."""
    limit, pace = REACHES.get((spec.optimizer, spec.lr), (380, 3.0))
    limit += (
        {16: 0, 64: 8}.get(spec.hidden[0], 0)
        + spec.seed * (7 if spec.optimizer == "sgd" else 8) % 5
        - 2
        + (10 if spec.parent else 0)
    )
    part = 1 - math.exp(-number / pace)
    late = 0.02 * max(0, number - 6) if spec.optimizer == "adam" else 0.0
    return EpochMetrics(
        epoch=number,
        train_loss=2.3 - 2.2 * part,
        validation_loss=2.3 - 2.1 * part + late if spec.validation else None,
        validation_correct=round(limit * part * 130 / 500) if spec.validation else None,
        validation_total=130 if spec.validation else None,
        test_loss=2.3 - 2.0 * part,
        test_correct=round(limit * part),
        test_total=500,
        seconds=0.05,
    )


def _set_times(store: Store) -> None:
    """As if all jobs were submitted at once, and the attempts began one after the other at a constant interval."""
    with store.write() as connection:
        connection.execute(update(jobs).values(created_at=BEGAN))
        order = select(attempts.c.job_id, attempts.c.attempt).join(jobs).order_by(jobs.c.seq, attempts.c.attempt)
        for number, (job, attempt) in enumerate(connection.execute(order).all(), start=1):
            started = BEGAN + timedelta(seconds=WAIT * number)
            ended = started + timedelta(seconds=LENGTH)
            one = (attempts.c.job_id == job) & (attempts.c.attempt == attempt)
            connection.execute(update(attempts).where(one).values(started_at=started, ended_at=ended))
            connection.execute(
                update(jobs).where(jobs.c.id == job, jobs.c.finished_at.is_not(None)).values(finished_at=ended)
            )
