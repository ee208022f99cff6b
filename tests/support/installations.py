"""Sites: installations of mlpq with settings, a database, the real command and real workers."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select

from mlpq.jobs import GANG, Outcome
from mlpq.records import JobRecord, JobResult
from mlpq.store import queries, worker_queries
from mlpq.store.schema import metadata
from mlpq.store.session import Store
from tests.support import forked_commands
from tests.support.services import Postgres, Redis, wait_until

EMBEDDED, SERVICES = "embedded", "services"
MLPQ = ("-m", "mlpq.cli")
MLPQ_WORKER = (*MLPQ, "worker")
WORKER = ("-m", "mlpq_workers.worker", "--gang", str(GANG))  # what `mlpq worker` becomes
ROOT = Path(__file__).resolve().parents[2]
SOURCE_ROOTS = ("service", "workers", "migrations", ".")
COMMAND_SECONDS = 120
STOP_SECONDS = 45

Worker = subprocess.Popen[bytes] | forked_commands.Forked


@dataclass(frozen=True)
class Done:
    """A finished command."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@dataclass(frozen=True)
class Process:
    """A running process."""

    pid: int
    parent: int
    command: str


@dataclass
class Site:
    """`env` has only MLPQ_* variables: MLPQ_HOME in the embedded mode, and the two URLs with services."""

    kind: str
    folder: Path
    store: Store
    env: dict[str, str] = field(default_factory=dict)
    started: int = 0

    def mlpq(
        self,
        *arguments: object,
        status: int | None = 0,
        input: str = "",
        env: Mapping[str, str] | None = None,
        timeout: float = COMMAND_SECONDS,
    ) -> Done:
        """Run the command `mlpq`; its exit status must be `status` unless that is None."""
        done = Done(*forked_commands.run([*MLPQ, *map(str, arguments)], input, self.folder, self.environ(env), timeout))
        if status is not None and done.status != status:
            command = " ".join(map(str, arguments))
            pytest.fail(f"mlpq {command} exited {done.status}, not {status}\n{done.out}\n{done.err}")
        return done

    def environ(self, more: Mapping[str, str] | None = None) -> dict[str, str]:
        """The environment of a command, without the caller's MLPQ_* variables."""
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("MLPQ_")}
        paths = os.pathsep.join(str(ROOT / name) for name in SOURCE_ROOTS)
        # One thread, since tests run in parallel.
        return {**inherited, "PYTHONPATH": paths, "MLPQ_THREADS": "1", **self.env, **(more or {})}

    @contextmanager
    def worker(
        self,
        *arguments: str,
        launcher: Sequence[str] = WORKER,
        forked: bool = True,
        env: Mapping[str, str] | None = None,
        await_life: bool = True,
    ) -> Iterator[Worker]:
        """A worker that is alive in the block unless `await_life` is False, and is stopped after it.

        It is forked from a prepared process, which is faster, or started in a new Python.
        """
        self.started += 1
        file = self.folder / f"worker-{self.started}.log"
        start = self._fork if forked else self._launch
        process = start([*launcher, *arguments], file, self.environ(env))
        try:
            if await_life:
                self._await_life(process, file)
            yield process
        finally:
            children = [child.pid for child in self.training_processes() if child.parent == process.pid]
            stop(process)
            print(f"--- {file.name}\n{file.read_text()}")
            wait_until("the worker's training process is gone", lambda: not self._those_left(children))

    @contextmanager
    def dashboard(self, *arguments: str) -> Iterator[str]:
        """The URL of a dashboard on a free port; on SIGINT it must exit with status 0 and print nothing."""
        command = [sys.executable, "-m", "mlpq.cli", "dashboard", "--port", "0", *arguments]
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=self.folder, env=self.environ()
        )
        assert process.stdout is not None
        said = process.stdout.readline()
        try:
            assert "http://127.0.0.1:" in said, said or process.communicate()[1]
            yield said.split()[2]
        finally:
            process.send_signal(signal.SIGINT)
            ended = process.communicate(timeout=STOP_SECONDS)
        assert (process.returncode, ended) == (0, ("", ""))

    def _fork(self, command: Sequence[str], file: Path, environ: Mapping[str, str]) -> Worker:
        return forked_commands.Forked(command, [Path(os.devnull), file, file], self.folder, environ)

    def _launch(self, command: Sequence[str], file: Path, environ: Mapping[str, str]) -> Worker:
        with file.open("wb") as log:
            return subprocess.Popen([sys.executable, *command], stdout=log, stderr=log, cwd=self.folder, env=environ)

    def _await_life(self, process: Worker, file: Path) -> None:
        wait_until("the worker is alive", lambda: process.poll() is not None or self._is_alive(process), 90)
        assert process.poll() is None, f"the worker ended: {file.read_text()}"

    def training_processes(self) -> list[Process]:
        """The training processes of this site's workers: their command names the data folder."""
        mark = self.env.get("MLPQ_DATA_DIR", str(Path(self.env["MLPQ_HOME"]) / "data"))
        return [found for found in processes() if "mlpq_workers.trainer " in found.command and mark in found.command]

    def row_counts(self) -> dict[str, int]:
        """The number of rows per table, without workers, which change by themselves."""
        with self.store.read() as connection:
            return {
                table.name: connection.execute(select(func.count()).select_from(table)).scalar_one()
                for table in metadata.sorted_tables
                if table.name != "workers"
            }

    def submit(self, *arguments: object, env: Mapping[str, str] | None = None) -> list[dict[str, Any]]:
        """Submit; the JSON of the jobs."""
        rows = self.mlpq("submit", *arguments, "--format", "json", env=env).json
        assert isinstance(rows, list)
        return rows

    def outcomes(self, job: str) -> list[tuple[int, Outcome | None]]:
        """The number and the outcome of each attempt, None while it runs."""
        return [(attempt.attempt, attempt.outcome) for attempt in queries.attempts_of(self.store, job)]

    def row(self, job: str) -> JobRecord:
        """The job as the store returns it."""
        (found,) = queries.jobs_by_id(self.store, [job])
        return found

    def result(self, job: str) -> JobResult:
        """The result of a job that has one."""
        found = self.row(job).result
        assert found is not None
        return found

    def wait_for(self, job: str, *statuses: str, seconds: float = 60) -> JobRecord:
        """The job once it has one of these statuses."""
        wait_until(f"job {job} is {statuses}", lambda: self.row(job).status in statuses, seconds)
        return self.row(job)

    def _is_alive(self, process: Worker) -> bool:
        return any(f":{process.pid}:" in worker.name for worker in worker_queries.live_workers(self.store))

    def _those_left(self, pids: list[int]) -> list[Process]:
        return [child for child in self.training_processes() if child.pid in pids]


