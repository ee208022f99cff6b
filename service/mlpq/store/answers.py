"""Connections to PostgreSQL: in UTC, and they give up on a server that accepts statements and does not answer."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import psycopg
from psycopg.abc import RV, PQGen
from sqlalchemy import Engine, event

from mlpq.store.odd_values import tolerate_times


class Connection(psycopg.Connection[Any]):
    """psycopg's connection, with a limit on each wait for the server: `limit` answers it in seconds, None for none."""

    limit: Callable[[], float | None] = staticmethod(lambda: None)

    def wait(self, gen: PQGen[RV], interval: float = 0.1, timeout: float | None = None) -> RV:
        limit, began = self.limit(), time.monotonic()
        try:
            return super().wait(gen, interval, timeout or limit)
        except psycopg.OperationalError as error:
            if limit is None or time.monotonic() - began < limit:
                raise
            self.close()  # it is in the middle of a statement
            raise psycopg.OperationalError(f"no answer within {limit:.0f} s") from error


def set_up_connections(engine: Engine, limit: Callable[[], float | None]) -> None:
    """Connect the engine in UTC; its connections give up after `limit()` seconds without an answer."""

    @event.listens_for(engine, "do_connect")
    def connect(_dialect: object, _record: object, arguments: Any, options: Any) -> Connection:
        connection = Connection.connect(*arguments, **options)
        connection.limit = limit
        # A statement and not a startup option: PgBouncer follows the one, and refuses the other.
        connection.autocommit = True
        connection.execute("SET timezone TO 'UTC'")
        connection.autocommit = False
        tolerate_times(connection)
        return connection
