"""Rows as pandas DataFrames, with a type for each column."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from mlpq import formatting
from mlpq.analysis.best_arm import ExperimentSummary
from mlpq.analysis.labels import spec_labels
from mlpq.errors import MlpqError
from mlpq.jobs import Engine, Outcome, Status
from mlpq.records import AnyJob, EpochMetrics, JobRecord
from mlpq.report.experiment_tables import experiment_document
from mlpq.results_view import COLUMNS, flat

if TYPE_CHECKING:
    import pandas as pd

Row = Mapping[str, Any]

INTEGERS = frozenset(
    {
        "seed", "epoch", "epochs", "batch_size", "patience", "test_correct", "test_total", "validation_correct",
        "validation_total", "best_epoch", "epochs_run", "world_size", "gang_size", "attempt", "requested_world_size",
        "priority", "arithmetic", "n", "diverged", "cap", "missing", "seeds_now", "seeds_needed",
        "jobs", *Status, "arms", "class", "image", "images", "always_wrong", "seeds_predicting", "train", "test",
        "features", "classes", "most_ranks", "jobs_running", "jobs_done",
    }
)  # fmt: skip
FLOATS = frozenset(
    {
        "dropout", "lr", "weight_decay", "l1", "validation", "warmup", "clip_norm", "label_smoothing", "test_loss",
        "test_accuracy", "validation_accuracy", "validation_loss", "train_loss", "train_seconds", "seconds", "mean",
        "sd", "low", "high", "best", "worst", "difference", "p", "p_anytime", "a_better", "mean_rank", "profile_score",
        "accuracy", "calibration_error", "churn", "taken_share", "images_per_seed", "age_seconds",
    }
)  # fmt: skip
TIMES = frozenset({"created_at", "started_at", "finished_at", "ended_at", "beat_at"})
BOOLEANS = frozenset({"bias", "built_in"})
MAPPINGS = frozenset({"optimizer_settings", "schedule_settings"})
CATEGORIES: Mapping[str, Sequence[str]] = {
    "status": [str(each) for each in Status],
    "outcome": [str(each) for each in Outcome],
    "engine": [str(each) for each in Engine],
}
TIME_TYPE = "datetime64[us, UTC]"
EPOCH_COLUMNS = (
    "job", "arm", "optimizer", "lr", "seed", "epoch", "train_loss", "validation_loss", "validation_correct",
    "validation_total", "validation_accuracy", "test_loss", "test_correct", "test_total", "test_accuracy", "seconds",
)  # fmt: skip
EXPERIMENT_COLUMNS = (
    "experiment", "jobs", *map(str, Status), "best_arm", "best_by", "arms", "n", "test_accuracy", "sd", "owner",
    "age_seconds",
)  # fmt: skip
LARGEST = 2**63  # of an integer in a column


def pandas() -> Any:
    """The library; raises MlpqError where it is not installed."""
    try:
        import pandas
    except ImportError as error:
        raise MlpqError("tables in Python need pandas: pip install 'mlpq[notebook]'") from error
    return pandas


def frame(rows: Sequence[Row], columns: Sequence[str]) -> pd.DataFrame:
    """A DataFrame of columns that this module knows; those with another name are of text."""
    pd = pandas()
    return pd.DataFrame({name: pd.array([row[name] for row in rows], dtype=_type(name)) for name in columns})


def _type(name: str) -> Any:
    pd = pandas()
    if name in CATEGORIES:
        return pd.CategoricalDtype(CATEGORIES[name])
    kinds = ((INTEGERS, "Int64"), (FLOATS, "float64"), (TIMES, TIME_TYPE), (BOOLEANS, "boolean"), (MAPPINGS, "object"))
    return next((kind for names, kind in kinds if name in names), "str")


def results_frame(jobs: Sequence[AnyJob]) -> pd.DataFrame:
    """One row for each job, with the columns of the view `results`; widths of hidden layers are text, "1000,500"."""
    rows = [flat(job) for job in jobs]
    for row, job in zip(rows, jobs, strict=True):
        row["hidden"] = formatting.value_of(row["hidden"]) if isinstance(job, JobRecord) else None
    return frame(rows, COLUMNS)


def epochs_frame(jobs: Sequence[JobRecord], curves: Mapping[str, Sequence[EpochMetrics]]) -> pd.DataFrame:
    """One row for each epoch of each job, with the label of the job's arm among these jobs."""
    labels = spec_labels([job.spec for job in jobs])
    own = ("job", "arm", "optimizer", "lr", "seed")
    rows = [
        {
            **dict(zip(own, (job.id, label, job.spec.optimizer, job.spec.lr, job.spec.seed), strict=True)),
            **{name: getattr(epoch, name) for name in EPOCH_COLUMNS if name not in own},
        }
        for job, label in zip(jobs, labels, strict=True)
        for epoch in curves.get(job.id, ())
    ]
    return frame(rows, EPOCH_COLUMNS)


def experiments_frame(found: Sequence[ExperimentSummary]) -> pd.DataFrame:
    """One row for each experiment, with the number of its jobs, in all and by status."""
    documents = [experiment_document(each) for each in found]
    return frame(
        [{**each, **each["jobs"], "jobs": sum(each["jobs"].values())} for each in documents], EXPERIMENT_COLUMNS
    )


def query_frame(rows: Sequence[Row], columns: Sequence[str]) -> pd.DataFrame:
    """The result of a query, of which only the values tell the types."""
    pd = pandas()
    values = {name: [row[name] for row in rows] for name in columns}
    return pd.DataFrame({name: pd.array(each, dtype=_type_of(each)) for name, each in values.items()})


def _type_of(values: Sequence[Any]) -> str:
    kinds = {type(value) for value in values if value is not None}
    if kinds == {bool}:
        return "boolean"
    if kinds == {int}:
        return "Int64" if all(abs(value) < LARGEST for value in values if value is not None) else "object"
    if kinds and kinds <= {int, float}:
        return "float64"
    if kinds == {datetime}:
        return TIME_TYPE if all(value.tzinfo for value in values if value is not None) else "object"
    return "str" if kinds == {str} else "object"
