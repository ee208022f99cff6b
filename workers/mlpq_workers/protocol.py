"""The messages between a worker and its training process: all that the two share.

Each message is one line of JSON. Commands go to the training process by its standard input, events come from it by its
standard output. `kind` tells which message a line holds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, TypeAdapter

from mlpq.image_records import ResultImages
from mlpq.records import EpochMetrics, JobResult
from mlpq.spec.job import JobSpec


@cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


class Message:
    """What can be written as a line of JSON and read back."""

    __slots__ = ()

    def dump(self) -> str:
        """One line of JSON in ASCII, whatever the locale, without its line break."""
        kind: Any = type(self)
        return str(_adapter(kind).dump_json(self, ensure_ascii=True), "ascii")

    @classmethod
    def parse(cls, line: str) -> Self:
        """The message that `dump` wrote; raises ValueError."""
        kind: Any = cls
        message: Self = _adapter(kind).validate_json(line)
        return message


class ErrorMessage(Message):
    """A message with an `error` for people, which may hold text that isn't Unicode, such as the name of a file."""

    __slots__ = ()

    def __post_init__(self) -> None:
        error: str = getattr(self, "error")  # noqa: B009 (a field of the subclasses)
        object.__setattr__(self, "error", error.encode("utf-8", "backslashreplace").decode())


@dataclass(frozen=True, slots=True)
class TrainingSettings(Message):
    """The only argument of a training process.

    `parent` is the process id of the worker. Without a `world_size` there is one rank for each GPU.
    `checkpoint_seconds` is the least time between two checkpoints of a job. `scratch` is a folder that the worker
    removes after the process has ended. `kernel` is the setting MLPQ_KERNEL. `plugin` is the package, "name==version",
    of whose optimizers it trains jobs; None for torch's and formulas.
    """

    parent: int
    device: str
    world_size: int | None
    threads: int
    data_dir: str
    checkpoint_seconds: int
    scratch: str
    kernel: str = "auto"
    plugin: str | None = None


@dataclass(frozen=True, slots=True)
class TrainJob(Message):
    """A job to train: one attempt, the weights that it continues from, and the file for its final weights.

    Checkpoints of all attempts are in the folder of that file.
    """

    id: str
    attempt: int
    spec: JobSpec
    parent_weights: Path | None
    parent_sha256: str | None
    weights_file: Path

    @property
    def artifacts_dir(self) -> Path:
        """The folder of the files of all jobs; each has its own in it."""
        return self.weights_file.parent.parent

    @property
    def token(self) -> str:
        """What events call this attempt."""
        return attempt_token(self.id, self.attempt)


def attempt_token(job_id: str, attempt: int) -> str:
    """The name of an attempt in events and log lines."""
    return f"{job_id}/{attempt}"


# --- commands, to the training process


@dataclass(frozen=True, slots=True)
class TrainGang(Message):
    """Train these jobs together. Each of them ends with exactly one `JobEnding`."""

    jobs: tuple[TrainJob, ...]
    kind: Literal["train_gang"] = "train_gang"


@dataclass(frozen=True, slots=True)
class StopJob(Message):
    """Stop a job before its next batch."""

    token: str
    kind: Literal["stop_job"] = "stop_job"


@dataclass(frozen=True, slots=True)
class Leave(Message):
    """Stop every job after the epoch it is in, with a checkpoint."""

    kind: Literal["leave"] = "leave"


Command = TrainGang | StopJob | Leave
_COMMANDS: TypeAdapter[Command] = TypeAdapter(Annotated[Command, Field(discriminator="kind")])


def parse_command(line: str) -> Command:
    """The command in a line of JSON; raises ValueError."""
    return _COMMANDS.validate_json(line)


# --- events, from the training process


@dataclass(frozen=True, slots=True)
class Ready(Message):
    """The process can train on `device` ("cpu", "cuda" or "mps"); `facts` describe the environment of its attempts.

    At most `most_ranks` processes can train together there. `kernel` is the build of the kernel that can train jobs of
    world size 1, whether or not it does so in this process; None where none can. `torch` says whether it is installed.
    `plugin_modules` are those with the code of its plug-in, outermost ones, whose hash is among the facts.
    """

    device: str
    device_name: str
    most_ranks: int
    facts: Mapping[str, Any]
    kernel: str | None = None
    torch: bool = True
    plugin_modules: tuple[str, ...] = ()
    kind: Literal["ready"] = "ready"

    @property
    def world_size(self) -> int:
        """How many processes train together now."""
        return int(self.facts["world_size"])

    @property
    def uses_kernel(self) -> bool:
        """Whether this process trains by the kernel."""
        return self.facts.get("kernel") is not None

    @property
    def plugin(self) -> str | None:
        """The package of whose optimizers it trains jobs."""
        return self.facts.get("plugin")


@dataclass(frozen=True, slots=True)
class Unusable(ErrorMessage):
    """The process can't train with its settings, and exits."""

    error: str
    kind: Literal["unusable"] = "unusable"


@dataclass(frozen=True, slots=True)
class Alive(Message):
    """Sent every few seconds, so that the worker can distinguish a process that hangs from one that is busy."""

    kind: Literal["alive"] = "alive"


@dataclass(frozen=True, slots=True)
class EpochDone(Message):
    """A job has trained and evaluated one more epoch, or resumes after a checkpoint that holds it."""

    token: str
    metrics: EpochMetrics
    kind: Literal["epoch_done"] = "epoch_done"


@dataclass(frozen=True, slots=True)
class JobSucceeded(Message):
    """A job is trained, and its final weights are on the disk."""

    token: str
    result: JobResult
    images: ResultImages
    kind: Literal["job_succeeded"] = "job_succeeded"


@dataclass(frozen=True, slots=True)
class JobDiverged(ErrorMessage):
    """The loss of a job became infinite or NaN."""

    token: str
    error: str
    kind: Literal["job_diverged"] = "job_diverged"


@dataclass(frozen=True, slots=True)
class JobStopped(Message):
    """A job was stopped by a command."""

    token: str
    kind: Literal["job_stopped"] = "job_stopped"


@dataclass(frozen=True, slots=True)
class JobFailed(ErrorMessage):
    """A job failed. `alone`: another job of the gang may have caused it, so each should be retried alone.

    `lines` are the last ones of its log, which then need not come by another pipe.
    """

    token: str
    error: str
    alone: bool = False
    lines: tuple[str, ...] = ()
    kind: Literal["job_failed"] = "job_failed"


@dataclass(frozen=True, slots=True)
class Died(ErrorMessage):
    """The process has ended, and with it every job that it was training. `alone` is that of `JobFailed`."""

    error: str
    alone: bool = True
    kind: Literal["died"] = "died"


JobEnding = JobSucceeded | JobDiverged | JobStopped | JobFailed
Event = Ready | Unusable | Alive | EpochDone | JobEnding | Died
_EVENTS: TypeAdapter[Event] = TypeAdapter(Annotated[Event, Field(discriminator="kind")])


def parse_event(line: str) -> Event:
    """The event in a line of JSON; raises ValueError."""
    return _EVENTS.validate_json(line)
