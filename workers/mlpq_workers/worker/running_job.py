"""One job of a gang as its worker has it, from the hand-over to the record."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

from mlpq.jobs import Outcome
from mlpq.store.execution import Ending, Held
from mlpq_workers.worker.trainer_client import Event


def about(held: Held) -> dict[str, Any]:
    """What a line of the log is about, for those who read it as JSON."""
    return {"job": held.id, "attempt": held.attempt}


def token_of(held: Held) -> str:
    """How the training process calls an attempt."""
    return f"{held.id}/{held.attempt}"


class Running:
    """One job of a gang, from the hand-over to the record."""

    def __init__(self, held: Held, artifacts_dir: Path) -> None:
        self.held = held
        self.token = token_of(held)
        self.curve: list[dict[str, Any]] = []
        self.asked: Outcome | None = None
        self.until = 0.0  # when it must have answered
        self.weights_file = artifacts_dir / held.id / f"attempt-{held.attempt}.safetensors"

    def message(self) -> dict[str, Any]:
        """What the training process must know."""
        held = self.held
        return {
            "token": self.token,
            "spec": held.spec.model_dump(mode="json"),
            "parent_weights": held.parent_weights,
            "parent_sha256": held.parent_sha256,
            "attempt": held.attempt,
            "weights_file": str(self.weights_file),
        }

    def ending(self, event: Event, log_tail: str) -> Ending:
        """What to record, after the last word about this job."""
        result = event.get("result")
        outcome, error = self._outcome(event)
        return Ending(self.held, outcome, result, error, log_tail, tuple(self.curve), event.get("alone", False))

    def forget_checkpoints(self) -> None:
        """Remove what only an unfinished job needs, and what attempts that were killed left half-written."""
        for pattern in ("attempt-*-epoch-*.safetensors", ".attempt-*"):
            for path in self.weights_file.parent.glob(pattern):
                with contextlib.suppress(OSError):
                    path.unlink()

    def _outcome(self, event: Event) -> tuple[Outcome, str | None]:
        if event["event"] == "succeeded":
            return Outcome.SUCCEEDED, None
        if event["event"] == "diverged":
            return Outcome.DIVERGED, event["error"]
        if self.asked is Outcome.CANCELLED:
            return self.asked, "cancelled"
        if self.asked is not None:
            return self.asked, "the worker shut down"
        return Outcome.FAILED, event["error"].replace("\0", "\\0")  # PostgreSQL's text holds no NUL
