"""From rows to records. Whatever a row holds, reading it gives a record: that of an unreadable job, where need be."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import fields
from functools import cache
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from mlpq.errors import SpecError
from mlpq.jobs import Outcome, Status
from mlpq.records import (
    AnyJob,
    AttemptRecord,
    ClaimedJob,
    EpochMetrics,
    JobId,
    JobRecord,
    JobResult,
    RunningJob,
    StoredResult,
    UnreadableJob,
)
from mlpq.spec.job import first_line, parse_spec
from mlpq.text import escaped

T = TypeVar("T")

RESULT_FIELDS = tuple(field.name for field in fields(JobResult))
JOB_FIELDS = tuple(field.name for field in fields(JobRecord) if field.name not in ("spec", "result"))
EPOCH_FIELDS = tuple(field.name for field in fields(EpochMetrics))
ATTEMPT_FIELDS = tuple(field.name for field in fields(AttemptRecord))
REASON_CHARACTERS = 300


class UnreadableRowError(ValueError):
    """A row holds a value that no program of mlpq writes."""


@cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


def record(kind: type[T], values: Mapping[Any, Any]) -> T:
    """The record with these values; raises UnreadableRowError with one line that says which value is wrong."""
    try:
        adapter: TypeAdapter[T] = _adapter(kind)  # type: ignore[arg-type]
        found = adapter.validate_python(dict(values))
    except ValidationError as error:
        raise UnreadableRowError(_line(first_line(error))) from None
    return found


def readable(kind: type[T], rows: Iterable[Mapping[Any, Any]]) -> list[T]:
    """The records of those rows that can be read."""
    found = []
    for row in rows:
        try:
            found.append(record(kind, row))
        except UnreadableRowError:
            continue
    return found


def job(row: Mapping[Any, Any]) -> AnyJob:
    """The job in a row that has JOB_FIELDS, RESULT_FIELDS and `spec`."""
    values = {name: row[name] for name in JOB_FIELDS}
    result = None if row["test_correct"] is None else {name: row[name] for name in RESULT_FIELDS}
    try:
        return record(JobRecord, {**values, "spec": _spec(row["spec"]), "result": result})
    except UnreadableRowError as error:
        return UnreadableJob(
            id=str(row["id"]),
            experiment=str(row["experiment"]),
            status=Status(row["status"]),
            reason=str(error),
            error=None if row["error"] is None else str(row["error"]),
        )


def claimed_job(row: Any, weights: Mapping[Any, tuple[Any, Any]], recorded: Collection[Any]) -> ClaimedJob:
    """The job that a claim returned; raises UnreadableRowError where a worker can't run it.

    `weights` has the file and the hash of the weights of each parent, `recorded` the attempts that exist already.
    """
    if row.parent_id not in weights:
        raise UnreadableRowError("the job that it continues from has no result")
    if (row.id, row.attempt) in recorded:
        raise UnreadableRowError(f"its attempt {row.attempt} is recorded already")
    if not row.has_valid_world_size:
        raise UnreadableRowError("its world size is less than 1")
    file, sha256 = weights[row.parent_id]
    values = {"id": row.id, "attempt": row.attempt, "parent_weights": file, "parent_sha256": sha256}
    return record(ClaimedJob, {**values, "spec": _spec(row.spec)})


def attempt(row: Mapping[Any, Any]) -> AttemptRecord:
    """The attempt in a row that has ATTEMPT_FIELDS; what can't be read of it is None, and the error says so."""
    values = {name: row[name] for name in ATTEMPT_FIELDS}
    try:
        return record(AttemptRecord, values)
    except UnreadableRowError as error:
        number = values["attempt"]
        return AttemptRecord(
            attempt=number if isinstance(number, int) else 0, worker=str(values["worker"]),
            device=str(values["device"]), started_at=None, ended_at=None, outcome=_outcome(values["outcome"]),
            error=f"unreadable: {error}", log_tail=None, fence_rejections=0, environment=None,
        )  # fmt: skip


def epoch(row: Mapping[Any, Any]) -> EpochMetrics | None:
    """The figures in a row of the table `epochs`; None where they can't be read."""
    found = readable(EpochMetrics, [{name: row[name] for name in EPOCH_FIELDS}])
    return found[0] if found else None


def running_job(row: Mapping[Any, Any]) -> RunningJob | None:
    """A running job, and its latest epoch if it has one; None where the row can't be read."""
    values = {name: row[name] for name in ("id", "started_at", "now")}
    try:
        latest = None if row["epoch"] is None else epoch(row)
        values |= {"spec": _spec(row["spec"]), "latest": latest, "by_kernel": row["kernel"] is not None}
        return record(RunningJob, values)
    except UnreadableRowError:
        return None


def stored_result(row: Mapping[Any, Any]) -> StoredResult:
    """A finished job for its audit; `problem` says what of its row can't be read."""
    own = {field.name: row[field.name] for field in fields(StoredResult) if field.name not in ("result", "problem")}
    result, problem = None, None
    if row["result_attempt"] is not None:
        try:
            result = record(JobResult, {name: row[f"result.{name}"] for name in RESULT_FIELDS})
        except UnreadableRowError as error:
            problem = str(error)
    facts = own["environment"] if isinstance(own["environment"], dict) else None
    own |= {"outcome": _outcome(row["outcome"]), "environment": facts}
    return StoredResult(**own, result=result, problem=problem)


def is_job_id(value: object) -> bool:
    """Whether a stored id is one; by another a row may not even be found again."""
    try:
        _adapter(JobId).validate_python(value)
    except ValidationError:
        return False
    return True


def is_spec(document: object) -> bool:
    """Whether a stored document is a valid spec."""
    try:
        parse_spec(document)
    except SpecError:
        return False
    return True


def _spec(document: object) -> Any:
    try:
        return parse_spec(document)
    except SpecError as error:
        raise UnreadableRowError(_line(f"spec: {error}")) from None


def _outcome(text: str | None) -> Outcome | None:
    return None if text is None else Outcome(text)


def _line(text: str) -> str:
    return escaped(" ".join(text.split()))[:REASON_CHARACTERS]
