"""Queries of `mlpq sql`: one statement, which can't write on either database."""

from __future__ import annotations

import re
import sqlite3
import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from mlpq.errors import QueryError, nearest, suggestion
from mlpq.store import roles
from mlpq.store.odd_values import decode, load_json
from mlpq.store.queries import results
from mlpq.store.read_only import open_read_only
from mlpq.store.schema import metadata
from mlpq.store.session import Store, sqlite_file

SECONDS = 60  # the longest that a query may take
MAX_ROWS = 1_000_000  # of a result, which is held in memory
MAX_BYTES = 256 * 2**20  # of the text and numbers in a result
MAX_VALUE_BYTES = 16 * 2**20  # of one value on SQLite, whose functions can make some of gigabytes
MAX_HEAP_BYTES = 2**30  # of SQLite itself
BATCH_ROWS, BATCH_BYTES = 1000, 8 * 2**20  # of a result on PostgreSQL, fetched at a time
STEPS = 100_000  # of SQLite's virtual machine between two checks of the time limit and of Ctrl-C

_READ_ONLY = "mlpq sql is read-only: type one statement that begins with SELECT, WITH or VALUES"
_SEE_COLUMNS = "; docs/reference/results-schema.md lists the columns of the view results, and text needs single quotes"
_MESSAGES = {
    "not authorized": _READ_ONLY,
    "one statement at a time": "mlpq sql takes one statement at a time",
    "multiple commands": "mlpq sql takes one statement at a time",
    "string or blob too big": f"a value is larger than {MAX_VALUE_BYTES // 2**20} MiB: select a part of it by substr",
    "user-defined function raised": "on SQLite date_part takes only 'epoch' and a time",
}
_OPENING = re.compile(r"(?:\s|--[^\n]*|/\*.*?\*/)*(\w*)", re.DOTALL)
_NO_COLUMN = re.compile(r"no such column: (\S+)|column (\S+) does not exist")
_NO_TABLE = re.compile(r"no such table: (\S+)|relation (\S+) does not exist")
_READING = {sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_FUNCTION, sqlite3.SQLITE_RECURSIVE}
_LOADING = {"load_extension", "fts3_tokenizer"}  # functions that load code
# What leaves the read-only role, runs SQL from a string or shows passwords; and functions that change no table, but
# write WAL or large objects, hold locks, end sessions or connect to other databases.
_REFUSED = re.compile(
    r'set_config|query_to_xml|ts_stat|ts_rewrite|u&"|pg_authid|pg_shadow|pg_user_mappings?'
    r"|\b(?:pg_logical_emit_message|pg_(?:try_)?advisory_\w+|pg_(?:terminate|cancel)_backend|pg_notify|lo_\w+|lo(?:read|write)"
    r"|pg_export_snapshot|pg_current_xact_id|txid_current|pg_reload_conf|pg_rotate_logfile|pg_stat_reset\w*|dblink\w*"
    r'|crosstab\w*|connectby|xpath_table)"?\s*(?:\(|/\*|--)',
    re.IGNORECASE,
)


def read_only(store: Store, statement: str) -> tuple[list[str], list[dict[str, Any]]]:
    """The columns and the rows of a query; columns that share a name are numbered: max, max_2.

    Values are None, bool, int, float, str, aware datetimes, and lists and mappings from JSON. On SQLite only columns of
    tables come as booleans, times and JSON; it has no such types, so computed values come as they are stored. Raises
    QueryError for a statement that the database rejects, and for one that is not read-only.
    """
    _check(statement)
    names, rows = _from_sqlite(store, statement) if store.is_sqlite else _from_postgresql(store, statement)
    if not names:
        raise QueryError("the statement selects no column: type the columns between SELECT and FROM")
    columns = _distinct(names)
    return columns, [dict(zip(columns, map(_plain, row), strict=True)) for row in rows]


def _check(statement: str) -> None:
    """Reject what the databases reject too, with clearer messages. Safety does not depend on this check."""
    opening = _OPENING.match(statement)
    if opening is None or opening[1].upper() not in ("SELECT", "WITH", "VALUES"):
        raise QueryError(_READ_ONLY)
    # Surrogates come from arguments that are not UTF-8. A null character would truncate the statement.
    if any(character == "\0" or "\ud800" <= character <= "\udfff" for character in statement):
        raise QueryError("the statement is not UTF-8 text")


def _from_sqlite(store: Store, statement: str) -> tuple[list[str], Sequence[Sequence[Any]]]:
    """The file is opened read-only, and an authorizer rejects every other action, such as opening another file."""
    deadline = time.monotonic() + SECONDS
    try:
        opened = open_read_only(sqlite_file(store.url), detect_types=sqlite3.PARSE_DECLTYPES)
        with closing(opened) as connection:
            connection.text_factory = decode
            connection.execute("PRAGMA query_only = ON")
            connection.execute(f"PRAGMA hard_heap_limit = {MAX_HEAP_BYTES}")
            connection.create_function("date_part", 2, _date_part, deterministic=True)
            connection.create_aggregate("stddev_samp", 1, _SampleDeviation)
            connection.set_progress_handler(lambda: time.monotonic() > deadline, STEPS)
            connection.set_authorizer(_authorize)
            connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, MAX_VALUE_BYTES)
            cursor = connection.execute(statement)
            return [column[0] for column in cursor.description], _limited(cursor)
    except MemoryError as error:
        raise QueryError(f"the query needs more than {MAX_HEAP_BYTES // 2**20} MiB of memory") from error
    except sqlite3.Error as error:
        if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_INTERRUPT:
            if time.monotonic() < deadline:
                raise KeyboardInterrupt from None  # raised in the progress handler, where SQLite swallowed it
            raise QueryError(f"the query exceeded the limit of {SECONDS} s") from error
        raise QueryError(_message(str(error))) from error


