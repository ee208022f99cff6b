"""Read everything about one job, for `mlpq show` and the Python interface."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from mlpq.jobs import Status
from mlpq.needed_workers import missing_worker, requests_of
from mlpq.records import AnyJob, AttemptRecord, EpochMetrics, JobRecord
from mlpq.store import queries
from mlpq.store.session import Store
from mlpq.verification_records import Verification


class JobDetails(NamedTuple):
    """What is known of a job; `missing` says which worker it waits for, empty where it waits for none."""

    job: AnyJob
    curve: Sequence[EpochMetrics]
    attempts: Sequence[AttemptRecord]
    verifications: Sequence[Verification]
    missing: str


def job_details(store: Store, prefix: str) -> JobDetails:
    """The job whose id begins with `prefix`; raises NotFoundError."""
    (job,) = queries.listed_by_id(store, [queries.find_job(store, prefix)])
    queued = [job] if isinstance(job, JobRecord) and job.status is Status.QUEUED else []
    return JobDetails(
        job,
        queries.curve(store, job.id),
        queries.attempts_of(store, job.id),
        queries.verifications_of(store, job.id),
        missing_worker(store, requests_of(queued)),
    )
