"""Rows that no program of mlpq writes: every reader shows the others."""

from __future__ import annotations

import ast
import json
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import text, update
from starlette.testclient import TestClient

from mlpq.cli import cli
from mlpq.records import JobRecord
from mlpq.report.script_export import script
from mlpq.store import claiming, execution, queries
from mlpq.store import verifications as verification_store
from mlpq.store.schema import (
    attempts,
    environments,
    epochs,
    experiments,
    job_results,
    jobs,
    verifications,
    workers,
)
from mlpq.store.session import Store, now
from mlpq.verification.verify import audit_results
from mlpq.verification_records import Grade, Verification
from mlpq.worker_records import WorkerCapabilities
from tests.support.dashboard_pages import browser
from tests.support.job_steps import FACTS, claim_one, fail, finish, spec, specs, submit, whole_row
from tests.support.odd_rows import ROWS, SKIPPED, WORKER, disable_checks, keys, set_value, values_of
from tests.support.result_rows import job_record
from tests.support.services import Postgres


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


def revive_workers(store: Store) -> None:
    """The database may have been filled minutes ago."""
    with store.write() as connection:
        connection.execute(update(workers).values(beat_at=now()))


@pytest.fixture(params=["sqlite", "postgresql"])
def unchecked(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    """A copy of the database that `fill` made."""
    if request.param == "sqlite":
        store = Store(f"sqlite:///{shutil.copy(request.getfixturevalue('filled_sqlite'), tmp_path)}")
        revive_workers(store)
        yield store
        store.close()
        return
    postgres: Postgres = request.getfixturevalue("postgres")
    name = postgres.create(request.getfixturevalue("filled_postgres"))
    store = Store(postgres.url(name))
    revive_workers(store)
    yield store
    store.close()
    postgres.drop(name)


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