def _from_postgresql(store: Store, statement: str) -> tuple[list[str], Sequence[Sequence[Any]]]:
    """The statement becomes a cursor, which must be a query, sent by the extended protocol, which takes one statement.

    That excludes COPY and further statements. The transaction is read-only, which can't be changed after its first
    query, and is rolled back, because some functions write nevertheless. It takes the role of a reader, which has no
    right but to read. Functions that could undo this, or that disturb others, are rejected by name.
    """
    import psycopg

    if refused := _REFUSED.search(statement):
        name = re.sub(r"\W+$", "", refused[0])
        raise QueryError(f"{name} is not allowed in mlpq sql, which only reads tables; {_READ_ONLY}")
    with store.read() as connection:
        for preparation in ("SET TRANSACTION READ ONLY", *_limits(), roles.TO_READER):
            connection.exec_driver_sql(preparation)
        driver: psycopg.Connection = connection.connection.driver_connection  # type: ignore[assignment]
        try:
            with driver.cursor("query") as cursor:
                cursor.execute(statement.encode())
                return [column.name for column in cursor.description or ()], _limited(_streamed(cursor))
        except psycopg.errors.QueryCanceled as error:
            raise QueryError(f"the query exceeded the limit of {SECONDS} s") from error
        except psycopg.Error as error:
            raise QueryError(_message(error.diag.message_primary or str(error))) from error
        finally:
            connection.rollback()


def _limits() -> tuple[str, ...]:
    """Statements that limit the next query: its time, its memory, and how long it waits for a migration.

    Only a superuser may limit temporary files here; scripts/roles.sql limits them for the other roles.
    """
    files = "SELECT set_config('temp_file_limit', '1GB', true) WHERE current_setting('is_superuser') = 'on'"
    memory = ("SET LOCAL work_mem = '16MB'", "SET LOCAL max_parallel_workers_per_gather = 0")
    waits = (f"SET LOCAL statement_timeout = '{SECONDS}s'", "SET LOCAL lock_timeout = '5s'")
    return (*memory, *waits, files)


def _streamed(cursor: Any) -> Iterator[Sequence[Any]]:
    """The rows of a server-side cursor, fetched in batches of about BATCH_BYTES."""
    size, fetched, count = 0, 0, 1
    while batch := cursor.fetchmany(count):
        size += sum(map(_size, batch))
        fetched += len(batch)
        count = min(BATCH_ROWS, 1 + BATCH_BYTES * fetched // (size + 1))
        yield from batch


def _size(row: Sequence[Any]) -> int:
    """About how many bytes a row takes."""
    return sum(len(value) if isinstance(value, (str, bytes)) else 8 for value in row)


def _limited(cursor: Iterable[Sequence[Any]]) -> list[Sequence[Any]]:
    """All rows of a cursor, read one after the other; raises QueryError as soon as there are too many."""
    rows, size = [], 0
    for row in cursor:
        rows.append(row)
        size += _size(row)
        if len(rows) > MAX_ROWS:
            raise QueryError(f"the result has more than {MAX_ROWS:,} rows: add a LIMIT, or a WHERE for each part")
        if size > MAX_BYTES:
            raise QueryError(f"the result is larger than {MAX_BYTES // 2**20} MiB: select less of it, or add a LIMIT")
    return rows


def _authorize(action: int, _: str | None, name: str | None, *__: str | None) -> int:
    is_reading = action in _READING and not (action == sqlite3.SQLITE_FUNCTION and str(name).lower() in _LOADING)
    return sqlite3.SQLITE_OK if is_reading else sqlite3.SQLITE_DENY


def _date_part(field: str, at: str | None) -> float | None:
    """PostgreSQL's function, for differences of times: the seconds since 1970."""
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
        text = decode(stored)
        try:
            return read(text)
        except (ValueError, RecursionError):  # a UNION has the declared type of its first part only
            return text

    return convert


# Used by connections with PARSE_DECLTYPES: only the one above.
sqlite3.register_converter("DATETIME", _converter(_time))
sqlite3.register_converter("BOOLEAN", _converter(lambda text: bool(int(text))))
sqlite3.register_converter("JSON", _converter(load_json))


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
    """A value of a type that every output format supports."""
    if value is None or isinstance(value, (bool, int, float, str, dict)):
        return value
    if isinstance(value, datetime):
        return value.astimezone(UTC) if value.tzinfo else value
    if isinstance(value, Decimal):  # a sum of integers has no decimals
        return int(value) if value.as_tuple().exponent == 0 else float(value)
    if isinstance(value, list):
        return [_plain(part) for part in value]
    return value.hex() if isinstance(value, bytes) else str(value)


def _message(reason: str) -> str:
    """The database's message in one line, with a suggestion where there is one."""
    lines = reason.splitlines() or ["the database gave no reason"]
    reason = lines[0]
    if found := _NO_COLUMN.search(reason):
        columns = {column.name for table in metadata.tables.values() for column in table.c} | {*results.c.keys()}
        return reason + (suggestion(_last_name(found), columns) or _SEE_COLUMNS)
    if found := _NO_TABLE.search(reason):
        return reason + nearest(_last_name(found), {"results", *metadata.tables})
    return next((message for part, message in _MESSAGES.items() if part in reason), reason)


def _last_name(found: re.Match[str]) -> str:
    """The name without its table and its quotes."""
    return (found[1] or found[2]).rpartition(".")[2].strip('"')
