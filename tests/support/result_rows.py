"""Rows of the view `results` that no database has seen, for what is made of them."""

from __future__ import annotations

from typing import Any

from mlpq.spec.job import JobSpec, Sweep
from mlpq.store.queries import COLUMNS


def specs(**keys: object) -> list[JobSpec]:
    return Sweep.parse({"dataset": "digits", **keys}).jobs()


def row(spec: JobSpec, number: int, correct: int | None = None, **more: Any) -> dict[str, Any]:
    """A row of the view for that spec: succeeded with `correct` of 500, or queued."""
    done = correct is not None
    fields = spec.model_dump(mode="json", exclude={"parent"})
    figures = {
        "test_correct": correct, "test_total": 500 if done else None, "test_accuracy": correct / 500 if done else None,
        "status": "succeeded" if done else "queued", "outcome": "succeeded" if done else None,
        "train_seconds": 1.5 if done else None, "epochs_run": spec.epochs if done else None,
        "device": "cpu" if done else None, "world_size": 1 if done else None, "test_loss": 1.0 if done else None,
    }  # fmt: skip
    ids = {"id": f"{number:08x}-0000-5000-8000-000000000000", "spec_hash": spec.hash, "parent_id": None}
    return {**dict.fromkeys(COLUMNS), **fields, **figures, **ids, **more}
