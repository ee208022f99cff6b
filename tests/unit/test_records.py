"""A figure is defined once: records, tables, the view and its documentation have the same fields."""

from __future__ import annotations

from dataclasses import fields

from mlpq.records import EpochMetrics, JobResult
from mlpq.results_view import COLUMNS, flat
from mlpq.store.schema import epochs, job_results
from tests.support.result_rows import job_record, specs


def names(record: type[EpochMetrics] | type[JobResult]) -> list[str]:
    return [field.name for field in fields(record)]


def test_the_figures_of_an_epoch_are_the_columns_of_its_table() -> None:
    columns = [column.name for column in epochs.columns if column.name not in ("job_id", "attempt")]
    assert names(EpochMetrics) == columns


def test_the_figures_of_a_result_are_the_columns_of_its_table() -> None:
    columns = [column.name for column in job_results.columns if column.name not in ("job_id", "attempt")]
    assert names(JobResult) == columns


def test_the_keys_of_a_job_keep_their_names_and_their_order() -> None:
    assert COLUMNS == (
        "id", "experiment", "status", "outcome", "dataset", "hidden", "activation", "bias", "initialisation", "dropout",
        "optimizer", "lr", "weight_decay", "optimizer_settings", "l1", "seed", "epochs", "batch_size", "validation",
        "patience", "test_correct", "test_total", "test_accuracy", "test_loss", "validation_correct",
        "validation_total", "validation_accuracy", "validation_loss", "best_epoch", "epochs_run", "weights_sha256",
        "weights_file", "train_seconds", "device", "world_size", "gang_size", "engine", "attempt", "spec_hash",
        "parent_id", "requested_device", "requested_world_size", "priority", "worker", "created_at", "started_at",
        "finished_at", "error", "arithmetic", "schedule", "schedule_settings", "warmup", "clip_norm", "label_smoothing",
        "formula", "data_sha256", "plugin",
    )  # fmt: skip


def test_a_job_has_a_value_for_each_column() -> None:
    (spec,) = specs(optimizer="adamw")
    done, queued = flat(job_record(spec, 1, 450)), flat(job_record(spec, 2))
    assert tuple(done) == tuple(queued) == COLUMNS
    assert (done["test_accuracy"], done["weight_decay"], done["hidden"]) == (0.9, 0.01, [32])
    assert {queued[name] for name in names(JobResult)} == {None}
