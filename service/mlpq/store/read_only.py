"""Opens SQLite files for reading, also where nothing may be written: an archive, or the folder of a colleague."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

from mlpq.errors import StoreError

BUSY_SECONDS = 30


class ImmutableConnection(sqlite3.Connection):
    """A connection to a file that nobody writes; `state` is that of the file when it was opened."""

    state: object = None


def open_read_only(path: str, **options: Any) -> sqlite3.Connection:
    """A connection that can't write; `options` are those of sqlite3.connect. Raises sqlite3.Error and StoreError.

    SQLite reads a database in WAL mode only with its log, which it must create where there is none. Where it can't, and
    no log holds anything, the file has everything and is opened as immutable.
    """
    uri = Path(path).absolute().as_uri()
    options = {"uri": True, "isolation_level": None, "timeout": BUSY_SECONDS, **options}
    connection: sqlite3.Connection = sqlite3.connect(f"{uri}?mode=ro", **options)
    try:
        connection.execute("PRAGMA schema_version").fetchone()
    except sqlite3.OperationalError as error:
        connection.close()
        if error.sqlite_errorcode & 0xFF not in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY):
            raise
        log = Path(f"{path}-wal")
        if log.exists() and log.stat().st_size > 0:
            raise StoreError(
                f"the latest changes of {path} are in {log.name}, which SQLite can't read in a read-only folder: "
                "copy both files to a folder that you own, and set MLPQ_DATABASE_URL to the copy"
            ) from error
        state = file_state(path)
        frozen: ImmutableConnection = sqlite3.connect(
            f"{uri}?mode=ro&immutable=1", factory=ImmutableConnection, **options
        )
        frozen.state = state
        return frozen
    return connection


def is_outdated(connection: object, path: str) -> bool:
    """Whether the file of an immutable connection has changed after all, so that it must be opened again."""
    return isinstance(connection, ImmutableConnection) and connection.state != file_state(path)


def file_state(path: str) -> object:
    """What differs after the file is written."""
    found = Path(path).stat()
    return found.st_dev, found.st_ino, found.st_mtime_ns, found.st_size, Path(f"{path}-wal").exists()
