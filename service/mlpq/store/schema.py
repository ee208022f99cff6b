"""The tables. Times are UTC by the database's clock; accuracies are pairs of integers."""

from __future__ import annotations

from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    ColumnElement,
    DateTime,
    Float,
    ForeignKey,
    ForeignKeyConstraint,
    FromClause,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    TypeDecorator,
    UniqueConstraint,
    text,
)
from sqlalchemy.engine import Dialect
from sqlalchemy.types import TypeEngine

from mlpq.jobs import Engine, Outcome, Status
from mlpq.store.odd_values import OddValue, odd
from mlpq.verification_records import Grade

metadata = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "uq": "uq_%(table_name)s_%(column_0_name)s",
        "ix": "ix_%(table_name)s_%(column_0_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
    }
)


class UtcDateTime(TypeDecorator[datetime]):
    """An aware datetime in UTC on both databases; SQLite keeps it as text without a zone."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        return value.astimezone(UTC).replace(tzinfo=None if dialect.name == "sqlite" else UTC) if value else None

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None or isinstance(value, OddValue):
            return value
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)

    def result_processor(self, dialect: Dialect, coltype: object) -> Any:
        process: Any = super().result_processor(dialect, coltype)

        def tolerant(value: Any) -> Any:
            try:
                return process(value)
            except (ValueError, TypeError):  # SQLite stores anything
                return odd(value)

        return tolerant


class Bytes(TypeDecorator[bytes]):
    """Bytes; SQLite may store anything else in their column."""

    impl = LargeBinary
    cache_ok = True

    def result_processor(self, dialect: Dialect, coltype: object) -> Any:
        process: Any = super().result_processor(dialect, coltype)

        def tolerant(value: Any) -> Any:
            return odd(value) if isinstance(value, (str, int, float)) else process(value) if process else value

        return tolerant


class Json(TypeDecorator[Any]):
    """JSON, and JSONB on PostgreSQL, whose dialect is imported only there."""

    impl = JSON
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        if dialect.name != "postgresql":
            return dialect.type_descriptor(JSON())
        from sqlalchemy.dialects.postgresql import JSONB

        return dialect.type_descriptor(JSONB())


# "C" orders ids by byte, so that a prefix is a range of the index.
Id = String(36).with_variant(String(36, collation="C"), "postgresql")
Serial = BigInteger().with_variant(Integer(), "sqlite")  # SQLite counts up only INTEGER PRIMARY KEY


def _one_of(column: str, values: type[StrEnum]) -> CheckConstraint:
    return CheckConstraint(f"{column} IN ({', '.join(repr(str(value)) for value in values)})", name=column)


def _key(name: str, type_: Any, **more: Any) -> Column[Any]:
    return Column(name, type_, nullable=False, **more)


experiments = Table(
    "experiments",
    metadata,
    Column("id", Serial, primary_key=True),
    _key("name", String(100), unique=True),
    _key("created_at", UtcDateTime),
    Column("owner", String(64)),  # login name of who submitted it first; NULL of those before schema 0016
)

jobs = Table(
    "jobs",
    metadata,
    Column("seq", Serial, primary_key=True),
    _key("id", Id, unique=True),
    Column("experiment_id", ForeignKey("experiments.id"), nullable=False),
    _key("spec", Json),
    _key("spec_hash", String(64)),
    _key("repeat", Integer),
    _key("seed", BigInteger),
    _key("device", String(8)),
    Column("world_size", Integer),  # as requested; NULL leaves it to the worker
    _key("priority", Integer),
    Column("gang_key", Text),  # jobs with equal ones may be claimed together; NULL runs alone
    _key("status", String(16)),
    _key("attempt", Integer, server_default=text("0")),
    _key("max_attempts", Integer),
    Column("worker", String(100)),
    Column("lease_until", UtcDateTime),
    _key("cancel_requested", Boolean, server_default=text("false")),
    Column("not_before", UtcDateTime),
    Column("parent_id", ForeignKey("jobs.id")),
    _key("created_at", UtcDateTime),
    Column("finished_at", UtcDateTime),
    Column("error", Text),
    Column("requested_engine", String(8)),  # by a rerun; NULL leaves it to the worker
    Column("data_sha256", String(64)),  # of the spec's own data set, which a worker needs; NULL with a built-in one
    Column("package", String(150)),  # that a worker needs: "torch", or a plug-in's "name==version"
    UniqueConstraint("experiment_id", "spec_hash", "repeat"),
    _one_of("status", Status),
    CheckConstraint("(status = 'running') = (lease_until IS NOT NULL)", name="lease"),
    CheckConstraint("(status IN ('succeeded', 'failed', 'cancelled')) = (finished_at IS NOT NULL)", name="finished"),
)
Index("ix_jobs_parent_id", jobs.c.parent_id)
Index("ix_jobs_experiment_status", jobs.c.experiment_id, jobs.c.status, jobs.c.seq)

environments = Table(
    "environments",
    metadata,
    Column("id", Serial, primary_key=True),
    _key("fingerprint", String(64), unique=True),
    _key("facts", Json),
)

attempts = Table(
    "attempts",
    metadata,
    Column("job_id", ForeignKey("jobs.id"), primary_key=True),
    Column("attempt", Integer, primary_key=True, autoincrement=False),
    _key("worker", String(100)),
    _key("device", String(8)),
    _key("started_at", UtcDateTime),
    Column("ended_at", UtcDateTime),
    Column("outcome", String(16)),
    Column("error", Text),
    Column("log_tail", Text),
    Column("environment_id", ForeignKey("environments.id")),
    _key("fence_rejections", Integer, server_default=text("0")),  # writes that came after it lost its lease
    Index(None, "outcome", "device"),  # for the counts of monitoring
    _one_of("outcome", Outcome),
)

epochs = Table(
    "epochs",
    metadata,
    Column("job_id", Id, primary_key=True),
    Column("attempt", Integer, primary_key=True, autoincrement=False),
    Column("epoch", Integer, primary_key=True, autoincrement=False),
    _key("train_loss", Float(53)),
    Column("validation_loss", Float(53)),
    Column("validation_correct", Integer),
    Column("validation_total", Integer),
    _key("test_loss", Float(53)),
    _key("test_correct", Integer),
    _key("test_total", Integer),
    _key("seconds", Float(53)),
    ForeignKeyConstraint(["job_id", "attempt"], ["attempts.job_id", "attempts.attempt"]),
)

job_results = Table(
    "job_results",
    metadata,
    Column("job_id", ForeignKey("jobs.id"), primary_key=True),
    _key("attempt", Integer),
    _key("test_correct", Integer),
    _key("test_total", Integer),
    _key("test_loss", Float(53)),
    Column("validation_correct", Integer),
    Column("validation_total", Integer),
    Column("validation_loss", Float(53)),
    _key("best_epoch", Integer),
    _key("epochs_run", Integer),
    _key("weights_sha256", String(64)),
    _key("weights_file", Text),
    _key("train_seconds", Float(53)),
    _key("device", String(8)),
    _key("world_size", Integer),
    _key("gang_size", Integer),
    _key("engine", String(8)),
    Column("arithmetic", Integer),  # NULL of torch's engines
    CheckConstraint("0 <= test_correct AND test_correct <= test_total", name="test_count"),
    _one_of("engine", Engine),
)

# A table of its own, so that reads of results stay small; results of versions before 0.2 have no row.
result_images = Table(
    "result_images",
    metadata,
    Column("job_id", ForeignKey("job_results.job_id"), primary_key=True),
    _key("correct", Bytes),
    _key("predictions_sha256", String(64)),
    _key("confusion", Json),
    _key("calibration", Json),
)

verifications = Table(
    "verifications",
    metadata,
    Column("id", Serial, primary_key=True),
    Column("job_id", ForeignKey("jobs.id"), nullable=False, index=True),
    Column("rerun_id", ForeignKey("jobs.id")),  # NULL where the job could not be run again
    _key("grade", String(16)),
    _key("reason", Text),
    _key("misfits", Json),
    _key("unchecked", Json),
    _key("figures", Json),
    _key("differences", Json),
    _key("checked_at", UtcDateTime),
    _one_of("grade", Grade),
)

questions = Table(
    "questions",
    metadata,
    Column("id", Serial, primary_key=True),
    Column("experiment_id", ForeignKey("experiments.id"), nullable=False),
    _key("fields", Text),
    _key("metric", String(20)),
    _key("target", String(20)),
    _key("against", Text),
    _key("difference", Float(53)),
    Column("margin", Float(53)),
    _key("alpha", Float(53)),
    Column("max_seeds", Integer),  # NULL where the pilot determines the caps
    _key("choose_seeds", Json),
    _key("seeds", Json),
    _key("pilot", Integer),
    _key("sides", Json),
    _key("registered_at", UtcDateTime),
    UniqueConstraint("experiment_id", "fields", "metric", "target", "against"),
)

question_caps = Table(  # a table of its own: submitters insert rows, and change none
    "question_caps",
    metadata,
    Column("question_id", ForeignKey("questions.id"), primary_key=True, autoincrement=False),
    _key("caps", Json),  # the number of pairs at which each pair of sides ends
    _key("registered_at", UtcDateTime),
)

data_sets = Table(  # rows never change; the newest of a name is what it means
    "data_sets",
    metadata,
    Column("id", Serial, primary_key=True),
    _key("name", String(64)),
    _key("sha256", String(64)),
    _key("features", Integer),
    _key("classes", Integer),
    _key("train", Integer),
    _key("test", Integer),
    _key("size", BigInteger),  # bytes of the file
    _key("about", Json),
    _key("registered_at", UtcDateTime),
    Index(None, "name"),
)

data_chunks = Table(  # files that were pushed, each in one transaction
    "data_chunks",
    metadata,
    Column("sha256", String(64), primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    _key("content", Bytes),  # by zlib
)

workers = Table(
    "workers",
    metadata,
    Column("name", String(100), primary_key=True),
    _key("device", String(8)),
    _key("model", Text),  # name of the device
    _key("most_ranks", Integer),  # processes that can train together there: the number of GPUs
    _key("world_size", Integer),  # of a job that requests none
    Column("data", Text),  # SHA-256 of the own data sets in its data folder, separated by spaces
    Column("packages", Text),  # that it has, as jobs need them, separated by spaces
    _key("jobs_done", Integer, server_default=text("0")),
    _key("started_at", UtcDateTime),
    _key("beat_at", UtcDateTime),
)


def is_current_attempt(table: FromClause) -> ColumnElement[bool]:
    """Joins jobs to the rows of `table` (attempts or epochs) that belong to their current attempts."""
    return (table.c.job_id == jobs.c.id) & (table.c.attempt == jobs.c.attempt)
