"""Engines for both databases, the database's clock, and errors in words."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, Table, create_engine, event, literal, make_url
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import ArgumentError, DataError, DBAPIError, IntegrityError, InterfaceError, OperationalError
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement

from mlpq.errors import StoreError
from mlpq.settings import masked
from mlpq.store.schema import UtcDateTime

CONNECT_SECONDS = 5  # an unreachable host is told to the person within this time
# A connection that went half-open is noticed within about half a minute, well before a lease runs out.
POSTGRESQL_OPTIONS = {
    "connect_timeout": CONNECT_SECONDS,
    "options": "-c timezone=utc",
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 25_000,
}
CHUNK = 5000  # values a statement: PostgreSQL takes 65,535 parameters, SQLite 32,766
UNDEFINED_TABLE = "42P01"  # PostgreSQL's code
BUSY_MILLISECONDS = 30_000  # how long a SQLite writer waits for the others


class Store:
    """The database: a write side and a read side.

    On SQLite a write transaction takes the lock when it begins: one that read first and wrote later would fail with
    SQLITE_BUSY_SNAPSHOT at once, however long the time-out. Readers never wait for it (WAL).
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self.is_sqlite = url.startswith("sqlite")
        self._writer = _engine(url, begin="BEGIN IMMEDIATE")
        self._reader = _engine(url, begin="BEGIN") if self.is_sqlite else self._writer

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """A transaction that writes; committed at the end of the block, rolled back on an error."""
        with self._translated(), self._writer.begin() as connection:
            yield connection

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A transaction that only reads."""
        with self._translated(), self._reader.begin() as connection:
            yield connection

    def close(self) -> None:
        self._writer.dispose()
        self._reader.dispose()

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except DBAPIError as error:
            if isinstance(error, (IntegrityError, DataError)):
                raise  # the database is well; what was to be written is not
            if "no such table" in str(error.orig) or getattr(error.orig, "sqlstate", "") == UNDEFINED_TABLE:
                raise StoreError("the database lacks tables that mlpq needs: run mlpq db upgrade") from error
            reason = " ".join(str(error.orig).split()) or type(error.orig).__name__
            away = error.connection_invalidated or isinstance(error, (OperationalError, InterfaceError))
            verb = "can't reach" if away and not self.is_sqlite else "can't use"
            raise StoreError(f"{verb} the database {masked(self.url)}: {reason}; see mlpq doctor") from error


@cache
def open_store(url: str) -> Store:
    """The store at `url`, one per process."""
    return Store(url)


def _engine(url: str, begin: str) -> Engine:
    if not url.startswith("sqlite"):
        try:
            return create_engine(make_url(url), pool_pre_ping=True, connect_args=POSTGRESQL_OPTIONS)
        except (ArgumentError, ValueError) as error:
            raise StoreError(f"MLPQ_DATABASE_URL is '{masked(url)}', which is no database URL: {error}") from error
    # The path is taken as it is: a question mark or a percent sign in it means nothing.
    engine = create_engine(URL.create("sqlite", database=sqlite_file(url)))

    @event.listens_for(engine, "connect")
    def set_up(connection: Any, _record: object) -> None:
        connection.isolation_level = None  # the driver begins nothing by itself; `begin` below does
        for pragma in ("journal_mode=WAL", "synchronous=FULL", f"busy_timeout={BUSY_MILLISECONDS}", "foreign_keys=ON"):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def begin_transaction(connection: Connection) -> None:
        connection.exec_driver_sql(begin)

    return engine


def sqlite_file(url: str) -> str:
    """The path in a SQLite URL."""
    return url.partition(":///")[2]


def make_folder(url: str) -> None:
    """Make the folder of a SQLite file; raises StoreError where that is not allowed."""
    folder = Path(sqlite_file(url)).parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(f"can't make the folder {folder}: {error.strerror}; set MLPQ_HOME to one you own") from error


def insert_or_ignore(connection: Connection, table: Table) -> Any:
    """An INSERT that leaves a row alone which is there already."""
    dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
    return dialect.insert(table).on_conflict_do_nothing()


def chunks(values: Iterable[str]) -> Iterator[list[str]]:
    """The values in lists short enough for the parameters of one statement."""
    iterator = iter(values)
    while chunk := list(itertools.islice(iterator, CHUNK)):
        yield chunk


class now(FunctionElement[Any]):  # noqa: N801 - a SQL function
    """The database's clock, plus some seconds: the only clock that leases know."""

    type = UtcDateTime()
    inherit_cache = True

    def __init__(self, seconds: float = 0) -> None:
        super().__init__(literal(float(seconds)))


@compiles(now, "sqlite")
def _now_sqlite(element: now, compiler: SQLCompiler, **options: Any) -> str:
    seconds = compiler.process(element.clauses, **options)
    return f"strftime('%Y-%m-%d %H:%M:%f000', 'now', printf('%+f seconds', {seconds}))"


@compiles(now, "postgresql")
def _now_postgresql(element: now, compiler: SQLCompiler, **options: Any) -> str:
    return f"(clock_timestamp() + make_interval(secs => {compiler.process(element.clauses, **options)}))"
