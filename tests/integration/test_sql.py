"""Queries of `mlpq sql`: equal results on both databases, and no statement can write."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, text, update

from mlpq.errors import QueryError
from mlpq.store import sql
from mlpq.store.schema import jobs, metadata
from mlpq.store.session import Store
from tests.support.installations import EMBEDDED, SERVICES, Sites
from tests.support.job_steps import claim_one, finish, spec, submit

pytestmark = pytest.mark.xdist_group("sql")  # its fixtures are expensive: set up once, by one process

FOREVER = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i FROM n WHERE i < 0"


@pytest.fixture
def outside() -> Iterator[Path]:
    """A folder that the database server's user can write to."""
    folder = Path(tempfile.mkdtemp(prefix="mlpq-outside-"))
    folder.chmod(0o777)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="module", params=[EMBEDDED, SERVICES])
def store(request: pytest.FixtureRequest, sites: Sites, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """A database with a succeeded and a queued job, shared by all tests, because none of them writes."""
    with sites.open(request.param, tmp_path_factory.mktemp("sql")) as site:
        submit(site.store, spec(), spec(seeds=1))
        finish(site.store, claim_one(site.store))
        yield site.store


def contents(store: Store) -> list[list[Any]]:
    """All rows of all tables, and everything else that a statement could create in the database."""
    with store.read() as connection:
        found: list[list[Any]] = [list(connection.execute(select(table))) for table in metadata.sorted_tables]
        if store.is_sqlite:
            return [*found, list(connection.execute(text("SELECT * FROM sqlite_master ORDER BY name")))]
        for catalogue in ("pg_class", "pg_proc", "pg_roles", "pg_extension", "pg_largeobject_metadata"):
            found.append(list(connection.execute(text(f"SELECT oid FROM {catalogue} ORDER BY oid"))))
        return [*found, list(connection.execute(text("SELECT last_value FROM jobs_seq_seq")))]


def one(store: Store, statement: str) -> dict[str, Any]:
    (row,) = sql.read_only(store, statement)[1]
    return row


def test_columns_of_tables_have_their_types(store: Store) -> None:
    row = one(store, "SELECT seq, spec, cancel_requested, created_at, error, seed FROM jobs ORDER BY seq LIMIT 1")
    assert row["spec"]["optimizer"] == "sgd"
    assert row["cancel_requested"] is False
    assert row["error"] is None
    assert type(row["seed"]) is int
    with store.read() as connection:
        assert row["created_at"] == connection.execute(select(jobs.c.created_at).order_by(jobs.c.seq)).scalars().first()
    assert row["created_at"].tzinfo is UTC


def test_sums_and_means_are_plain_numbers(store: Store) -> None:
    row = one(store, "SELECT sum(seed) AS total, avg(seed) AS mean, max(test_accuracy) AS best FROM results")
    assert row == {"total": 43, "mean": 21.5, "best": 0.9}
    assert [type(value) for value in row.values()] == [int, float, float]


def test_functions_that_sqlite_lacks_equal_postgresqls(store: Store) -> None:
    values = "(SELECT 1.5 AS x UNION ALL SELECT 2 UNION ALL SELECT NULL UNION ALL SELECT 4) AS v"
    assert one(store, f"SELECT stddev_samp(x) AS sd FROM {values}")["sd"] == pytest.approx(1.3228756555322954)
    assert one(store, f"SELECT stddev_samp(x) AS sd FROM {values} WHERE x > 2")["sd"] is None
    moment = one(store, "SELECT created_at, date_part('epoch', created_at) AS s FROM jobs ORDER BY seq LIMIT 1")
    assert moment["s"] == moment["created_at"].timestamp()
    assert one(store, "SELECT date_part('epoch', finished_at) AS s FROM jobs WHERE status = 'queued'")["s"] is None


def test_columns_with_the_same_name_are_numbered(store: Store) -> None:
    columns, rows = sql.read_only(store, "SELECT 1 AS a, 2 AS a, 3 AS a_2, 4 AS a")
    assert columns == ["a", "a_2", "a_2_2", "a_3"]
    assert rows == [{"a": 1, "a_2": 2, "a_2_2": 3, "a_3": 4}]


def test_empty_result_has_columns(store: Store) -> None:
    assert sql.read_only(store, "SELECT id, lr FROM results WHERE lr < 0;") == (["id", "lr"], [])


@pytest.mark.parametrize(
    "statement",
    ["select 1 as a", "  SELECT 1 AS a ; ", "-- one\n/* two\n */ SELECT 1 AS a -- three",
     "WITH x AS (SELECT 1 AS a) SELECT a FROM x", "SELECT 1 AS a WHERE '100 %' LIKE '%s%' OR '%' = '%'"],
)  # fmt: skip
def test_statements_may_have_comments_spaces_and_semicolons(store: Store, statement: str) -> None:
    assert one(store, statement) == {"a": 1}


def test_union_of_times_and_text_is_returned_as_stored(store: Store) -> None:
    if store.is_sqlite:  # PostgreSQL refuses it
        _, rows = sql.read_only(store, "SELECT created_at AS t FROM jobs WHERE seq = 1 UNION ALL SELECT 'never'")
        assert [type(row["t"]) for row in rows] == [datetime, str]


# Statements, and parts of the error on SQLite and on PostgreSQL.
MISTAKES = (
    ("SELECT lrr FROM results", "did you mean 'lr'?", "did you mean 'lr'?"),
    ("SELECT r.test_acuracy FROM results AS r", "did you mean 'test_accuracy'?", "did you mean 'test_accuracy'?"),
    ("SELECT zzzzzz FROM results", "results-schema.md lists the columns", "results-schema.md lists the columns"),
    ("SELECT * FROM result", "did you mean 'results'?", "did you mean 'results'?"),
    ("SELECT * FROM zzzzzz", "choose from: attempts, ", "choose from: attempts, "),
    ("SELECT median(lr) FROM results", "no such function: median", "function median(double precision) does not exist"),
    ("SELECT FROM results", "syntax error", "selects no column"),
    ("SELECT 'a", "unrecognized token", "unterminated quoted string"),
    ("", "mlpq sql is read-only", "mlpq sql is read-only"),
    ("-- SELECT 1", "mlpq sql is read-only", "mlpq sql is read-only"),
    ("EXPLAIN SELECT 1", "mlpq sql is read-only", "mlpq sql is read-only"),
    ("SELECT 1; SELECT 2", "one statement at a time", "one statement at a time"),
    ("SELECT \0", "not UTF-8 text", "not UTF-8 text"),
    ("SELECT '\udcff'", "not UTF-8 text", "not UTF-8 text"),
)


def test_invalid_statement_is_a_one_line_error(store: Store) -> None:
    for statement, on_sqlite, on_postgresql in MISTAKES:
        with pytest.raises(QueryError) as error:
            sql.read_only(store, statement)
        assert (on_sqlite if store.is_sqlite else on_postgresql) in str(error.value), statement
        assert "\n" not in str(error.value)


ATTACKS = (
    # On both.
    "DELETE FROM epochs",
    "UPDATE jobs SET priority = 9",
    "DROP VIEW results",
    "CREATE TABLE mine (a INTEGER)",
    "SELECT 1; DELETE FROM epochs",
    "COMMIT; DELETE FROM epochs",
    "SELECT 1; COMMIT; DELETE FROM epochs; SELECT 1",
    "WITH gone AS (DELETE FROM epochs RETURNING job_id) SELECT * FROM gone",
    "WITH new AS (INSERT INTO experiments VALUES (9, 'x', '2026-01-01') RETURNING id) SELECT * FROM new",
    "WITH x AS (SELECT 1) DELETE FROM epochs",
    "WITH x AS (SELECT 1) INSERT INTO experiments SELECT 9, 'x', '2026-01-01' FROM x",
    "SELECT * INTO mine FROM jobs",
    # On SQLite.
    "ATTACH '{outside}/attached.db' AS other",
    "VACUUM INTO '{outside}/copy.db'",
    "PRAGMA writable_schema = ON",
    "PRAGMA query_only = OFF",
    "SELECT load_extension('{outside}/evil')",
    "SELECT Load_Extension('{outside}/evil', 'x')",
    "SELECT FTS3_Tokenizer('simple', x'0000000000000000')",
    "SELECT writefile('{outside}/written', 'x')",
    "SELECT * FROM pragma_journal_mode('delete')",
    # On PostgreSQL.
    "SET TRANSACTION READ WRITE",
    "SET TRANSACTION READ WRITE; DELETE FROM epochs",
    "SELECT set_config('transaction_read_only', 'off', false)",
    "SELECT U&\"set\\005fconfig\"('role', 'postgres', true)",
    "SELECT set_config('role', 'none', true), query_to_xml('SELECT lo_export(1, ''{outside}/x'')', true, true, '')",
    "COPY jobs TO '{outside}/copied'",
    "COPY jobs TO PROGRAM 'cat > {outside}/piped'",
    "COPY experiments FROM PROGRAM 'echo 9,x,2026-01-01'",
    "DO $$ BEGIN DELETE FROM epochs; END $$",
    "SELECT * FROM jobs FOR UPDATE",
    "SELECT nextval('jobs_seq_seq')",
    "SELECT setval('jobs_seq_seq', 1000)",
    "SELECT lo_import('/etc/passwd')",
    "SELECT lo_create(0)",
    "SELECT lo_export(lo_from_bytea(0, 'x'), '{outside}/exported')",
    "SELECT pg_read_file('/etc/passwd')",
    "SELECT pg_ls_dir('/')",
    "SELECT pg_reload_conf()",
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname IS NULL",
)
# These run, and are rolled back: before version 16 read-only transactions allow large objects.
ROLLED_BACK = {"SELECT lo_create(0)"}


@pytest.mark.parametrize("check", [sql._check, lambda _: None], ids=["with the check", "without the check"])
def test_attack_is_rejected_and_changes_nothing(
    store: Store, outside: Path, monkeypatch: pytest.MonkeyPatch, check: Callable[[str], None]
) -> None:
    monkeypatch.setattr(sql, "_check", check)
    before, ran = contents(store), set()
    for attack in ATTACKS:
        try:
            sql.read_only(store, attack.format(outside=outside))
            ran.add(attack)
        except QueryError as error:
            print(f"{attack}: {error}")
        assert contents(store) == before, attack
        assert list(outside.iterdir()) == [], attack
    assert ran <= (set() if store.is_sqlite else ROLLED_BACK)
    with store.write() as connection:  # other connections can still write
        assert connection.execute(update(jobs).values(priority=jobs.c.priority)).rowcount == 2


def test_sqlite_is_read_only_without_the_authorizer(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sql, "_authorize", lambda *_: 0)
    before = contents(store)
    with pytest.raises(QueryError, match="readonly database" if store.is_sqlite else "syntax error"):
        sql.read_only(store, "WITH x AS (SELECT 1) DELETE FROM epochs")
    assert contents(store) == before


def test_postgresql_functions_of_any_owner_cannot_write(store: Store) -> None:
    if store.is_sqlite:
        return  # it has no such functions
    body = "$$ BEGIN {}; RETURN 1; END $$ LANGUAGE plpgsql SECURITY DEFINER"
    writing = {
        "sweep_up": ("DELETE FROM epochs", "in a read-only transaction"),
        "step_out": ("SET TRANSACTION READ WRITE; DELETE FROM epochs", "must be set before any query"),
        "step_over": ("COMMIT; DELETE FROM epochs", "invalid transaction termination"),
    }
    with store.write() as connection:
        for name, (statements, _) in writing.items():
            connection.execute(text(f"CREATE FUNCTION {name}() RETURNS INTEGER AS {body.format(statements)}"))
    before = contents(store)
    for name, (_, message) in writing.items():
        with pytest.raises(QueryError, match=message):
            sql.read_only(store, f"SELECT {name}()")
    assert contents(store) == before


def test_endless_query_is_stopped(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sql, "SECONDS", 0.2)
    with pytest.raises(QueryError, match=r"exceeded the limit of 0\.2 s"):
        sql.read_only(store, FOREVER)


def test_ctrl_c_stops_a_query(store: Store) -> None:
    timer = threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        sql.read_only(store, FOREVER)
    timer.join()
    assert one(store, "SELECT 1 AS a") == {"a": 1}
