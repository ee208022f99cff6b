"""Connections to PostgreSQL: in UTC, and each side gives up on the other one if it is silent within a transaction."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import psycopg
from psycopg.abc import RV, PQGen
from sqlalchemy import Engine, event

from mlpq.jobs import LEASE_SECONDS
from mlpq.store.odd_values import tolerate_times

# A client that is suspended or loses its power within a transaction would lock its rows for as long as its connection
# seems to be open, and nobody could take over its jobs.
SILENT_CLIENT_SECONDS = float(LEASE_SECONDS)


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
    """Connect the engine in UTC; its connections give up after `limit()` seconds without an answer.

    The server gives up on a transaction after SILENT_CLIENT_SECONDS without a statement.
    """

    @event.listens_for(engine, "do_connect")
    def connect(_dialect: object, _record: object, arguments: Any, options: Any) -> Connection:
        connection = Connection.connect(*arguments, **options)
        connection.limit = limit
        # Statements and not startup options, which PgBouncer refuses. It keeps the time zone for each client.
        connection.autocommit = True
        connection.execute("SET timezone TO 'UTC'")
        milliseconds = int(SILENT_CLIENT_SECONDS * 1000)
        connection.execute(f"SET idle_in_transaction_session_timeout TO {milliseconds}".encode())
        connection.autocommit = False
        tolerate_times(connection)
        return connection
