"""On PostgreSQL, `mlpq sql` disturbs nobody: refused functions, a reader's role, limits."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import text

from mlpq.errors import QueryError
from mlpq.store import sql
from mlpq.store.session import Store
from tests.support.installations import ROOT
from tests.support.services import Postgres

SERIES = "SELECT i, repeat('x', 1000) AS t FROM generate_series(1, {}) AS i"
REFUSED = (
    "pg_logical_emit_message(false, 'a', 'b')",
    "pg_advisory_lock(1835888753)",
    "pg_advisory_xact_lock_shared(1)",
    "pg_try_advisory_lock(1)",
    "pg_terminate_backend(pg_backend_pid())",
    "pg_cancel_backend(1)",
    "pg_notify('a', 'b')",
    "lo_create(0)",
    "lo_from_bytea(0, 'x')",
    "lo_unlink(1)",
    "lowrite(0, 'x')",
    "dblink('', 'SELECT 1')",
    "dblink_exec('', 'DROP TABLE jobs')",
    "txid_current()",
    "pg_stat_reset()",
    "pg_reload_conf()",
)


@pytest.fixture(scope="module")
def store(postgres: Postgres, migrated_postgres: str) -> Iterator[Store]:
    name = postgres.create(migrated_postgres)
    store = Store(postgres.url(name))
    yield store
    store.close()
    postgres.drop(name)


@settings(max_examples=60)
@given(
    call=st.sampled_from(REFUSED),
    gap=st.sampled_from(["", " ", "\n\t", "/**/", " /* /* */ */ ", "-- x\n"]),
    prefix=st.sampled_from(["", "pg_catalog.", "pg_catalog . "]),
    quoted=st.booleans(),
    upper=st.booleans(),
)
def test_function_that_disturbs_others_is_refused_however_it_is_written(
    store: Store, call: str, gap: str, prefix: str, quoted: bool, upper: bool
) -> None:
    name, _, arguments = call.partition("(")
    name = f'"{name}"' if quoted else name.upper() if upper else name
    with pytest.raises(QueryError, match="not allowed in mlpq sql"):
        sql.read_only(store, f"SELECT {prefix}{name}{gap}({arguments}")


@pytest.mark.parametrize(
    "statement",
    ["SELECT 'lo_fi' AS a", "SELECT count(*) AS a FROM results WHERE experiment = 'pg_notify'",
     "SELECT lower('LO') AS a", "SELECT 1 AS lo_rate", "SELECT log(10) AS a", "SELECT 'dblink' AS a"],
)  # fmt: skip
def test_similar_words_are_allowed(store: Store, statement: str) -> None:
    assert len(sql.read_only(store, statement)[1]) == 1


@pytest.mark.parametrize("table", ["pg_authid", "pg_catalog.pg_shadow", '"pg_authid"'])
def test_passwords_are_not_readable(store: Store, table: str) -> None:
    with pytest.raises(QueryError, match="not allowed"):
        sql.read_only(store, f"SELECT * FROM {table}")


def test_superuser_reads_with_a_role_that_only_reads(store: Store) -> None:
    (row,) = sql.read_only(store, "SELECT current_user AS u, current_setting('work_mem') AS m")[1]
    assert row == {"u": "pg_read_all_data", "m": "16MB"}
    with store.read() as connection:  # for that statement only
        assert connection.execute(text("SELECT current_user")).scalar() == "postgres"


def test_result_is_limited_in_rows(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sql, "MAX_ROWS", 5000)
    assert len(sql.read_only(store, SERIES.format(5000))[1]) == 5000
    with pytest.raises(QueryError, match=r"more than 5,000 rows: .*LIMIT"):
        sql.read_only(store, SERIES.format(10**7))


def test_result_is_limited_in_bytes(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sql, "MAX_BYTES", 2**20)
    with pytest.raises(QueryError, match=r"larger than 1 MiB"):
        sql.read_only(store, SERIES.format(10**7))


def test_query_that_waits_for_a_migration_gives_up(store: Store) -> None:
    with store.write() as migration:
        migration.execute(text("LOCK TABLE jobs IN ACCESS EXCLUSIVE MODE"))
        with pytest.raises(QueryError, match="lock timeout"):
            sql.read_only(store, "SELECT count(*) FROM jobs")


@pytest.mark.skipif(sys.platform != "linux", reason="limits memory as Docker on Linux does")
def test_query_that_needs_too_much_memory_fails_alone() -> None:
    """With the limit that docker-compose.yml sets for the processes of PostgreSQL."""
    limit = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]["postgres"]["ulimits"]["data"]
    server = Postgres(memory=limit, shared_buffers="128MB")
    try:
        server.start()
        store = Store(server.url("postgres"))
        with pytest.raises(QueryError, match="out of memory"):
            sql.read_only(store, "SELECT length(repeat('x', 950000000) || repeat('y', 950000000)) AS n")
        assert sql.read_only(store, "SELECT 1 AS a")[1] == [{"a": 1}]
        store.close()
    finally:
        server.stop()
