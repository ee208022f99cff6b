"""Output that can't be written, or not in this locale: one line, a status other than 0, and no traceback."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import psycopg
import pytest

from mlpq.store import queries
from tests.support import forked_commands
from tests.support.installations import EMBEDDED, Site, Sites
from tests.support.job_steps import claim_one, finish, specs, submit
from tests.support.services import Postgres

FULL = "mlpq: can't write to standard output, which is incomplete: the disk is full\n"


@pytest.fixture(scope="module")
def filled(sites: Sites, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A site with the results of an experiment `lab` of two arms with two seeds."""
    with sites.open(EMBEDDED, tmp_path_factory.mktemp("output")) as opened:
        arms = [*specs(seeds="0,1"), *specs(optimizer="adam", seeds="0,1")]
        submit(opened.store, *arms, experiment="lab")
        for _ in arms:
            finish(opened.store, claim_one(opened.store))
        yield opened


def command_of(site: Site, command: str) -> list[str]:
    job = queries.ids_of(site.store, "lab")[0]
    return ["-m", "mlpq.cli", *(job if part == "JOB" else part for part in command.split())]


def run(
    site: Site, command: str, stdout: int | None = subprocess.PIPE, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a command in a new Python."""
    return subprocess.run(
        [sys.executable, *command_of(site, command)], stdout=stdout, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL,
        text=True, errors="replace", timeout=120, cwd=site.folder, env=site.environ(env),
    )  # fmt: skip


def run_to(site: Site, command: str, out: Path, err: Path) -> int:
    """Run a command in a forked process, which is faster, with its output to existing files; its exit status."""
    files = [Path(os.devnull), out, err]
    return forked_commands.Forked(command_of(site, command), files, site.folder, site.environ()).wait(120)


# Every command that prints, in each of its formats.
PRINTING = (
    "--help", "--version", "submit --help", "jobs", "jobs --format json", "results", "results --format json",
    "results --format csv", "results --format md", "results --format latex", "experiments", "show JOB",
    "show JOB --format json", "logs JOB", "compare lab",
    "compare lab --format json", "compare lab --format md", "plan lab --difference 1 --format json",
    "export JOB --script", "export JOB --script -o -", "workers", "workers --format json", "data list", "db current",
    "doctor", "watch lab", "submit --dataset digits --dry-run", "submit --experiment lab --dataset digits --epochs 2",
    *(f"sql VALUES(1),(2) --format {format_}" for format_ in ("table", "json", "csv", "md", "latex")),
)  # fmt: skip
WRITING = (
    "export JOB --script -o {}", "report lab -o {}", "sql VALUES(1) -o {}", "sql VALUES(1) --format parquet -o {}",
    "sql VALUES(1) --format csv -o {}", "compare lab --plot {}",
)  # fmt: skip


@pytest.mark.parametrize("command", PRINTING)
def test_full_disk_is_one_line_and_a_status(filled: Site, command: str, tmp_path: Path) -> None:
    err = tmp_path / "err"
    assert run_to(filled, command, Path("/dev/full"), err) == 2
    assert err.read_text() == FULL


@pytest.mark.parametrize("command", ["--help", "jobs", "sql VALUES(1) --format csv", "export JOB --script"])
def test_closed_output_is_one_line_and_a_status(filled: Site, command: str) -> None:
    closing = ["/bin/sh", "-c", 'exec "$@" >&-', "sh", sys.executable, *command_of(filled, command)]
    done = subprocess.run(closing, stderr=subprocess.PIPE, text=True, cwd=filled.folder, env=filled.environ())
    assert (done.returncode, done.stderr) == (2, FULL.replace("the disk is full", "it is closed"))


@pytest.mark.parametrize("command", ["jobs", "results --format csv", "show JOB", "sql VALUES(1)"])
def test_output_whose_reader_has_exited_is_status_141(filled: Site, command: str) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    done = run(filled, command, writing)
    os.close(writing)
    assert (done.returncode, done.stderr) == (141, "")


@pytest.mark.parametrize("command", WRITING)
def test_file_on_a_full_disk_is_one_line_and_a_status(filled: Site, command: str, tmp_path: Path) -> None:
    file = tmp_path / "full.svg"
    file.symlink_to("/dev/full")
    done = filled.mlpq(*command_of(filled, command.format(file))[2:], status=2)
    assert (done.out, done.err) == ("", f"mlpq: can't write {file}: the disk is full\n")


@pytest.mark.parametrize(("command", "status"), [("jobs", 0), ("submit --epochs none", 2)])
def test_full_standard_error_changes_no_status(filled: Site, command: str, status: int, tmp_path: Path) -> None:
    assert run_to(filled, command, tmp_path / "out", Path("/dev/full")) == status


@pytest.mark.parametrize(
    ("command", "encoding"),
    [
        ("submit --help", "ascii"), ("compare lab", "iso-8859-1"), ("results", "cp1252"), ("show JOB", "ascii"),
        ("sql SELECT(char(8364))", "iso-8859-1"),
    ],
)  # fmt: skip
def test_locale_that_lacks_characters_prints_others(filled: Site, command: str, encoding: str) -> None:
    done = run(filled, command, env={"PYTHONIOENCODING": encoding, "PYTHONUTF8": "0"})
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr


BAD = os.fsdecode(b"\xff")
NOT_UTF8: tuple[Sequence[str], ...] = (
    ["results", BAD], ["show", BAD], ["cancel", BAD], ["compare", BAD], ["compare", "lab", "--by", BAD],
    ["submit", "--experiment", BAD], ["submit", f"{BAD}.yaml"], ["submit", f"--lr={BAD}"], ["sql", BAD], [BAD],
    ["sql", "VALUES(1)", "-o", f"{BAD}.csv"], ["data", "import", "mnist", BAD], ["submit", f"--{BAD}"],
)  # fmt: skip


@pytest.mark.parametrize("arguments", NOT_UTF8, ids=ascii)
def test_argument_that_is_not_utf8_is_one_line(filled: Site, arguments: Sequence[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "mlpq.cli", *arguments], capture_output=True, text=True, cwd=filled.folder,
        env=filled.environ(),
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("mlpq: The argument '")
    assert "is not UTF-8 text" in done.stderr


@pytest.mark.parametrize("content", [b"\xff", b"lr: \xff\n", '{"lr": "é"}'.encode("utf-16")])
def test_spec_that_is_not_utf8_is_one_line(filled: Site, content: bytes) -> None:
    (filled.folder / "spec.yaml").write_bytes(content)
    for command, given in (("submit spec.yaml", b""), ("submit -", content)):
        done = subprocess.run(
            [sys.executable, *command_of(filled, command)], input=given, capture_output=True, cwd=filled.folder,
            env=filled.environ(),
        )  # fmt: skip
        assert done.returncode == 2
        assert done.stderr.endswith(b"is not text: a spec file is YAML or JSON in UTF-8\n")


@pytest.fixture
def small_disk() -> Iterator[Path]:
    """A file system of one megabyte."""
    folder = tempfile.mkdtemp(prefix="mlpq-disk-")
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder], capture_output=True).returncode:
        pytest.skip("a small disk needs the right to mount, which this user or container lacks")
    yield Path(folder)
    subprocess.run(["umount", "--lazy", folder], check=True)
    os.rmdir(folder)


def fill(disk: Path) -> None:
    with open(disk / "filling", "wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            pass


def test_home_on_a_full_disk_says_so(alone: Site, small_disk: Path) -> None:
    env = {"MLPQ_HOME": str(small_disk / "home")}
    alone.mlpq("submit", "--dataset", "digits", env=env)
    fill(small_disk)
    for command in ("submit --dataset digits --seeds 1..500", "submit --dataset digits --seeds 1..500 --wait"):
        done = alone.mlpq(*command.split(), env=env, status=2)
        assert "disk is full" in done.err
        assert done.err.count("\n") == 1
    for command in ("jobs", "results"):  # reading works unless it needs a new file
        done = alone.mlpq(*command.split(), env=env, status=None)
        assert done.status == 0 or "disk is full" in done.err


def test_new_home_on_a_full_disk_says_so(alone: Site, small_disk: Path) -> None:
    fill(small_disk)
    done = alone.mlpq("submit", "--dataset", "digits", "--wait", env={"MLPQ_HOME": str(small_disk / "home")}, status=2)
    assert "disk is full" in done.err
    assert done.err.count("\n") == 1


@pytest.mark.parametrize("home", ["/proc/nothing", "/dev/null/below"])
def test_home_that_cannot_be_created_is_one_line_with_wait(alone: Site, home: str) -> None:
    done = alone.mlpq("submit", "--dataset", "digits", "--wait", env={"MLPQ_HOME": home}, status=2)
    assert (done.out, done.err.count("\n")) == ("", 1)
    assert "set MLPQ_HOME to" in done.err


def test_wait_where_no_worker_can_run_submits_nothing(alone: Site) -> None:
    blocked = "import importlib.util as u, sys; f = u.find_spec\n"
    blocked += "u.find_spec = lambda name, *more: None if name == 'safetensors' else f(name, *more)\n"
    blocked += "from mlpq.cli import main; main()"
    command = [sys.executable, "-c", blocked, "submit", "--dataset", "digits", "--wait"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=alone.folder, env=alone.environ())
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert "nothing was submitted" in done.stderr
    assert alone.row_counts()["jobs"] == 0


def test_unknown_user_needs_no_home_folder_where_mlpq_home_is_set(tmp_path: Path) -> None:
    program = (
        "import os; os.environ.pop('HOME', None); os.setuid(54321)\n"
        "from mlpq.errors import SettingsError; from mlpq.settings import read_settings\n"
        "print(read_settings({'MLPQ_HOME': '/somewhere'}).home)\n"
        "try: read_settings({})\n"
        "except SettingsError as error: print(error)"
    )
    if os.getuid():
        pytest.skip("only root can become another user")
    preloaded = "import mlpq.settings, platformdirs.unix, pwd\n"
    done = subprocess.run([sys.executable, "-c", preloaded + program], capture_output=True, text=True)
    assert done.stdout == "/somewhere\nthis user has no home folder: set MLPQ_HOME to a folder you own\n", done.stderr


def test_database_in_sql_ascii_keeps_text(postgres: Postgres, alone: Site) -> None:
    name = "in_sql_ascii"
    with psycopg.connect(postgres.url("postgres").replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute(
            f"CREATE DATABASE {name} ENCODING 'SQL_ASCII' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0"
        )
    env = {"MLPQ_DATABASE_URL": postgres.url(name)}
    alone.mlpq("db", "upgrade", env=env)
    alone.mlpq("submit", "--dataset", "digits", "--experiment", "größe ±", env=env)
    assert [job["experiment"] for job in alone.mlpq("jobs", "--format", "json", env=env).json] == ["größe ±"]
    assert "größe ±" in alone.mlpq("jobs", env=env).out
    assert alone.mlpq("sql", "SELECT experiment FROM results", "--format", "json", env=env).json
    postgres.drop(name)
