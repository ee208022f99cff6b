"""Records of jobs that no database holds, for what is computed from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from mlpq.jobs import Engine, Outcome, Status
from mlpq.records import EpochMetrics, JobRecord, JobResult
from mlpq.spec.job import JobSpec
from mlpq.spec.sweep import Sweep

SUBMITTED = datetime(2026, 3, 2, 9, 30, tzinfo=UTC)


def specs(**keys: object) -> list[JobSpec]:
    """The jobs of a sweep on the small data set."""
    return Sweep.parse({"dataset": "digits", **keys}).jobs()


def job_id(number: int) -> str:
    return f"{number:08x}-0000-5000-8000-000000000000"


def job_result(spec: JobSpec, correct: int, **changes: Any) -> JobResult:
    """A result with `correct` of 500 test images; `changes` are other fields."""
    result = JobResult(
        test_correct=correct, test_total=500, test_loss=1.0, validation_correct=None, validation_total=None,
        validation_loss=None, best_epoch=spec.epochs, epochs_run=spec.epochs, weights_sha256="ab" * 32,
        weights_file="/nowhere/attempt-1.safetensors", train_seconds=1.5, device="cpu", world_size=1, gang_size=1,
        engine=Engine.PLAIN,
    )  # fmt: skip
    return replace(result, **changes)


def job_record(spec: JobSpec, number: int, correct: int | None = None, **changes: Any) -> JobRecord:
    """A job that succeeded with `correct` of 500 test images, or is queued; `changes` are other fields."""
    record = JobRecord(
        id=job_id(number), experiment="lab", status=Status.QUEUED, outcome=None, spec=spec, spec_hash=spec.hash,
        parent_id=None, requested_device="auto", requested_world_size=None, priority=0, attempt=0, worker=None,
        created_at=SUBMITTED, started_at=None, finished_at=None, error=None, result=None,
    )  # fmt: skip
    if correct is not None:
        done: dict[str, Any] = {"status": Status.SUCCEEDED, "outcome": Outcome.SUCCEEDED, "attempt": 1}
        record = replace(record, **done, result=job_result(spec, correct))
    return replace(record, **changes)


def failed_job(spec: JobSpec, number: int, outcome: Outcome = Outcome.FAILED, **changes: Any) -> JobRecord:
    """A job whose only attempt ended with that outcome."""
    return job_record(spec, number, status=Status.FAILED, outcome=outcome, attempt=1, **changes)


def with_figures(job: JobRecord, **figures: Any) -> JobRecord:
    """The job with other figures in its result."""
    assert job.result is not None
    return replace(job, result=replace(job.result, **figures))


def curve(test: Sequence[int], validation: Sequence[int] | None = None, total: int = 100) -> list[EpochMetrics]:
    """Epochs of half a second with these counts of correct images of `total`."""
    return [
        EpochMetrics(
            epoch=index + 1, train_loss=1.0 / (index + 1), validation_loss=None if validation is None else 1.0,
            validation_correct=None if validation is None else validation[index],
            validation_total=None if validation is None else total, test_loss=1.0, test_correct=correct,
            test_total=total, seconds=0.5,
        )
        for index, correct in enumerate(test)
    ]  # fmt: skip
