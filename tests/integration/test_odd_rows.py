"""Rows that no program of mlpq writes: one of them fails alone in a claim, and every reader shows the others."""

from __future__ import annotations

import ast
import json
import os
import shutil
import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from starlette.testclient import TestClient

from mlpq.cli import cli
from mlpq.jobs import Status
from mlpq.records import JobRecord, UnreadableJob
from mlpq.report.script_export import script
from mlpq.store import claiming, execution, queries, worker_queries
from mlpq.store import verifications as verification_store
from mlpq.store.schema import (
    attempts,
    environments,
    epochs,
    experiments,
    job_results,
    jobs,
    metadata,
    verifications,
    workers,
)
from mlpq.store.session import Store
from mlpq.verification.verify import audit_results
from mlpq.verification_records import Grade, Verification
from mlpq.worker_records import WorkerCapabilities
from tests.support.dashboard_pages import browser
from tests.support.job_steps import FACTS, child_of, claim_one, fail, finish, spec, specs, submit, whole_row
from tests.support.result_rows import job_record
from tests.support.services import Postgres

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


def fill(url: str) -> None:
    """Without checks: results of two arms with an epoch, an environment and a verification each, running jobs, live
    workers, and other experiments with a job each.
    """
    store = Store(url)
    disable_checks(store)
    for number in range(ROWS):
        execution.worker_heartbeat(store, f"{WORKER}{number}", WorkerCapabilities("cpu"))
    submit(store, *specs(optimizer=["sgd", "adam"], seeds=f"0..{ROWS // 2 - 1}", validation=0.1))
    for number in range(ROWS - 2):
        (job,) = claiming.claim(store, WORKER, WorkerCapabilities("cpu"), {**FACTS, "number": number})
        if number < ROWS - 4:
            finish(store, job, validation_correct=100, validation_total=130, validation_loss=0.5)
            found = Verification(job.id, None, Grade.SAME_BITS, "", (), (), (), ())
            verification_store.record(store, [found])
    for number in range(ROWS):
        submit(store, spec(), experiment=f"other {number}")
    with store.write() as connection:
        connection.execute(text("DELETE FROM epochs WHERE epoch > 1"))
    store.close()


