"""Transactions that wait for each other, on PostgreSQL."""

from __future__ import annotations

import time

from sqlalchemy import Connection


def wait_for_a_waiter(connection: Connection) -> None:
    """Wait until another transaction waits for a lock."""
    waiting = "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    until = time.monotonic() + 10
    while not connection.exec_driver_sql(waiting).all():
        assert time.monotonic() < until, "no transaction waits"
        connection.exec_driver_sql("SELECT pg_stat_clear_snapshot(), pg_sleep(0.02)")
