"""Rows with values that no program of mlpq writes, in a database without checks."""

from __future__ import annotations

from typing import Any

from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from mlpq.store.schema import metadata
from mlpq.store.session import Store

WORKER = "ann:1:a"
SPECS = (
    "[]", "null", '"x"', "5", "true", "{}", '{"lr": "abc"}', '{"dataset": "\\ud800"}', '{"dataset": []}', "[[[]]]",
    '{"optimizer": "nope"}', "{", "", '{"seed": 1e400}', '{"epochs": ' + "9" * 5000 + "}",
    '{"a":' * 500 + "1" + "}" * 500,
)  # fmt: skip
TEXTS = (
    "",
    "evil",
    "../../x",
    "/tmp/x",
    "a\nb",
    "\x1b]0;title\x07",
    "\u202etxt",
    "x" * 90,
    "<script>",
    "-1",
    "1e999",
    "NaN",
)
NUMBERS = (-1, 0, 1, 2**31 - 1, -(2**31))
FLOATS = ("NaN", "Infinity", "-Infinity", "-1", "1e308")
TIMES = ("infinity", "-infinity", "0001-01-01 BC", "20000-01-01", "2000-01-01")
BLOB = "CAST(x'ff00fe' AS BLOB)"
SQLITE = ("''", "'x'", "5", "-1", "2.5", "9e999", BLOB, "CAST(x'ff41' AS TEXT)", "'1'", "'\x1b[2J'")  # in any column
ROWS = 54  # more odd values than two columns have
SKIPPED = {"seq"}  # the identity of a row


def disable_checks(store: Store) -> None:
    """As in a database that is older than the checks, or that its owner has tampered with."""
    with store.write() as connection:
        if store.is_sqlite:
            names = connection.execute(text("SELECT name FROM sqlite_master WHERE type = 'trigger'")).scalars().all()
            for name in names:
                connection.execute(text(f"DROP TRIGGER {name}"))
        else:
            for table in metadata.tables:
                connection.execute(text(f"ALTER TABLE {table} DISABLE TRIGGER USER"))


def values_of(column: Any, is_sqlite: bool) -> list[str]:
    """Odd values of a column as SQL."""
    kind = str(column.type.compile()).upper()
    if column.name == "spec":
        found = [f"'{each}'" for each in SPECS]
    elif "CHAR" in kind or kind == "TEXT":
        found = ["'" + each[: getattr(column.type, "length", None) or 99].replace("'", "''") + "'" for each in TEXTS]
    elif "INT" in kind:
        found = [str(each) for each in NUMBERS]
    elif "FLOAT" in kind:
        found = [f"'{each}'" for each in FLOATS]
    elif kind == "BOOLEAN":
        found = ["true"]
    else:
        found = [f"'{each}'" for each in TIMES]
    return [*found, "NULL", *(SQLITE if is_sqlite else ())]


KEYS = {
    "jobs": "seq", "job_results": "job_id", "attempts": "job_id", "workers": "name",
    "experiments": "id", "environments": "id", "epochs": "job_id", "verifications": "id",
}  # fmt: skip


def keys(store: Store, table: Any) -> list[Any]:
    """What identifies each row."""
    key = KEYS[table.name]
    with store.read() as connection:
        return list(connection.execute(text(f"SELECT {key} FROM {table.name} ORDER BY {key}")).scalars())


def set_value(store: Store, table: Any, key: Any, column: str, value: str) -> bool:
    """Set a column in one row; False where the database refuses."""
    statement = f"UPDATE {table.name} SET {column} = {value} WHERE {KEYS[table.name]} = '{key}'"
    try:
        with store.write() as connection:
            if store.is_sqlite:
                connection.execute(text("PRAGMA defer_foreign_keys = ON"))
            connection.exec_driver_sql(statement)
    except (DBAPIError, UnicodeError):
        return False
    return True
