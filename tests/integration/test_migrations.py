"""The schema: migrations create what `store.schema` declares, on both databases; a wrong schema is an error."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, replace
from datetime import UTC, datetime
from importlib.resources import files
from typing import Any

import alembic.command
import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import CheckConstraint, MetaData, insert, inspect
from sqlalchemy.exc import IntegrityError

from mlpq.errors import StoreError
from mlpq.jobs import Engine, Status
from mlpq.settings import read_settings
from mlpq.store import migrate, queries, submission
from mlpq.store.schema import metadata
from mlpq.store.session import Store
from tests.support.installations import EMBEDDED, SERVICES, Site, Sites
from tests.support.job_steps import RESULT, claim, claim_one, finish, result, row, spec, specs, submit, whole_row

ONE, TWO, THREE = (f"{number:08x}-0000-5000-8000-000000000000" for number in (1, 2, 3))


def test_schema_and_migrations_agree(store: Store) -> None:
    with store.read() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
        assert compare_metadata(context, metadata) == []


def test_every_check_constraint_is_in_the_database(store: Store) -> None:
    """Alembic does not compare check constraints."""
    with store.read() as connection:
        for table in metadata.sorted_tables:
            checks = [check for check in table.constraints if isinstance(check, CheckConstraint)]
            expected = {str(check.name) for check in checks}
            assert {check["name"] for check in inspect(connection).get_check_constraints(table.name)} == expected


def alembic_config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(files("mlpq_migrations")))
    return config


def test_required_schema_is_the_latest_migration() -> None:
    assert ScriptDirectory.from_config(alembic_config()).get_heads() == [migrate.SCHEMA]


def test_upgrading_twice_changes_nothing(empty_url: str) -> None:
    store = Store(empty_url)
    assert migrate.current(store) is None
    migrate.upgrade(store)
    (job,) = submit(store, spec())
    migrate.upgrade(store)
    assert migrate.current(store) == migrate.SCHEMA
    assert row(store, job).status == "queued"
    store.close()


@pytest.fixture
def first_schema(empty_url: str) -> Iterator[Store]:
    """A database with the first schema, the finished job ONE, and the queued jobs TWO and THREE."""
    store, config = Store(empty_url), alembic_config()
    with store.write() as connection:
        config.attributes["connection"] = connection
        alembic.command.upgrade(config, "0001")
        then = MetaData()
        then.reflect(connection)

        def add(table: str, /, **values: Any) -> None:
            connection.execute(insert(then.tables[table]).values(values))

        clock = datetime.now(UTC)
        add("experiments", name="lab", created_at=clock)
        ended = {"status": "succeeded", "attempt": 1, "finished_at": clock}
        waiting = {"status": "queued", "attempt": 0}
        for id_, job, state in zip((ONE, TWO, THREE), specs(seeds="0..2"), (ended, waiting, waiting), strict=True):
            add(
                "jobs", id=id_, experiment_id=1, spec=json.loads(job.canonical()), spec_hash=job.hash, repeat=0,
                seed=job.seed, device="auto", priority=0, max_attempts=3, created_at=clock, **state,
            )  # fmt: skip
        add("attempts", job_id=ONE, attempt=1, worker="ann:1:a", device="cpu", started_at=clock, outcome="succeeded")
        add(
            "job_results",
            job_id=ONE,
            attempt=1,
            **{name: value for name, value in asdict(RESULT).items() if name not in ("engine", "arithmetic")},
        )
    yield store
    store.close()


def test_result_of_the_first_schema_has_the_plain_engine(first_schema: Store) -> None:
    migrate.upgrade(first_schema)
    assert migrate.current(first_schema) == migrate.SCHEMA
    found = row(first_schema, ONE)
    assert (found.status, found.result) == (Status.SUCCEEDED, replace(RESULT, engine=Engine.PLAIN, gang_size=1))


def test_jobs_of_the_first_schema_have_torchs_initialisation(first_schema: Store) -> None:
    """Their specs have no such field."""
    migrate.upgrade(first_schema)
    assert "initialisation" not in whole_row(first_schema, ONE)["spec"]
    (other,) = submit(first_schema, spec(initialisation="truncated-normal"))
    assert [row(first_schema, job).spec.initialisation for job in (ONE, TWO, other)] == [
        "torch", "torch", "truncated-normal",
    ]  # fmt: skip
    assert [job.is_new for job in submission.submit_jobs(first_schema, "lab", specs(seeds="0..2"))] == [False] * 3


def test_jobs_queued_in_the_first_schema_run_alone(first_schema: Store) -> None:
    migrate.upgrade(first_schema)
    assert whole_row(first_schema, TWO)["gang_key"] is None
    assert [[claimed.id for claimed in claim(first_schema, limit=8)] for _ in range(3)] == [[TWO], [THREE], []]


def test_result_without_a_known_engine_is_rejected(first_schema: Store) -> None:
    migrate.upgrade(first_schema)
    claimed = claim_one(first_schema)
    for engine in (None, "another"):
        with pytest.raises(IntegrityError, match="engine"):
            finish(first_schema, claimed, engine=engine)
    finish(first_schema, claimed, engine="kernel", arithmetic=1)
    found = result(first_schema, claimed.id)
    assert (found.engine, found.arithmetic) == ("kernel", 1)


def test_upgraded_database_equals_a_new_one(first_schema: Store) -> None:
    migrate.upgrade(first_schema)
    test_schema_and_migrations_agree(first_schema)
    test_every_check_constraint_is_in_the_database(first_schema)


def test_concurrent_upgrades_of_an_empty_database_succeed(
    empty_url: str, sites: Sites, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with sites.open(EMBEDDED, tmp_path_factory.mktemp("site")) as site:
        command = [sys.executable, "-m", "mlpq.cli", "db", "upgrade"]
        environ = site.environ({"MLPQ_DATABASE_URL": empty_url})
        started = [subprocess.Popen(command, env=environ, stderr=subprocess.PIPE, text=True) for _ in range(3)]
        ended = [(process.communicate()[1], process.returncode) for process in started]
    assert ended == [("", 0)] * 3
    store = Store(empty_url)
    assert migrate.current(store) == migrate.SCHEMA
    assert queries.job_records(store) == []
    store.close()


def test_new_sqlite_file_is_created_automatically(tmp_path: pytest.TempPathFactory) -> None:
    settings = read_settings({"MLPQ_HOME": f"{tmp_path}/a/new/folder"})
    assert queries.job_records(migrate.ready_store(settings)) == []


def test_empty_postgresql_is_not_migrated_automatically(sites: Sites, tmp_path_factory: pytest.TempPathFactory) -> None:
    with sites.open(SERVICES, tmp_path_factory.mktemp("site")) as site:
        with site.store.write() as connection:
            connection.exec_driver_sql("DROP VIEW results")
            metadata.drop_all(connection)
            connection.exec_driver_sql("DROP TABLE alembic_version")
        done = site.mlpq("jobs", status=2)
        assert done.err == "mlpq: the database has no mlpq tables yet: run mlpq db upgrade\n"
        assert site.mlpq("db", "current", status=1).out.endswith("run mlpq db upgrade\n")
        with site.store.read() as connection:
            assert inspect(connection).get_table_names() == []
        site.mlpq("db", "upgrade")
        assert site.mlpq("db", "current").out.endswith(f"has schema {migrate.SCHEMA}; mlpq needs {migrate.SCHEMA}\n")
        site.mlpq("jobs")


def set_revision(store: Store, revision: str) -> None:
    with store.write() as connection:
        connection.exec_driver_sql(f"UPDATE alembic_version SET version_num = '{revision}'")


COMMANDS = (
    "submit --dataset digits", "submit --dataset digits --wait", "jobs", "results", "watch", "show 0", "logs 0",
    "export 0 --script", "cancel 0", "retry 0", "retry --failed", "verify 0", "compare lab", "report lab -o r.html",
    "plan lab --difference 1", "worker",
)  # fmt: skip


def test_every_command_rejects_an_old_schema(sites: Sites, tmp_path_factory: pytest.TempPathFactory) -> None:
    with sites.open(SERVICES, tmp_path_factory.mktemp("site")) as site:
        set_revision(site.store, "0000")
        for command in COMMANDS:
            assert_rejected(site, command.split(), "mlpq db upgrade")


def test_commands_reject_a_newer_schema(site: Site) -> None:
    set_revision(site.store, "9999")
    for command in (["jobs"], ["db", "upgrade"]):
        assert_rejected(site, command, "install a newer mlpq")


def assert_rejected(site: Site, command: list[str], advice: str) -> None:
    before = site.row_counts()
    done = site.mlpq(*command, status=2)
    assert advice in done.err
    assert len(done.err.splitlines()) == 1, done.err
    assert site.row_counts() == before


@pytest.mark.parametrize(("revision", "advice"), [("0000", "mlpq db upgrade"), ("9999", "install a newer mlpq")])
def test_wrong_schema_is_an_error_on_both_databases(empty_url: str, revision: str, advice: str) -> None:
    store = Store(empty_url)
    migrate.upgrade(store)
    set_revision(store, revision)
    with pytest.raises(StoreError, match=f"has schema {revision}.*{advice}"):
        migrate.ready_store(read_settings({"MLPQ_DATABASE_URL": empty_url}))
    store.close()
