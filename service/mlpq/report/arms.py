"""Jobs grouped into arms: those that differ only in the seed."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mlpq.stats import Summary, summarize

Row = Mapping[str, Any]

# What makes two jobs of one arm: every field of the spec but the seed.
ARM_KEYS = (
    "dataset", "hidden", "activation", "bias", "dropout", "optimizer", "lr", "optimizer_settings", "l1", "epochs",
    "batch_size", "validation", "patience",
)  # fmt: skip


@dataclass(frozen=True)
class Arm:
    """`first` is a row that stands for the arm; `accuracy` and `seconds` are None before the first success.

    `parent` is a row of the arm that this one goes on from, where there is one among the rows.
    """

    first: Row
    jobs: int
    accuracy: Summary | None
    seconds: float | None
    parent: Row | None


def arms(rows: Sequence[Row]) -> list[Arm]:
    """The arms of `rows`, in order of appearance. A spec that ran several times counts once: it is one sample."""
    by_id = {row["id"]: row for row in rows}
    groups: dict[str, dict[str, Row]] = {}
    for row in rows:
        group = groups.setdefault(_key(row, by_id), {})
        if row["status"] == "succeeded" or row["spec_hash"] not in group:
            group[row["spec_hash"]] = row
    return [_arm(list(group.values()), by_id) for group in groups.values()]


def _arm(rows: list[Row], by_id: Mapping[str, Row]) -> Arm:
    done = [row for row in rows if row["test_accuracy"] is not None]
    return Arm(
        first=rows[0],
        jobs=len(rows),
        accuracy=summarize([row["test_accuracy"] for row in done]) if done else None,
        seconds=sum(row["train_seconds"] for row in done) / len(done) if done else None,
        parent=by_id.get(rows[0]["parent_id"]),
    )


def _key(row: Row, by_id: Mapping[str, Row]) -> str:
    parent = row["parent_id"]
    above = None if parent is None else _key(by_id[parent], by_id) if parent in by_id else parent
    return json.dumps([[row[key] for key in ARM_KEYS], above])