@pytest.fixture(scope="module")
def filled_sqlite(migrated_sqlite: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = Path(shutil.copy(migrated_sqlite, tmp_path_factory.mktemp("filled")))
    fill(f"sqlite:///{file}")
    return file


@pytest.fixture(scope="module")
def filled_postgres(postgres: Postgres, migrated_postgres: str) -> str:
    name = postgres.create(migrated_postgres)
    fill(postgres.url(name))
    return name


@pytest.fixture(params=["sqlite", "postgresql"])
def unchecked(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    """A copy of the database that `fill` made."""
    if request.param == "sqlite":
        store = Store(f"sqlite:///{shutil.copy(request.getfixturevalue('filled_sqlite'), tmp_path)}")
        yield store
        store.close()
        return
    postgres: Postgres = request.getfixturevalue("postgres")
    name = postgres.create(request.getfixturevalue("filled_postgres"))
    store = Store(postgres.url(name))
    yield store
    store.close()
    postgres.drop(name)


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


CHECKED = {
    table: [column for column in table.c if column.name not in SKIPPED]
    for table in (jobs, attempts, job_results, workers, epochs, environments, verifications, experiments)
}
COLUMNS = [
    pytest.param(table, pair, id=f"{table.name}.{'+'.join(column.name for column in pair)}")
    for table, columns in CHECKED.items()
    for pair in (columns[at : at + 2] for at in range(0, len(columns), 2))
]
COMMANDS = (
    ["jobs"], ["jobs", "--format", "json"], ["results"], ["results", "--format", "csv"], ["results", "--format", "md"],
    ["results", "lab", "--format", "json"], ["compare", "lab"], ["compare", "lab", "--format", "json"],
    ["workers"], ["workers", "--format", "json"], ["sql", "SELECT * FROM results"],
    ["sql", "SELECT * FROM jobs", "--format", "json"], ["sql", "SELECT * FROM workers", "--format", "csv"],
    ["sql", "SELECT * FROM attempts"], ["plan", "lab", "--difference", "1"],
)  # fmt: skip
PAGES = ("/", "/experiments/lab", "/workers", "/metrics", "/healthz")


class Readers:
    """Every command and page that reads, for one database."""

    def __init__(self, store: Store, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        from mlpq import settings

        monkeypatch.setenv("MLPQ_DATABASE_URL", store.url)
        settings.settings.cache_clear()
        self._store, self._capsys, self._client = store, capsys, browser(store)
        self._ids = [job.id for job in queries.job_records(store)]

    def check(self, what: str, rows: int) -> None:
        """Nothing but messages for people: no traceback, and valid JSON. Of the first `rows` jobs each is shown, in one
        of the ways to show a job."""
        for command in COMMANDS:
            self._run(what, command)
        for page in PAGES:
            self._get(what, page)
        for number, job in enumerate(self._ids[:rows]):
            forms = (["show", job], ["show", job, "--format", "json"], ["logs", job], ["export", job, "--script"])
            if number % 5 < len(forms):
                self._run(what, forms[number % 5])
            else:
                self._get(what, f"/jobs/{job}")

    def _run(self, what: str, command: list[str]) -> None:
        with pytest.raises(SystemExit) as ended:
            cli(command)
        out, err = self._capsys.readouterr()
        assert ended.value.code == 0 or (ended.value.code == 2 and len(err.splitlines()) == 1), (what, command, err)
        assert not any(character in out + err for character in "\x1b\x07\x9b\u202e\r"), (what, command)
        if command[-1] == "json" and ended.value.code == 0:
            json.loads(out, parse_constant=lambda name: pytest.fail(f"{name} in JSON: {what}"))

    def _get(self, what: str, page: str) -> None:
        client: TestClient = self._client
        answer = client.get(page)
        assert answer.status_code in (200, 404), (what, page)
        assert not any(character in answer.text for character in "\x1b\x07\x9b\u202e"), (what, page)


@pytest.mark.parametrize(("table", "columns"), COLUMNS)
def test_readers_survive_odd_values(
    unchecked: Store, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], table: Any, columns: Any
) -> None:
    """Each odd value of the columns is in a row of its own."""
    readers, rows = Readers(unchecked, monkeypatch, capsys), keys(unchecked, table)
    values = [(column.name, value) for column in columns for value in values_of(column, unchecked.is_sqlite)]
    assert len(values) < len(rows)
    for key, (column, value) in zip(rows, values, strict=False):
        set_value(unchecked, table, key, column, value)
    readers.check(f"{table.name}: {', '.join(column.name for column in columns)}", len(values))


@pytest.mark.parametrize("document", SPECS)
def test_unreadable_spec_fails_alone_with_its_reason(store: Store, document: str) -> None:
    """Whatever JSON it is, or even none: the job behind it runs."""
    disable_checks(store)
    bad, good = submit(store, spec(seeds=1), spec(seeds=2))
    is_stored = set_value(store, jobs, 1, "spec", f"'{document}'")
    assert set_value(store, jobs, 1, "priority", "9")
    claimed = [each.id for _ in range(3) for each in claiming.claim(store, WORKER, WorkerCapabilities("cpu"), FACTS)]
    if not is_stored:
        assert claimed == [bad, good]
        return  # PostgreSQL refuses to store it
    assert claimed == [good]
    (found,) = queries.listed_by_id(store, [bad])
    assert isinstance(found, UnreadableJob)
    assert (found.status, found.error) == (Status.FAILED, f"this worker's mlpq can't read the job: {found.reason}")
    (attempt,) = queries.attempts_of(store, bad)
    assert attempt.error == found.error
    assert queries.retryable(store, None) == []


UNCLAIMED = {*SKIPPED, "status", "lease_until", "finished_at", "experiment_id"}  # a queued row has them as they are


@pytest.mark.parametrize("column", [pytest.param(each, id=each.name) for each in jobs.c if each.name not in UNCLAIMED])
def test_worker_goes_on_after_odd_values(store: Store, column: Any) -> None:
    """Whatever a queued row of high priority holds, the jobs behind it are claimed, and leases are taken back."""
    disable_checks(store)
    capabilities = WorkerCapabilities("cpu")
    for value in values_of(column, store.is_sqlite):
        experiment = uuid.uuid4().hex
        with store.write() as connection:
            connection.execute(text("DELETE FROM epochs"))
            for table in ("job_results", "attempts", "jobs"):
                connection.execute(text(f"DELETE FROM {table}"))
        _, good = submit(store, spec(seeds=1), spec(seeds=2), experiment=experiment)
        (first, _) = keys(store, jobs)
        set_value(store, jobs, first, "priority", "9")
        set_value(store, jobs, first, column.name, value)
        worker_queries.fair_share(store, "cpu", 8)
        claimed = []
        for _ in range(3):
            setup = claiming.next_setup(store, WORKER, capabilities)
            claimed += [each.id for each in claiming.claim(store, WORKER, capabilities, FACTS, 1, setup)]
        assert good in claimed, value
        with store.write() as connection:
            connection.execute(text("UPDATE jobs SET lease_until = '2000-01-01' WHERE status = 'running'"))
        execution.requeue_expired(store)
        assert not queries.listed_jobs(store, statuses=["running"]), value


def claim_with(store: Store, change: Callable[[Store], None]) -> list[str]:
    disable_checks(store)
    bad, good = submit(store, spec(seeds=1), spec(seeds=2))
    change(store)
    claimed = [each.id for _ in range(3) for each in claiming.claim(store, WORKER, WorkerCapabilities("cpu"), FACTS)]
    assert claimed == [good]
    (found,) = queries.listed_by_id(store, [bad])
    assert found.status is Status.FAILED
    return [str(found.error)]


def test_attempt_that_is_recorded_already_fails_its_job_alone(store: Store) -> None:
    def change(store: Store) -> None:
        with store.write() as connection:
            connection.execute(
                text(
                    "INSERT INTO attempts (job_id, attempt, worker, device, started_at) "
                    "SELECT id, 1, 'x', 'cpu', '2026-01-01' FROM jobs ORDER BY seq LIMIT 1"
                )
            )

    assert claim_with(store, change) == ["this worker's mlpq can't read the job: its attempt 1 is recorded already"]


def test_world_size_below_one_fails_its_job_alone(store: Store) -> None:
    def change(store: Store) -> None:
        with store.write() as connection:
            connection.execute(text("UPDATE jobs SET world_size = 0 WHERE seq = 1"))

    assert claim_with(store, change) == ["this worker's mlpq can't read the job: its world size is less than 1"]


def test_child_of_a_job_with_an_odd_id_fails_with_it(store: Store) -> None:
    disable_checks(store)
    submit(store, spec(), child_of(spec()))
    with store.write() as connection:
        for change in ("parent_id = NULL", "id = 'evil' WHERE seq = 1", "parent_id = 'evil' WHERE seq = 2"):
            connection.execute(text(f"UPDATE jobs SET {change}"))
    assert claiming.claim(store, WORKER, WorkerCapabilities("cpu"), FACTS) == []
    assert queries.count_by_status(store) == {Status.FAILED: 2}


def test_parent_without_a_result_fails_its_child_alone(store: Store) -> None:
    def change(store: Store) -> None:
        with store.write() as connection:
            connection.execute(text("UPDATE jobs SET parent_id = (SELECT max(id) FROM jobs) WHERE seq = 1"))

    (error,) = claim_with(store, change)
    assert error.endswith("the job that it continues from has no result")


def test_long_error_is_bounded_where_it_is_stored_and_shown(store: Store) -> None:
    (job,) = submit(store, spec(), attempts=1)
    fail(store, claim_one(store), error="x" * 30_000_000)
    assert len(whole_row(store, job)["error"]) <= 4000
    assert len(queries.attempts_of(store, job)[0].error or "") <= 4000
    with store.write() as connection:  # as an older version stored it
        for table in ("jobs", "attempts"):
            connection.execute(text(f"UPDATE {table} SET error = :error"), {"error": "y" * 30_000_000})
    found = queries.job_by_id(store, job)
    assert len(found.error or "") <= 4000
    assert len(browser(store).get(f"/jobs/{job}").content) < 100_000


def test_worker_of_any_name_is_listed(
    unchecked: Store, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In a database that is older than the checks."""
    (name, *_) = keys(unchecked, workers)
    assert set_value(unchecked, workers, name, "name", "'evil'")
    Readers(unchecked, monkeypatch, capsys)
    with pytest.raises(SystemExit):
        cli(["workers", "--format", "json"])
    found = {worker["name"]: worker for worker in json.loads(capsys.readouterr().out)}
    assert (found["evil"]["host"], found["evil"]["process"]) == (None, None)
    assert len(found) == ROWS


@pytest.mark.parametrize("make", [os.mkfifo, lambda path: os.symlink("/dev/zero", path)])
def test_audit_of_odd_files_does_not_hang(store: Store, tmp_path: Path, make: Callable[[Path], None]) -> None:
    (job,) = submit(store, spec())
    path = tmp_path / job / "attempt-1.safetensors"
    path.parent.mkdir()
    make(path)
    finish(store, claim_one(store), weights_file=str(path))
    for folder, reason in ((tmp_path, str(path)), (tmp_path / "other", "outside the artifacts folder")):
        (case,) = audit_results(store, [job], folder)
        assert any(reason in line for line in case.audit.unchecked), case.audit


@given(hash_=st.text(min_size=1, max_size=64), device=st.text(max_size=8), version=st.text())
def test_exported_script_has_no_code_from_the_database(hash_: str, device: str, version: str) -> None:
    """The same statements whatever the texts are; a hash that is none is not read at all."""
    record = job_record(spec(), 1, 400)
    assert record.result is not None
    usual = script(record, [], {"threads": 1, "code_version": "1", "torch": "2"})
    facts = {"threads": 1, "code_version": version, "torch": f"{version}\nimport os\n"}
    nasty = replace(record, result=replace(record.result, device=device))
    odd = script(nasty, [], facts | ({} if device == "cpu" else {"threads": hash_}))
    statements = {ast.dump(node) for node in ast.parse(usual).body}
    assert {ast.dump(node) for node in ast.parse(odd).body} <= statements


def test_unreadable_job_is_left_out_of_a_comparison(
    unchecked: Store, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert set_value(unchecked, jobs, 1, "spec", "'[]'")
    Readers(unchecked, monkeypatch, capsys)
    first = queries.listed_jobs(unchecked)[0]
    assert not isinstance(first, JobRecord)
    with pytest.raises(SystemExit):
        cli(["compare", "lab"])
    assert f"1 job left out, unreadable: {first.id[:8]} (spec: Input should be" in capsys.readouterr().out
