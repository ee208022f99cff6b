"""The columns of the view `results`, which are also the keys of a job in JSON and CSV."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from mlpq.records import AnyJob, JobRecord, JobResult

_SPEC_COLUMNS = (
    "dataset", "hidden", "activation", "bias", "initialisation", "dropout", "optimizer", "lr", "weight_decay",
    "optimizer_settings", "l1", "seed", "epochs", "batch_size", "validation", "patience",
)  # fmt: skip
_STATE_COLUMNS = ("id", "experiment", "status", "outcome")
_SUBMISSION_COLUMNS = (
    "attempt", "spec_hash", "parent_id", "requested_device", "requested_world_size", "priority", "worker", "created_at",
    "started_at", "finished_at", "error",
)  # fmt: skip
ARITHMETIC = "arithmetic"


def _figure_columns() -> tuple[str, ...]:
    """The fields of a result but for the arithmetic, each total followed by the accuracy."""
    names: list[str] = []
    for field in fields(JobResult):
        if field.name == ARITHMETIC:
            continue
        names.append(field.name)
        if field.name.endswith("_total"):
            names.append(field.name.replace("_total", "_accuracy"))
    return tuple(names)


FIGURE_COLUMNS = _figure_columns()
# The columns of the view `results`, and the keys of a job in JSON and CSV. A new one comes last.
COLUMNS = (*_STATE_COLUMNS, *_SPEC_COLUMNS, *FIGURE_COLUMNS, *_SUBMISSION_COLUMNS, ARITHMETIC)


def flat(job: AnyJob) -> dict[str, Any]:
    """A job as the view `results` shows it: one level, with a key for each of COLUMNS.

    Of one that can't be read, only the id, the experiment and the status are known, and `error` says why.
    """
    if not isinstance(job, JobRecord):
        known = {"id": job.id, "experiment": job.experiment, "status": job.status}
        return {**dict.fromkeys(COLUMNS), **known, "error": job.description}
    spec = job.spec.model_dump(mode="json")
    spec["weight_decay"] = job.spec.optimizer_settings.get("weight_decay")
    return {
        **{name: getattr(job, name) for name in _STATE_COLUMNS},
        **{name: spec[name] for name in _SPEC_COLUMNS},
        **{name: getattr(job.result, name, None) for name in FIGURE_COLUMNS},
        **{name: getattr(job, name) for name in _SUBMISSION_COLUMNS},
        ARITHMETIC: job.result.arithmetic if job.result else None,
    }
