"""What a shell completes from the database: short reads by index, of a bounded number of rows."""

from __future__ import annotations

from sqlalchemy import select

from mlpq.store.schema import data_sets as data_sets_table
from mlpq.store.schema import experiments as experiments_table
from mlpq.store.schema import jobs as jobs_table
from mlpq.store.session import Store


def experiments(store: Store, limit: int) -> list[str]:
    """The names of the latest experiments."""
    query = select(experiments_table.c.name).order_by(experiments_table.c.id.desc()).limit(limit)
    with store.read() as connection:
        return [str(name) for name in connection.execute(query).scalars()]


def data_sets(store: Store, limit: int) -> list[str]:
    """The names of own data sets."""
    query = select(data_sets_table.c.name).distinct().order_by(data_sets_table.c.name).limit(limit)
    with store.read() as connection:
        return [str(name) for name in connection.execute(query).scalars()]


def jobs(store: Store, prefix: str, limit: int) -> list[tuple[str, str]]:
    """The ids of the latest jobs that begin so, and of each its experiment and status."""
    query = (
        select(jobs_table.c.id, experiments_table.c.name, jobs_table.c.status)
        .join(experiments_table)
        .where(jobs_table.c.id.startswith(prefix, autoescape=True))
        .order_by(jobs_table.c.seq.desc())
        .limit(limit)
    )
    with store.read() as connection:
        return [(str(row.id), f"{row.name}, {row.status}") for row in connection.execute(query)]
