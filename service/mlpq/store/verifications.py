"""What `mlpq verify` stores: its findings about results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from sqlalchemy import insert

from mlpq.store import reading
from mlpq.store.schema import verifications
from mlpq.store.session import Store, now
from mlpq.verification_records import Grade, Verification


def record(store: Store, found: Sequence[Verification]) -> None:
    """Insert verifications, all in one transaction."""
    rows = [asdict(each) for each in found]
    for row in rows:
        del row["checked_at"]
    with store.write() as connection:
        connection.execute(insert(verifications).values(checked_at=now()), rows)


def from_row(row: Mapping[Any, Any]) -> Verification:
    """A stored verification; one that can't be read has that reason and no findings."""
    try:
        return reading.record(Verification, row)
    except reading.UnreadableRowError as error:
        return Verification(
            str(row["job_id"]), None, Grade(row["grade"]), f"unreadable: {error}", (), (), (), (), checked_at=None
        )
