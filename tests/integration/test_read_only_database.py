"""Reading needs no permission to write: a SQLite file in a read-only folder, as in an archive or of a colleague."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from mlpq.store.session import Store
from tests.support.installations import ROOT, Site
from tests.support.job_steps import claim_one, finish, spec, submit

PATHS = [str(ROOT / "service"), str(ROOT / "migrations")]
COMMANDS = (
    "results", "jobs", "show {job}", "logs {job}", "compare lab", "export {job} --script", "workers",
    "sql 'SELECT count(*) FROM results'", "db current",
)  # fmt: skip
# Root may write everywhere: without these rights the permissions of files count for root too.
ORDINARY = ["setpriv", "--bounding-set", "-dac_override,-dac_read_search"] if os.geteuid() == 0 else []


def run(code: str, home: Path) -> subprocess.CompletedProcess[str]:
    """Run Python code as a user who may write in folders only by their permissions."""
    environ = {**os.environ, "MLPQ_HOME": str(home)}
    return subprocess.run([*ORDINARY, sys.executable, "-c", code], env=environ, capture_output=True, text=True)


@pytest.fixture
def archive(alone: Site, tmp_path: Path) -> Iterator[Path]:
    """A folder with a database of one result, its log merged into it."""
    store = Store(alone.store.url)
    submit(store, spec())
    finish(store, claim_one(store))
    store.close()
    alone.store.close()
    folder = tmp_path / "archive"
    folder.mkdir()
    shutil.copy(alone.store.url.partition(":///")[2], folder / "mlpq.db")
    yield folder
    folder.chmod(0o755)


def commands(archive: Path) -> str:
    with closing(sqlite3.connect(archive / "mlpq.db")) as connection:
        ((job,),) = connection.execute("SELECT id FROM jobs").fetchall()
    lines = ["import shlex, sys", f"sys.path[:0] = {PATHS!r}"]
    lines += ["from mlpq.cli import cli", "def run(line):", "    try: cli(shlex.split(line))"]
    lines += ["    except SystemExit as end: assert not end.code, (line, end.code)"]
    return "\n".join([*lines, *(f"run({line.format(job=job)!r})" for line in COMMANDS)])


def test_read_only_folder_can_be_read(archive: Path) -> None:
    code, file = commands(archive), archive / "mlpq.db"
    assert [path.name for path in archive.iterdir()] == ["mlpq.db"]
    file.chmod(0o444)
    archive.chmod(0o555)
    done = run(code, archive)
    assert (done.returncode, done.stderr) == (0, "")
    assert [path.name for path in archive.iterdir()] == ["mlpq.db"]


def test_read_only_file_in_a_folder_of_ones_own_can_be_read(archive: Path) -> None:
    code = commands(archive)
    (archive / "mlpq.db").chmod(0o444)
    done = run(code, archive)
    assert (done.returncode, done.stderr) == (0, "")


def test_log_that_cannot_be_read_is_reported(archive: Path) -> None:
    """Without it the latest changes would be missing, without a word."""
    code = commands(archive)
    (archive / "mlpq.db-wal").write_bytes(b"x" * 5000)
    archive.chmod(0o555)
    done = run(code, archive)
    assert done.stderr.startswith("mlpq: the latest changes of "), done.stderr


def test_reader_sees_what_is_written_later(archive: Path) -> None:
    """A dashboard stays open on a folder in which somebody else starts to write."""
    code = f"""
import sys
sys.path[:0] = {PATHS!r}
from mlpq.store.change_tokens import ChangeTokens
from mlpq.store.queries import job_records
from mlpq.store.session import Store
store = Store("sqlite:///{archive / "mlpq.db"}")
tokens = ChangeTokens(store)
for line in sys.stdin:
    print(len(job_records(store)), tokens.current().split()[0], flush=True)
"""
    archive.chmod(0o555)
    environ = {**os.environ, "MLPQ_HOME": str(archive)}
    command = [*ORDINARY, sys.executable, "-c", code]
    with subprocess.Popen(command, env=environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as reader:
        assert reader.stdin is not None
        assert reader.stdout is not None

        def ask() -> list[str]:
            assert reader.stdin is not None
            assert reader.stdout is not None
            print("now", file=reader.stdin, flush=True)
            return reader.stdout.readline().split()

        first = ask()
        assert first == ask()
        archive.chmod(0o755)
        store = Store(f"sqlite:///{archive / 'mlpq.db'}")
        submit(store, spec(seeds=2))
        store.close()
        archive.chmod(0o555)
        second = ask()
    assert (first[0], second[0]) == ("1", "2")
    assert first[1] != second[1]
