"""Detects whether a database has changed, without reading its rows."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from threading import Lock

from sqlalchemy import select, text

from mlpq.errors import StoreError
from mlpq.store.liveness import is_alive
from mlpq.store.migrate import check_revision
from mlpq.store.odd_values import as_text
from mlpq.store.read_only import is_outdated, open_read_only
from mlpq.store.schema import workers
from mlpq.store.session import Store, sqlite_file


class ChangeTokens:
    """Makes a token of a database's current state; equal tokens mean equal contents. Safe to use from any thread."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._file = _File(store) if store.is_sqlite else None

    def current(self) -> str:
        """A token that differs after each commit by any process, and when a worker's heartbeats stop.

        Rows that are read afterwards are at least as new as the token. Raises StoreError where the database can't be
        reached, or its schema has the wrong revision.
        """
        commits = self._file.commits() if self._file else None
        alive = select(workers.c.name).where(is_alive()).order_by(workers.c.name)
        with self._store.read() as connection:
            if commits is None:  # not a position in the WAL, which is ahead of the transactions that a reader sees
                commits = connection.execute(text("SELECT CAST(pg_current_snapshot() AS text)")).scalar_one()
            revision = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
            names = connection.execute(alive).scalars().all()
        check_revision(revision)
        return f"{commits} {' '.join(map(as_text, names))}"


class _File:
    """A SQLite file. SQLite counts other connections' commits per connection, so this keeps one open."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._path = Path(sqlite_file(store.url))
        self._lock = Lock()
        self._connection: sqlite3.Connection | None = None
        self._inode: tuple[int, int] | None = None  # device and inode
        self._opened = 0

    def commits(self) -> str:
        with self._lock:
            try:
                found = self._path.stat()
                is_other = self._inode != (found.st_dev, found.st_ino)
                if self._connection is None or is_other or is_outdated(self._connection, str(self._path)):
                    self._open((found.st_dev, found.st_ino))
                assert self._connection is not None
                return f"{self._opened}.{self._connection.execute('PRAGMA data_version').fetchone()[0]}"
            except (OSError, sqlite3.Error) as error:
                reason = error.strerror if isinstance(error, OSError) else str(error)
                raise StoreError(f"can't use the database {self._store.url}: {reason}; see mlpq doctor") from error

    def _open(self, inode: tuple[int, int]) -> None:
        """Connect to the file that has this path now: it may have been replaced, as by a restore."""
        self._store.close()
        if self._connection is not None:
            self._connection.close()
        self._connection = open_read_only(str(self._path), check_same_thread=False)
        self._inode = inode
        self._opened += 1
