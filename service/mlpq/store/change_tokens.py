"""Whether a database has changed since one last looked, without reading what is in it."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from threading import Lock

from sqlalchemy import select, text

from mlpq.errors import StoreError
from mlpq.jobs import LEASE_SECONDS
from mlpq.store.migrate import check_revision
from mlpq.store.schema import workers
from mlpq.store.session import Store, now, sqlite_file


class Changes:
    """Looks at a database now and again, from any thread."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._file = _File(store) if store.is_sqlite else None

    def state(self) -> str:
        """A word that is another one after each commit by anybody, and when a worker falls silent, which commits
        nothing.

        What is read afterwards is at least as new. Raises StoreError where the database can't be reached, or its
        schema is not this program's.
        """
        commits = self._file.commits() if self._file else None
        alive = select(workers.c.name).where(workers.c.beat_at > now(-LEASE_SECONDS)).order_by(workers.c.name)
        with self._store.read() as connection:
            if commits is None:  # the transactions that are seen; a position in the log runs ahead of that
                commits = connection.execute(text("SELECT CAST(pg_current_snapshot() AS text)")).scalar_one()
            revision = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
            names = connection.execute(alive).scalars().all()
        check_revision(revision)
        return f"{commits} {' '.join(names)}"


class _File:
    """A SQLite file. SQLite counts the commits of others for a connection, so this keeps one."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._path = Path(sqlite_file(store.url))
        self._lock = Lock()
        self._connection: sqlite3.Connection | None = None
        self._place: tuple[int, int] | None = None
        self._opened = 0

    def commits(self) -> str:
        with self._lock:
            try:
                found = self._path.stat()
                if self._connection is None or self._place != (found.st_dev, found.st_ino):
                    self._open((found.st_dev, found.st_ino))
                assert self._connection is not None
                return f"{self._opened}.{self._connection.execute('PRAGMA data_version').fetchone()[0]}"
            except (OSError, sqlite3.Error) as error:
                reason = error.strerror if isinstance(error, OSError) else str(error)
                raise StoreError(f"can't use the database {self._store.url}: {reason}; see mlpq doctor") from error

    def _open(self, place: tuple[int, int]) -> None:
        """Another file lies here now, as after a restore: the connections to the old one are of no use."""
        self._store.close()
        if self._connection is not None:
            self._connection.close()
        uri = f"{self._path.as_uri()}?mode=ro"
        self._connection = sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False)
        self._place = place
        self._opened += 1
