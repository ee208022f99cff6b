"""Jobs grouped into arms: those that differ only in the seed."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mlpq.analysis.summary import Summary, summarize
from mlpq.spec.job import JobSpec

Row = Mapping[str, Any]

# What makes two jobs of one arm: every field of the spec but the seed. What they go on from is compared by its arm.
ARM_KEYS = tuple(field for field in JobSpec.model_fields if field not in ("seed", "parent"))


@dataclass(frozen=True)
class Arm:
    """`first` is a row that stands for the arm, `rows` are all of its specs; `accuracy` and `seconds` are None before
    the first success.

    `parent` is a row of the arm that this one goes on from, if it does.
    """

    first: Row
    rows: Sequence[Row]
    accuracy: Summary | None
    seconds: float | None
    parent: Row | None


def arms(rows: Sequence[Row], ancestors: Sequence[Row] = ()) -> list[Arm]:
    """The arms of `rows`, in order of appearance. A spec that ran several times counts once: it is one sample.

    `ancestors` are the jobs outside `rows` that some of them go on from.
    """
    by_id = {row["id"]: row for row in (*ancestors, *rows)}
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
        rows=rows,
        accuracy=summarize([row["test_accuracy"] for row in done]) if done else None,
        seconds=sum(row["train_seconds"] for row in done) / len(done) if done else None,
        parent=by_id.get(rows[0]["parent_id"]),
    )


def _key(row: Row, by_id: Mapping[str, Row]) -> str:
    above = _key(by_id[row["parent_id"]], by_id) if row["parent_id"] else None
    return json.dumps([[row[key] for key in ARM_KEYS], above])
