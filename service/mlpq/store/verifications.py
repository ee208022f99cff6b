"""What `mlpq verify` writes: what it found about results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import insert

from mlpq.store.schema import verifications
from mlpq.store.session import Store, now


def record(store: Store, found: Sequence[Mapping[str, Any]]) -> None:
    """Insert verifications, all in one transaction; rows with the columns of the table, but for the time."""
    with store.write() as connection:
        connection.execute(insert(verifications).values(checked_at=now()), list(found))
