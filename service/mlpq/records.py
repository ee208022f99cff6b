"""The typed rows that everything passes around: what leaves the store, and the figures that training brings.

A figure is defined once: a field of `EpochMetrics` or `JobResult` is also a column of the table and of the view.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any

from pydantic import Field

from mlpq.image_records import ResultImages
from mlpq.jobs import MAX_ATTEMPTS, Engine, Outcome, Status
from mlpq.spec.job import JobSpec

# What the store checks where it reads a row, and the protocol where it reads a message.
JobId = Annotated[str, Field(pattern="^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$")]
Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
Count = Annotated[int, Field(ge=0)]
Positive = Annotated[int, Field(ge=1)]
Finite = Annotated[float, Field(allow_inf_nan=False)]


@dataclass(frozen=True, slots=True)
class EpochMetrics:
    """The figures of one epoch, numbered from 1. Losses are mean cross-entropies in nats, without any penalty.

    `train_loss` is the mean over the epoch's batches as they were trained on; the other figures are taken after the
    epoch. The validation figures are None without a validation split. `seconds` covers training and evaluation.
    """

    epoch: int
    train_loss: float
    validation_loss: float | None
    validation_correct: int | None
    validation_total: int | None
    test_loss: float
    test_correct: int
    test_total: Positive
    seconds: float

    @property
    def test_accuracy(self) -> float:
        """Correct / total, from 0 to 1."""
        return self.test_correct / self.test_total

    @property
    def validation_accuracy(self) -> float | None:
        """Correct / total, from 0 to 1; None without a validation split."""
        return _share(self.validation_correct, self.validation_total)


@dataclass(frozen=True, slots=True)
class JobResult:
    """The figures of a finished job, taken at the end of `best_epoch`, and the identity of its final weights.

    `best_epoch` is the last epoch, unless the spec asks for early stopping. `train_seconds` covers all `epochs_run`.
    `gang_size` is the number of jobs that were trained together, `world_size` the number of processes. Equal specs with
    equal `arithmetic` have equal bits on every CPU; it is None for engines of torch.
    """

    test_correct: Count
    test_total: Positive
    test_loss: Finite
    validation_correct: Count | None
    validation_total: Count | None
    validation_loss: Finite | None
    best_epoch: int
    epochs_run: int
    weights_sha256: Sha256
    weights_file: str
    train_seconds: Finite
    device: str
    world_size: Positive
    gang_size: Positive
    engine: Engine
    arithmetic: int | None = None

    @property
    def test_accuracy(self) -> float:
        """Correct / total, from 0 to 1."""
        return self.test_correct / self.test_total

    @property
    def validation_accuracy(self) -> float | None:
        """Correct / total, from 0 to 1; None without a validation split."""
        return _share(self.validation_correct, self.validation_total)


@dataclass(frozen=True, slots=True)
class JobRecord:
    """A job, the state it is in, and its result once it has succeeded.

    `outcome` is that of its current attempt. `requested_world_size` is None where the worker may choose.
    """

    id: JobId
    experiment: str
    status: Status
    outcome: Outcome | None
    spec: JobSpec
    spec_hash: Sha256
    parent_id: JobId | None
    requested_device: str
    requested_world_size: Positive | None
    priority: int
    attempt: int
    worker: str | None
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    error: str | None
    result: JobResult | None


@dataclass(frozen=True, slots=True)
class UnreadableJob:
    """A job whose row holds what no program of mlpq writes: what can be said of it, and the `reason`.

    Its id may be any text, so it must not become a path or a part of a statement.
    """

    id: str
    experiment: str
    status: Status
    reason: str
    error: str | None

    @property
    def description(self) -> str:
        """ "unreadable: lr must be a number …": in the place of what can't be said of the job."""
        return f"unreadable: {self.reason}"


AnyJob = JobRecord | UnreadableJob


@dataclass(frozen=True, slots=True)
class ClaimedJob:
    """A job that a worker runs under one attempt.

    `parent_weights` and `parent_sha256` are the file and the hash of the weights that it continues from, if it does.
    """

    id: JobId
    attempt: Positive
    spec: JobSpec
    parent_weights: str | None
    parent_sha256: Sha256 | None


@dataclass(frozen=True, slots=True)
class AttemptProgress:
    """What a heartbeat reports: the epochs since the last one, and the log, None where it did not change."""

    job: ClaimedJob
    curve: Sequence[EpochMetrics]
    log_tail: str | None


