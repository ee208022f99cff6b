"""Engines for both databases, transactions, the database's clock, and the translation of errors."""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import cache, partial
from importlib import import_module
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, Table, create_engine, event, literal, make_url
from sqlalchemy.exc import (
    ArgumentError,
    DataError,
    DBAPIError,
    DisconnectionError,
    IntegrityError,
    InterfaceError,
    OperationalError,
)
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement

from mlpq.errors import StoreError, reason_of
from mlpq.jobs import LEASE_SECONDS
from mlpq.regular_files import make_private_folder
from mlpq.settings import masked
from mlpq.store.odd_values import decode, load_json
from mlpq.store.read_only import is_outdated, open_read_only
from mlpq.store.schema import UtcDateTime
from mlpq.urls import hosts_and_ports, parts

CONNECT_SECONDS = 5  # until an unreachable host is reported
# A half-open connection is detected within about half a minute, well before a lease expires.
POSTGRESQL_OPTIONS = {
    "connect_timeout": CONNECT_SECONDS,
    "client_encoding": "utf8",  # a database in SQL_ASCII would send bytes
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 25_000,
}
ANSWER_SECONDS = LEASE_SECONDS / 3  # in which programs that can wait for the database expect each answer
CHUNK = 5000  # values per statement: PostgreSQL takes 65,535 parameters, SQLite 32,766
UNDEFINED_TABLE = "42P01"  # PostgreSQL's code
_creating = threading.Lock()
BUSY_MILLISECONDS = 30_000  # a SQLite writer waits this long for other writers