class Sites:
    """Creates and removes sites, each with its own migrated database."""

    def __init__(self, request: pytest.FixtureRequest) -> None:
        self._fixture = request.getfixturevalue

    @contextmanager
    def open(self, kind: str, folder: Path, migrated: bool = True) -> Iterator[Site]:
        """A site with a migrated database, or with an empty one."""
        with self._embedded(folder, migrated) if kind == EMBEDDED else self._services(folder, migrated) as site:
            yield site
            wait_until("no training process is left", lambda: not site.training_processes())

    @contextmanager
    def _embedded(self, folder: Path, migrated: bool) -> Iterator[Site]:
        home = folder / "home"
        home.mkdir()
        if migrated:
            shutil.copy(self._fixture("migrated_sqlite"), home / "mlpq.db")
        store = Store(f"sqlite:///{home / 'mlpq.db'}")
        yield Site(EMBEDDED, folder, store, {"MLPQ_HOME": str(home)})
        store.close()

    @contextmanager
    def _services(self, folder: Path, migrated: bool) -> Iterator[Site]:
        postgres: Postgres = self._fixture("postgres")
        redis_server: Redis = self._fixture("redis_server")
        name = postgres.create(self._fixture("migrated_postgres")) if migrated else postgres.create()
        store = Store(postgres.url(name))
        env = {
            "MLPQ_HOME": str(folder / "home"),
            "MLPQ_DATABASE_URL": store.url,
            "MLPQ_BROKER_URL": redis_server.empty_url(),
        }
        yield Site(SERVICES, folder, store, env)
        store.close()
        postgres.drop(name)


def stop(process: Worker) -> None:
    """Stop a process with SIGTERM; fails where it does not exit in time."""
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        pytest.fail(f"the process did not end within {STOP_SECONDS} s of SIGTERM")


def processes() -> list[Process]:
    """All running processes, from /proc where it exists, because a minimal Debian has no ps."""
    if Path("/proc/self/stat").exists():
        return [found for found in map(_from_proc, Path("/proc").glob("[0-9]*")) if found]
    listing = subprocess.run(["ps", "-A", "-ww", "-o", "pid=,ppid=,args="], capture_output=True, text=True, check=True)
    lines = [line.split(maxsplit=2) for line in listing.stdout.splitlines()]
    return [Process(int(pid), int(parent), command) for pid, parent, command in lines]


def _from_proc(folder: Path) -> Process | None:
    try:
        command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        parent = (folder / "stat").read_text().rpartition(")")[2].split()[1]
    except (FileNotFoundError, ProcessLookupError):
        return None
    return Process(int(folder.name), int(parent), command)
