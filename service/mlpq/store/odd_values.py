"""Values that a column's type can't hold: SQLite stores any, PostgreSQL times and numbers that Python doesn't have.

Drivers raise an error for them, which would end a query for the sake of one row. Here they become an `OddValue`, which
only the record of that row fails to read.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from mlpq.text import escaped

DEEPEST = 50  # levels of a JSON document


class OddValue(str):
    """The value as text."""

    __slots__ = ()

    def __format__(self, _: str) -> str:
        return str(self)


def odd(value: object) -> OddValue:
    """The odd value of a column."""
    text = value.decode(errors="backslashreplace") if isinstance(value, bytes) else str(value)
    return OddValue(escaped(text[:100]))


def as_text(value: object) -> str:
    """A value of a text column, in which SQLite may store bytes and numbers."""
    return value if isinstance(value, str) else odd(value)


def load_json(stored: Any) -> Any:
    """The document in a JSON column, whatever is stored there."""
    try:
        document = json.loads(stored)
    except (ValueError, TypeError, RecursionError):  # not JSON, a number of thousands of digits, nested too deeply
        return odd(stored)
    return odd(stored) if _is_deep(document) else document


def _is_deep(document: Any) -> bool:
    """Whether it is nested so deeply that code which follows it, such as that which writes JSON, could fail."""
    level = [document]
    for _ in range(DEEPEST):
        level = [part for each in level if isinstance(each, (dict, list)) for part in _parts(each)]
        if not level:
            return False
    return True


def _parts(container: dict[str, Any] | list[Any]) -> Iterable[Any]:
    return container.values() if isinstance(container, dict) else container


def decode(stored: bytes) -> str:
    """A text of SQLite, which may hold any bytes."""
    return stored.decode(errors="backslashreplace")


def tolerate_times(connection: Any) -> None:
    """Let a connection of psycopg load times beyond Python's, such as infinity, as odd values."""
    from psycopg import DataError, postgres
    from psycopg.abc import AdaptContext, Buffer
    from psycopg.adapt import Loader

    oid = postgres.types["timestamptz"].oid
    usual: Any = connection.adapters.get_loader(oid, Loader.format)

    class TimeLoader(Loader):
        def __init__(self, oid: int, context: AdaptContext | None = None) -> None:
            super().__init__(oid, context)
            self._usual = usual(oid, context)

        def load(self, data: Buffer) -> Any:
            try:
                return self._usual.load(data)
            except DataError:
                return odd(bytes(data))

    connection.adapters.register_loader(oid, TimeLoader)
