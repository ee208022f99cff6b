"""What the databases themselves refuse. Rows that are older than the checks stay, and can change in other columns."""

from __future__ import annotations

from importlib.resources import files
from typing import Any

import alembic.command
import pytest
from alembic.config import Config
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import MetaData, insert, text, update
from sqlalchemy.exc import DataError, IntegrityError

from mlpq.spec.data_content import DataContent
from mlpq.store import data_sets as own_data
from mlpq.store import execution, migrate
from mlpq.store.schema import attempts, data_chunks, data_sets, experiments, job_results, jobs, workers
from mlpq.store.session import Store, now
from mlpq.worker_records import WorkerCapabilities
from tests.support.job_steps import claim_one, finish, spec, submit

HEX = "0123456789abcdef"
GOOD = {
    (jobs, "spec"): ["{}", '{"a": [1]}'],
    (jobs, "spec_hash"): ["0" * 64, "0123456789abcdef" * 4],
    (jobs, "id"): ["01234567-89ab-cdef-0123-456789abcdef"],
    (jobs, "worker"): ["ann:1:a", "a name", "ä"],
    (jobs, "world_size"): [1, 64],
    (attempts, "worker"): ["ann:1:a", "a name"],
    (experiments, "name"): ["lab", "Läbor & <b>", "2024_01_15"],
    (job_results, "weights_sha256"): ["ab" * 32],
    (jobs, "data_sha256"): ["ab" * 32, None],
    (data_sets, "name"): ["wine", "a.b-c_d", "0" * 64],
    (data_sets, "sha256"): ["ab" * 32],
    (data_sets, "features"): [1, 100_000],
    (data_chunks, "sha256"): ["ab" * 32],
    (workers, "name"): ["ann:1:a", "h-1.example.org:4711:0a1b", "a:b:1:a"],
    (workers, "most_ranks"): [1],
    (workers, "world_size"): [8],
}
CONTROLS = ("a\nb", "\x1b]0;x\x07", "a\x7f", "a\x85b", "\x9b2J", "\t")
BAD = {
    (jobs, "spec"): ["[]", "null", '"x"', "5", "true", f'{{"a": "{"x" * 10_000}"}}'],
    (jobs, "spec_hash"): ["", "0" * 63, "A" * 64, "g" * 64, "0" * 63 + "\n"],
    (jobs, "id"): ["", "../../x", "/tmp/x", "01234567-89ab-cdef-0123-456789abcdeF", "0" * 36, "0" * 32],
    (jobs, "worker"): CONTROLS,
    (jobs, "world_size"): [0, -1],
    (attempts, "worker"): CONTROLS,
    (experiments, "name"): CONTROLS,
    (experiments, "owner"): CONTROLS,
    (job_results, "weights_sha256"): ["", "../" * 21 + "x", "AB" * 32],
    (jobs, "data_sha256"): ["", "../x", "AB" * 32, "0" * 63],
    (data_sets, "name"): ["", "Wine", "-x", ".x", "a b", "a/b", "a@b", "ä", "a\n", "a\x85"],
    (data_sets, "sha256"): ["", "x", "AB" * 32],
    (data_sets, "features"): [0],
    (data_sets, "classes"): [-1],
    (data_sets, "train"): [0],
    (data_sets, "test"): [0],
    (data_sets, "size"): [0],
    (data_chunks, "sha256"): ["x"],
    (workers, "name"): ["evil", "a:1", "a:1:", "a::a", ":1:a", "a:1:x", "a:1a:a", "a\n:1:a", "a:1:a\n", "\x1b:1:a"],
    (workers, "most_ranks"): [0],
    (workers, "world_size"): [-8],
}  # fmt: skip


def cases(found: dict[Any, Any]) -> list[Any]:
    return [
        pytest.param(table, column, value, id=f"{table.name}.{column}: {str(value)[:20]!a}")
        for (table, column), values in found.items()
        for value in values
    ]


def fill(store: Store) -> None:
    """One row in each table."""
    execution.worker_heartbeat(store, "bob:2:b", WorkerCapabilities("cpu"))
    submit(store, spec())
    finish(store, claim_one(store))
    content = DataContent(sha256="ab" * 32, features=2, classes=2, train=4, test=2)
    own_data.register(store, "wine", content, 100, {})
    own_data.push(store, content.sha256, [b"x"])


def set_column(store: Store, table: Any, column: str, value: Any) -> None:
    """As any client of the database could; JSON is given as its text."""
    is_json = column == "spec"
    cast = "CAST(:value AS jsonb)" if is_json and not store.is_sqlite else ":value"
    parents = ("PRAGMA defer_foreign_keys = ON",) if store.is_sqlite else ("SET CONSTRAINTS ALL DEFERRED",)
    with store.write() as connection:
        for statement in parents:
            connection.execute(text(statement))
        connection.execute(text(f"UPDATE {table.name} SET {column} = {cast}"), {"value": value})


@pytest.mark.parametrize(("table", "column", "value"), cases(BAD))
def test_bad_value_is_refused(store: Store, table: Any, column: str, value: Any) -> None:
    fill(store)
    with pytest.raises((IntegrityError, DataError), match=f"{table.name}.{column} must be"):
        set_column(store, table, column, value)


@pytest.mark.parametrize(("table", "column", "value"), [case for case in cases(GOOD) if case.values[1] != "id"])
def test_good_value_is_accepted(store: Store, table: Any, column: str, value: Any) -> None:
    fill(store)
    set_column(store, table, column, value)


def test_bad_row_is_not_inserted(store: Store) -> None:
    with pytest.raises(IntegrityError, match=r"workers\.name must be host:pid:hex"):
        execution.worker_heartbeat(store, "evil", WorkerCapabilities("cpu"))
    with pytest.raises(IntegrityError, match=r"experiments\.name must be"), store.write() as connection:
        connection.execute(insert(experiments).values(name="a\x1b[2J", created_at=now()))


@given(
    host=st.text(min_size=1, max_size=20),
    process=st.text("0123456789x:", max_size=4),
    tag=st.text(HEX + "x:", max_size=4),
)
@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_databases_agree_on_names_of_workers(
    both_stores: tuple[Store, Store], host: str, process: str, tag: str
) -> None:
    name = f"{host}:{process}:{tag}"
    accepted = []
    for store in both_stores:
        try:
            execution.worker_heartbeat(store, name, WorkerCapabilities("cpu"))
            accepted.append(True)
        except (IntegrityError, DataError, UnicodeEncodeError):
            accepted.append(False)
    assert accepted[0] == accepted[1], name


def test_row_that_is_older_than_the_checks_stays_and_can_change(empty_url: str) -> None:
    store, config = Store(empty_url), Config()
    config.set_main_option("script_location", str(files("mlpq_migrations")))
    with store.write() as connection:
        config.attributes["connection"] = connection
        alembic.command.upgrade(config, "0007")
        then = MetaData()
        then.reflect(connection)
        connection.execute(insert(then.tables["experiments"]).values(id=1, name="e", created_at=now()))
        old = insert(then.tables["jobs"]).values(
            id="1", experiment_id=1, spec=[], spec_hash="x\n", repeat=0, seed=1, device="auto", priority=0,
            status="queued", attempt=0, max_attempts=1, cancel_requested=False, created_at=now(),
        )  # fmt: skip
        connection.execute(old)
    migrate.upgrade(store)
    with store.write() as connection:
        assert connection.execute(update(jobs).values(priority=9, worker="ann:1:a")).rowcount == 1
    store.close()
