"""The SQL that a person types: one statement that only reads, by construction and on both databases."""

from __future__ import annotations

import json
import re
import sqlite3
import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

from mlpq.errors import QueryError, nearest, suggestion
from mlpq.store.queries import Row, results
from mlpq.store.schema import metadata
from mlpq.store.session import Store, sqlite_file

SECONDS = 60  # the longest that a query may take
STEPS = 100_000  # of SQLite's machine between two looks at the clock, and at whether Ctrl-C was pressed

_ONLY_READS = "mlpq sql only reads: type one statement that begins with SELECT, WITH or VALUES"
_LISTED = "; docs/results.md lists the columns of the view results, and text stands in single quotes"
_SAID = {
    "not authorized": _ONLY_READS,
    "one statement at a time": "mlpq sql takes one statement at a time",
    "multiple commands": "mlpq sql takes one statement at a time",
    "user-defined function raised": "on SQLite date_part takes 'epoch' and a time, and nothing else",
}
_OPENING = re.compile(r"(?:\s|--[^\n]*|/\*.*?\*/)*(\w*)", re.DOTALL)
_NO_COLUMN = re.compile(r"no such column: (\S+)|column (\S+) does not exist")
_NO_TABLE = re.compile(r"no such table: (\S+)|relation (\S+) does not exist")
_READING = {sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_FUNCTION, sqlite3.SQLITE_RECURSIVE}
_LOADING = {"load_extension", "fts3_tokenizer"}  # functions that bring foreign code in
_ESCAPING = re.compile(r'set_config|query_to_xml|ts_stat|ts_rewrite|u&"', re.IGNORECASE)


def read_only(store: Store, statement: str) -> tuple[list[str], list[Row]]:
    """The columns and the rows of a query; columns that share a name are numbered: max, max_2.

    Values are None, bool, int, float, str, aware datetimes, and lists and mappings from JSON. SQLite has no type for
    them, so there only columns of tables come as booleans, times and JSON; what is computed comes as it was stored.
    Raises QueryError for whatever the database has to say against the statement, and for one that does not only read.
    """
    _check(statement)
    names, rows = _from_sqlite(store, statement) if store.is_sqlite else _from_postgresql(store, statement)
    if not names:
        raise QueryError("the statement asks for no column: type what it should give between SELECT and FROM")
    columns = _distinct(names)
    return columns, [dict(zip(columns, map(_plain, row), strict=True)) for row in rows]


def _check(statement: str) -> None:
    """Tell at sight what the databases would tell less clearly. It keeps nobody from anything: what follows does."""
    opening = _OPENING.match(statement)
    if opening is None or opening[1].upper() not in ("SELECT", "WITH", "VALUES"):
        raise QueryError(_ONLY_READS)
    # What an argument that is not UTF-8 turns into, or a null character, which would cut the statement short.
    if any(character == "\0" or "\ud800" <= character <= "\udfff" for character in statement):
        raise QueryError("the statement is not text in UTF-8")


def _from_sqlite(store: Store, statement: str) -> tuple[list[str], Sequence[Sequence[Any]]]:
    """The file is opened read-only, and an authorizer sees every action before it is done: no other file either."""
    deadline = time.monotonic() + SECONDS
    uri = f"{Path(sqlite_file(store.url)).as_uri()}?mode=ro"
    types = sqlite3.PARSE_DECLTYPES
    try:
        with closing(sqlite3.connect(uri, uri=True, isolation_level=None, detect_types=types)) as connection:
            connection.execute("PRAGMA query_only = ON")
            connection.create_function("date_part", 2, _date_part, deterministic=True)
            connection.create_aggregate("stddev_samp", 1, _SampleDeviation)
            connection.set_progress_handler(lambda: time.monotonic() > deadline, STEPS)
            connection.set_authorizer(_authorize)
            cursor = connection.execute(statement)
            return [column[0] for column in cursor.description], cursor.fetchall()
    except sqlite3.Error as error:
        if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_INTERRUPT:
            if time.monotonic() < deadline:
                raise KeyboardInterrupt from None  # raised within the look at the clock, where SQLite swallowed it
            raise QueryError(f"no answer within {SECONDS} s") from error
        raise QueryError(_in_words(str(error))) from error