@dataclass(frozen=True, slots=True)
class AttemptEnding:
    """How an attempt ended. `result` is there exactly when it succeeded, and `images` belongs to it.

    `alone` says of a failure that another job of the gang may have caused it: each of them is then retried alone.
    """

    job: ClaimedJob
    outcome: Outcome
    result: JobResult | None
    error: str | None
    log_tail: str
    curve: Sequence[EpochMetrics] = ()
    alone: bool = False
    images: ResultImages | None = None

    def __post_init__(self) -> None:
        assert (self.outcome is Outcome.SUCCEEDED) == (self.result is not None), "exactly a success has a result"


@dataclass(frozen=True, slots=True)
class AttemptRecord:
    """One execution of a job by one worker, numbered from 1; `outcome` is None while it runs.

    `environment` describes what it ran on; see `EnvironmentRecord`. Attempts in equal environments share the
    `environment_id`. Only where the row can't be read, which `error` then says, `started_at` is None.
    """

    attempt: int
    worker: str
    device: str
    started_at: datetime | None
    ended_at: datetime | None
    outcome: Outcome | None
    error: str | None
    log_tail: str | None
    fence_rejections: int
    environment: Mapping[str, Any] | None
    environment_id: int | None = None


@dataclass(frozen=True, slots=True)
class EnvironmentRecord:
    """The facts of an environment (versions, device, CPU, …), and how many jobs of an experiment ran on it."""

    facts: Mapping[str, Any]
    jobs: int


@dataclass(frozen=True, slots=True)
class Placement:
    """What a submission requests beside its specs; None leaves the number of processes or the engine to the worker."""

    device: str = "auto"
    world_size: int | None = None
    priority: int = 0
    attempts: int = MAX_ATTEMPTS
    engine: Engine | None = None


@dataclass(frozen=True, slots=True)
class SubmittedJob:
    """A job of a submission; `is_new` is False for one that the experiment already had."""

    id: str
    spec: JobSpec
    is_new: bool


@dataclass(frozen=True, slots=True)
class Rerun:
    """A spec to be run once more: the job that it continues from, if it does, and where.

    A worker that lacks the `engine` uses another one.
    """

    spec: JobSpec
    parent_id: str | None
    device: str
    world_size: int | None
    engine: Engine | None = None


@dataclass(frozen=True, slots=True)
class WaitingJobs:
    """How many queued jobs request this device and world size; None leaves the world size to the worker.

    `data` is the SHA-256 of the own data set that a worker must have for them, and `data_name` what it is called; None
    where every worker has it, or can pull it. `package` is the package that they need.
    """

    device: str
    world_size: int | None
    jobs: int
    data: str | None = None
    data_name: str | None = None
    package: str | None = None


@dataclass(frozen=True, slots=True)
class RunningJob:
    """A job that runs, and the latest epoch that was recorded of it; `now` is the time by the database's clock.

    By the kernel, it may wait in its gang first, and then trains alone on a thread.
    """

    id: str
    spec: JobSpec
    started_at: datetime
    now: datetime
    latest: EpochMetrics | None
    by_kernel: bool = False


@dataclass(frozen=True, slots=True)
class WaitSnapshot:
    """The jobs that are waited for, at one moment.

    `unfinished` are the ids of those that are not finished, `running` those of them that run, `finished` those that
    finished since the snapshot before. `obstacle` says what keeps the others from running; empty where nothing does.
    """

    unfinished: Sequence[str]
    running: Sequence[RunningJob]
    finished: Sequence[AnyJob]
    obstacle: str


@dataclass(frozen=True, slots=True)
class ExperimentRecord:
    """A named group of jobs; `owner` is the login name of who submitted it first, None where it is not known."""

    id: int
    name: str
    created_at: datetime
    owner: str | None


@dataclass(frozen=True, slots=True)
class StoredResult:
    """What the tables hold about a finished job, before anything is checked: the spec is JSON as it is stored.

    `result` is None where the row is missing, or can't be read for the reason `problem`; `outcome`, `environment` and
    `fingerprint` are those of the attempt `result_attempt`, which produced the result.
    """

    id: str
    experiment: str
    repeat: int
    spec: Any
    spec_hash: str
    seed: int
    attempt: int
    parent_id: str | None
    parent_hash: str | None
    outcome: Outcome | None
    environment: Mapping[str, Any] | None
    fingerprint: str | None
    result: JobResult | None
    result_attempt: int | None
    problem: str | None = None


def _share(correct: int | None, total: int | None) -> float | None:
    return None if correct is None or not total else correct / total
