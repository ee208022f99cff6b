"""What `mlpq verify` stores: its findings about results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from sqlalchemy import insert

from mlpq.records import EnvironmentDifference, FigureCheck, Grade, Verification
from mlpq.store.schema import verifications
from mlpq.store.session import Store, now


def record(store: Store, found: Sequence[Verification]) -> None:
    """Insert verifications, all in one transaction."""
    rows = [asdict(each) for each in found]
    for row in rows:
        del row["checked_at"]
    with store.write() as connection:
        connection.execute(insert(verifications).values(checked_at=now()), rows)


def from_row(row: Mapping[Any, Any]) -> Verification:
    """A stored verification."""
    return Verification(
        job_id=row["job_id"],
        rerun_id=row["rerun_id"],
        grade=Grade(row["grade"]),
        reason=row["reason"],
        misfits=row["misfits"],
        unchecked=row["unchecked"],
        figures=[FigureCheck(**figure) for figure in row["figures"]],
        differences=[EnvironmentDifference(**difference) for difference in row["differences"]],
        checked_at=row["checked_at"],
    )