def _from_postgresql(store: Store, statement: str) -> tuple[list[str], Sequence[Sequence[Any]]]:
    """A cursor takes only what reads, and comes by the extended protocol, which takes only one statement.

    So there is no COPY, and nothing can follow. The transaction is read-only, which can't be changed after its first
    query, and rolled back, because some functions write all the same. A superuser, whose functions write files of the
    server too, becomes a reader first (from PostgreSQL 14 on); what could undo that, or runs SQL out of a string, is
    refused by its name.
    """
    import psycopg

    if _ESCAPING.search(statement):
        raise QueryError(f"set_config and functions that run SQL out of a string are not allowed; {_ONLY_READS}")
    to_reader = (
        "SELECT set_config('role', rolname, true) FROM pg_roles "
        "WHERE rolname = 'pg_read_all_data' AND current_setting('is_superuser') = 'on'"
    )
    with store.read() as connection:
        for preparing in ("SET TRANSACTION READ ONLY", f"SET LOCAL statement_timeout = '{SECONDS}s'", to_reader):
            connection.exec_driver_sql(preparing)
        driver: psycopg.Connection = connection.connection.driver_connection  # type: ignore[assignment]
        try:
            with driver.cursor("answer") as cursor:
                cursor.execute(statement.encode())
                return [column.name for column in cursor.description or ()], cursor.fetchall()
        except psycopg.errors.QueryCanceled as error:
            raise QueryError(f"no answer within {SECONDS} s") from error
        except psycopg.Error as error:
            raise QueryError(_in_words(error.diag.message_primary or str(error))) from error
        finally:
            connection.rollback()


def _authorize(action: int, _: str | None, name: str | None, *__: str | None) -> int:
    is_reading = action in _READING and not (action == sqlite3.SQLITE_FUNCTION and str(name).lower() in _LOADING)
    return sqlite3.SQLITE_OK if is_reading else sqlite3.SQLITE_DENY


def _date_part(field: str, at: str | None) -> float | None:
    """PostgreSQL's function, for what times are subtracted by: the seconds since 1970."""
    if field != "epoch":
        raise ValueError(field)
    return None if at is None else _time(at).timestamp()


class _SampleDeviation:
    """PostgreSQL's aggregate: the sample standard deviation, NULL for fewer than two values."""

    def __init__(self) -> None:
        self._values: list[float] = []

    def step(self, value: Any) -> None:
        if value is not None:
            self._values.append(value)

    def finalize(self) -> Any:
        return statistics.stdev(self._values) if len(self._values) > 1 else None


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def _converter(read: Callable[[str], Any]) -> Callable[[bytes], Any]:
    def convert(stored: bytes) -> Any:
        text = stored.decode()
        try:
            return read(text)
        except ValueError:  # a UNION has the first one's type, whatever the others bring
            return text

    return convert


# For connections that ask for declared types, as only the one above does.
sqlite3.register_converter("DATETIME", _converter(_time))
sqlite3.register_converter("BOOLEAN", _converter(lambda text: bool(int(text))))
sqlite3.register_converter("JSON", _converter(json.loads))


def _distinct(names: Iterable[str]) -> list[str]:
    found: list[str] = []
    for name in names:
        free, number = name, 1
        while free in found:
            number += 1
            free = f"{name}_{number}"
        found.append(free)
    return found


def _plain(value: Any) -> Any:
    """PostgreSQL's own types as those that everything can be written with."""
    if value is None or isinstance(value, (bool, int, float, str, dict)):
        return value
    if isinstance(value, datetime):
        return value.astimezone(UTC) if value.tzinfo else value
    if isinstance(value, Decimal):  # a sum of integers has no decimals
        return int(value) if value.as_tuple().exponent == 0 else float(value)
    if isinstance(value, list):
        return [_plain(part) for part in value]
    return value.hex() if isinstance(value, bytes) else str(value)


def _in_words(reason: str) -> str:
    """The database's reason, with what to type instead where that can be guessed."""
    lines = reason.splitlines() or ["the database gave no reason"]
    reason = lines[0]
    if found := _NO_COLUMN.search(reason):
        columns = {column.name for table in metadata.tables.values() for column in table.c} | {*results.c.keys()}
        return reason + (suggestion(_last_name(found), columns) or _LISTED)
    if found := _NO_TABLE.search(reason):
        return reason + nearest(_last_name(found), {"results", *metadata.tables})
    return next((words for said, words in _SAID.items() if said in reason), reason)


def _last_name(found: re.Match[str]) -> str:
    """The name without its table and its quotes."""
    return (found[1] or found[2]).rpartition(".")[2].strip('"')
