"""The schema: migrations make what the models say, on both databases, and a wrong one is told with what to type."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
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
from mlpq.settings import read_settings
from mlpq.store import migrate, queries, submission
from mlpq.store.schema import metadata
from mlpq.store.session import Store
from tests.support.installations import EMBEDDED, SERVICES, Site, Sites
from tests.support.job_steps import RESULT, claim, claim_one, file, finish, row, spec, specs, whole_row


def test_models_and_migrations_do_not_drift(store: Store) -> None:
    with store.read() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
        assert compare_metadata(context, metadata) == []


def test_every_check_of_the_models_is_in_the_database(store: Store) -> None:
    """Alembic does not compare these."""
    with store.read() as connection:
        for table in metadata.sorted_tables:
            checks = [check for check in table.constraints if isinstance(check, CheckConstraint)]
            expected = {str(check.name) for check in checks}
            assert {check["name"] for check in inspect(connection).get_check_constraints(table.name)} == expected


def alembic_config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(files("mlpq_migrations")))
    return config


def test_the_schema_that_the_program_wants_is_the_newest_migration() -> None:
    assert ScriptDirectory.from_config(alembic_config()).get_heads() == [migrate.SCHEMA]


def test_upgrading_twice_is_harmless(empty_url: str) -> None:
    store = Store(empty_url)
    assert migrate.current(store) is None
    migrate.upgrade(store)
    (job,) = file(store, spec())
    migrate.upgrade(store)
    assert migrate.current(store) == migrate.SCHEMA
    assert row(store, job)["status"] == "queued"
    store.close()


@pytest.fixture
def first_schema(empty_url: str) -> Iterator[Store]:
    """A database as the first version made it, with a finished job, "one", and two queued ones, "two" and "three"."""
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
        for id_, job, state in zip(
            ("one", "two", "three"), specs(seeds="0..2"), (ended, waiting, waiting), strict=True
        ):
            add(
                "jobs", id=id_, experiment_id=1, spec=json.loads(job.canonical()), spec_hash=job.hash, repeat=0,
                seed=job.seed, device="auto", priority=0, max_attempts=3, created_at=clock, **state,
            )  # fmt: skip
        add("attempts", job_id="one", attempt=1, worker="ann", device="cpu", started_at=clock, outcome="succeeded")
        add("job_results", job_id="one", attempt=1, **{name: RESULT[name] for name in RESULT if name != "engine"})
    yield store
    store.close()


def test_a_result_of_the_first_schema_is_kept_and_was_trained_on_the_plain_engine(first_schema: Store) -> None:
    migrate.upgrade(first_schema)
    assert migrate.current(first_schema) == migrate.SCHEMA
    found = row(first_schema, "one")
    assert {name: found[name] for name in RESULT} == RESULT
    assert (found["status"], found["engine"], found["gang_size"]) == ("succeeded", "plain", 1)


def test_jobs_of_the_first_schema_have_torchs_initialisation_and_are_found_again(first_schema: Store) -> None:
    """Their specs do not speak of it."""
    migrate.upgrade(first_schema)
    assert "initialisation" not in whole_row(first_schema, "one")["spec"]
    (other,) = file(first_schema, spec(initialisation="truncated-normal"))
    assert [row(first_schema, job)["initialisation"] for job in ("one", "two", other)] == [
        "torch", "torch", "truncated-normal",
    ]  # fmt: skip
    assert [filed.is_new for filed in submission.file_jobs(first_schema, "lab", specs(seeds="0..2"))] == [False] * 3


def test_jobs_queued_in_the_first_schema_run_alone(first_schema: Store) -> None:
    migrate.upgrade(first_schema)
    assert whole_row(first_schema, "two")["gang_key"] is None
    assert [[held.id for held in claim(first_schema, limit=8)] for _ in range(3)] == [["two"], ["three"], []]


def test_a_result_must_say_which_engine_trained_it(first_schema: Store) -> None:
    migrate.upgrade(first_schema)
    held = claim_one(first_schema)
    for engine in (None, "another"):
        with pytest.raises(IntegrityError):
            finish(first_schema, held, engine=engine)
    finish(first_schema, held, engine="gang")
    assert row(first_schema, held.id)["engine"] == "gang"


def test_an_upgraded_database_is_as_a_new_one(first_schema: Store) -> None:
    migrate.upgrade(first_schema)
    test_models_and_migrations_do_not_drift(first_schema)
    test_every_check_of_the_models_is_in_the_database(first_schema)


def test_processes_that_upgrade_one_empty_database_at_once_all_succeed(
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
    assert queries.job_rows(store) == []
    store.close()


def test_a_new_sqlite_file_is_made_ready_without_asking(tmp_path: pytest.TempPathFactory) -> None:
    settings = read_settings({"MLPQ_HOME": f"{tmp_path}/a/new/folder"})
    assert queries.job_rows(migrate.ready_store(settings)) == []


def test_an_empty_postgresql_is_not_touched_unasked(sites: Sites, tmp_path_factory: pytest.TempPathFactory) -> None:
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


def test_every_command_refuses_a_stale_schema_and_says_what_to_type(
    sites: Sites, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with sites.open(SERVICES, tmp_path_factory.mktemp("site")) as site:
        set_revision(site.store, "0000")
        for command in COMMANDS:
            assert_refused(site, command.split(), "mlpq db upgrade")


def test_commands_refuse_a_newer_schema_and_say_what_to_do(site: Site) -> None:
    set_revision(site.store, "9999")
    for command in (["jobs"], ["db", "upgrade"]):
        assert_refused(site, command, "install a newer mlpq")


def assert_refused(site: Site, command: list[str], advice: str) -> None:
    before = site.row_counts()
    done = site.mlpq(*command, status=2)
    assert advice in done.err
    assert len(done.err.splitlines()) == 1, done.err
    assert site.row_counts() == before


@pytest.mark.parametrize(("revision", "advice"), [("0000", "mlpq db upgrade"), ("9999", "install a newer mlpq")])
def test_another_schema_is_told_on_both_databases(empty_url: str, revision: str, advice: str) -> None:
    store = Store(empty_url)
    migrate.upgrade(store)
    set_revision(store, revision)
    with pytest.raises(StoreError, match=f"has schema {revision}.*{advice}"):
        migrate.ready_store(read_settings({"MLPQ_DATABASE_URL": empty_url}))
    store.close()