class Store:
    """The database, with separate engines for reading and for writing.

    On SQLite a write transaction takes the lock when it begins: one that reads first and writes later would fail
    immediately with SQLITE_BUSY_SNAPSHOT, whatever the timeout. Readers never wait for writers (WAL), and need no
    permission to write.

    After `answer_seconds` without an answer, PostgreSQL counts as unreachable; None lets statements take any time.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self.is_sqlite = url.startswith("sqlite")
        self.answer_seconds: float | None = None
        if self.is_sqlite:
            path = sqlite_file(url)
            self._writer = _sqlite_engine(path, "BEGIN IMMEDIATE")
            self._reader = _sqlite_engine(path, "BEGIN", partial(open_read_only, path, check_same_thread=False))
        else:
            self._writer = self._reader = self._postgresql_engine()

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
        """Close the connections; the store stays usable and opens new ones."""
        self._writer.dispose()
        self._reader.dispose()

    def _postgresql_engine(self) -> Engine:
        from mlpq.store.answers import set_up_connections

        try:
            url, arguments = _postgresql(self.url)
            arguments["prepare_threshold"] = _prepare_threshold(url)
            engine = create_engine(url, pool_pre_ping=True, connect_args=arguments, json_deserializer=load_json)
        except (ArgumentError, ValueError) as error:
            # The reason may quote a part of the URL that is a password.
            raise StoreError(f"MLPQ_DATABASE_URL is '{masked(self.url)}', which is not a database URL") from error
        set_up_connections(engine, lambda: self.answer_seconds)
        return engine

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except DBAPIError as error:
            if isinstance(error, (IntegrityError, DataError)):
                raise  # the database works; the values to write are wrong
            if "no such table" in str(error.orig) or getattr(error.orig, "sqlstate", "") == UNDEFINED_TABLE:
                raise StoreError("the database lacks tables that mlpq needs: run mlpq db upgrade") from error
            reason = " ".join(str(error.orig).split()) or type(error.orig).__name__
            if self.is_sqlite and _is_disk_full(self.url):
                reason = f"the disk is full ({reason})"
            away = error.connection_invalidated or isinstance(error, (OperationalError, InterfaceError))
            verb = "can't reach" if away and not self.is_sqlite else "can't use"
            raise StoreError(f"{verb} the database {masked(self.url)}: {reason}; see mlpq doctor") from error


@cache
def open_store(url: str) -> Store:
    """The store at `url`, one per process."""
    return Store(url)


def _prepare_threshold(url: URL) -> int | None:
    """After how many executions psycopg prepares a statement on the server: never, unless the URL sets the number.

    Poolers such as PgBouncer give each transaction another session, which lacks the prepared statements. The statements
    are not faster with them.
    """
    text = url.query.get("prepare_threshold", "none")
    if text in ("none", "None", ""):
        return None
    if not isinstance(text, str) or not (text.isascii() and text.isdigit()):
        raise StoreError("MLPQ_DATABASE_URL: prepare_threshold must be a whole number or none")
    return int(text)


def _sqlite_engine(path: str, begin: str, creator: Callable[[], sqlite3.Connection] | None = None) -> Engine:
    """An engine for a file, whose transactions start with `begin`. Without `creator` its connections can write."""
    # The path is taken literally: a question mark or a percent sign in it has no meaning.
    options = {} if creator is None else {"creator": creator}
    engine = create_engine(URL.create("sqlite", database=path), json_deserializer=load_json, **options)
    pragmas = [f"busy_timeout={BUSY_MILLISECONDS}"]
    if creator is None:
        pragmas = ["journal_mode=WAL", "synchronous=FULL", *pragmas, "foreign_keys=ON"]
        event.listen(engine, "do_connect", lambda *_: _create_private_file(path))

    @event.listens_for(engine, "connect")
    def set_up(connection: Any, _record: object) -> None:
        connection.isolation_level = None  # the driver begins no transactions by itself; `begin` below does
        connection.text_factory = decode
        for pragma in pragmas:
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "checkout")
    def check(connection: Any, _record: object, _proxy: object) -> None:
        if is_outdated(connection, path):
            raise DisconnectionError  # SQLAlchemy then opens another one

    @event.listens_for(engine, "begin")
    def begin_transaction(connection: Connection) -> None:
        connection.exec_driver_sql(begin)

    return engine


def _postgresql(url: str) -> tuple[URL, dict[str, Any]]:
    """The URL and the arguments of the driver. What the URL says comes first; several `options` are joined.

    SQLAlchemy reads one port for all hosts, libpq one for each: several hosts become arguments.
    """
    from psycopg.pq import Conninfo

    arguments: dict[str, Any] = {}
    hosts = hosts_and_ports(url)
    if any(port for _, port in hosts[:-1]):
        found = parts(url)
        assert found is not None
        url = url[: found.start("hosts")] + url[found.end("hosts") :]
        arguments = {"host": ",".join(host for host, _ in hosts), "port": ",".join(port for _, port in hosts)}
    parsed = make_url(url)
    arguments |= {name: value for name, value in POSTGRESQL_OPTIONS.items() if name not in parsed.query}
    inherited = {option.keyword: option.val for option in Conninfo.get_defaults()}[b"options"] or b""  # PGOPTIONS
    theirs = parsed.query.get("options", inherited.decode())
    if options := " ".join([theirs] if isinstance(theirs, str) else theirs).strip():
        arguments["options"] = options  # none by default: poolers such as PgBouncer refuse it
    return parsed, arguments


def sqlite_file(url: str) -> str:
    """The path in a SQLite URL."""
    return url.partition(":///")[2]


def _is_disk_full(url: str) -> bool:
    """Whether there is no room where a SQLite file is: SQLite then reports an I/O error of any kind."""
    try:
        return shutil.disk_usage(Path(sqlite_file(url)).parent).free == 0
    except OSError:
        return False


def make_folder(url: str) -> None:
    """Create the folder of a SQLite file; raises StoreError where that is not permitted."""
    folder = Path(sqlite_file(url)).parent
    try:
        make_private_folder(folder)
    except OSError as error:
        raise StoreError(
            f"can't create the folder {folder}: {reason_of(error)}; set MLPQ_HOME to one that you own"
        ) from error


def _create_private_file(path: str) -> None:
    """Create the file for this user only, if it is missing: SQLite gives its companions, -wal and -shm, the same mode.

    To close a file drops this process's locks on it, so no other thread may open it between the two.
    """
    with _creating, contextlib.suppress(OSError):  # SQLite reports what is wrong, if the file can't be created
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))


def insert_or_ignore(connection: Connection, table: Table) -> Any:
    """An INSERT that ignores rows that exist already."""
    dialect = import_module(f"sqlalchemy.dialects.{connection.dialect.name}")  # it alone is imported
    return dialect.insert(table).on_conflict_do_nothing()


def chunks(values: Iterable[str]) -> Iterator[list[str]]:
    """The values in lists that fit into the parameters of one statement."""
    iterator = iter(values)
    while chunk := list(itertools.islice(iterator, CHUNK)):
        yield chunk


class now(FunctionElement[Any]):  # noqa: N801 - a SQL function
    """The time of the database's clock, plus `seconds`. Leases use no other clock."""

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
