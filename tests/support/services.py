"""PostgreSQL and Redis for the tests: the installed programs, started on free loopback ports."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import psycopg
import pytest
import redis

START_SECONDS = 30
STILL_IN_USE = "pre-existing shared memory block"  # by processes of a server that was killed
SUPERUSER = "postgres"


def wait_until(what: str, test: Callable[[], Any], seconds: float = START_SECONDS) -> Any:
    """The first true result of `test`; fails the test with `what` where there is none in time."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        answer = test()
        if answer:
            return answer
        time.sleep(0.1)  # most query the database
    pytest.fail(f"not within {seconds:.0f} s: {what}")


class Postgres:
    """A PostgreSQL server. It refuses to run as root, so there it runs as Debian's user postgres."""

    def __init__(self, durable: bool = False, memory: int | None = None, **options: str) -> None:
        """Without `durable`, which the tests don't need, commits are not flushed and autovacuum is off.

        `memory` limits the private memory of each process, in bytes; `options` are further settings.
        """
        self._launcher = [] if memory is None else ["sh", "-c", f'ulimit -d {memory // 1024}; exec "$@"', "sh"]
        switch = "on" if durable else "off"
        self._options = {"fsync": switch, "autovacuum": switch, "max_connections": "100", **options}
        self._programs = postgres_programs()
        self.as_user: dict[str, Any] = (
            {"user": SUPERUSER, "group": SUPERUSER, "extra_groups": []} if os.getuid() == 0 else {}
        )
        self._folder = Path(tempfile.mkdtemp(prefix="mlpq-postgres-"))
        if self.as_user:
            shutil.chown(self._folder, SUPERUSER, SUPERUSER)
        self._data, self._log = self._folder / "data", self._folder / "log"
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self._databases = 0

    def start(self) -> None:
        """Create the data folder and start."""
        made = subprocess.run(
            [self._programs / "initdb", "-D", self._data, "-U", SUPERUSER, "--auth=trust", "--no-sync", "--no-locale",
             "--encoding=UTF8"],
            cwd=self._folder, capture_output=True, text=True, **self.as_user,
        )  # fmt: skip
        if made.returncode:
            pytest.fail(f"initdb failed: {made.stderr}")
        self.start_again()

    def start_again(self) -> None:
        """Start on the same port, with the existing data; after a crash once its last process has ended."""
        self._launch()
        wait_until("PostgreSQL answers", self._answers)

    def _launch(self) -> None:
        options = {
            "listen_addresses": "127.0.0.1",
            "port": self.port,
            "unix_socket_directories": self._folder,
            **self._options,
        }
        command: list[str | Path] = [*self._launcher, self._programs / "postgres", "-D", self._data]
        for name, value in options.items():
            command += ["-c", f"{name}={value}"]
        self._log.unlink(missing_ok=True)  # processes of a killed server may still write to theirs
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(command, cwd=self._folder, stdout=log, stderr=log, **self.as_user)

    def crash(self) -> None:
        """Kill the server, as kill -9 does: its processes end when they notice, and the next start recovers."""
        assert self._process is not None
        self._process.kill()
        self._process.wait(START_SECONDS)

    def stop(self) -> None:
        """Shut down fast: connections are cut, nothing is lost."""
        if self._process is not None:
            self._process.send_signal(signal.SIGINT)
            self._process.wait(START_SECONDS)
        shutil.rmtree(self._folder)

    def url(self, database: str) -> str:
        return f"postgresql+psycopg://{SUPERUSER}@127.0.0.1:{self.port}/{database}"

    def create(self, template: str = "template1") -> str:
        """A new database, a copy of `template`; its name."""
        self._databases += 1
        name = f"mlpq_{self._databases}"
        self._do(f'CREATE DATABASE {name} TEMPLATE "{template}"')
        return name

    def role_url(self, role: str, database: str) -> str:
        """The URL with which that role connects."""
        return self.url(database).replace(f"{SUPERUSER}@", f"{role}@")

    def psql(
        self, database: str, *arguments: str, env: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run psql as the superuser."""
        command: list[str | Path] = [self._programs / "psql", "--no-psqlrc", *arguments, self._address(database)]
        return subprocess.run(command, env={**os.environ, **(env or {})}, capture_output=True, text=True, check=False)

    def drop(self, database: str) -> None:
        self._do(f"DROP DATABASE {database} WITH (FORCE)")

    def _do(self, statement: str) -> None:
        with psycopg.connect(self._address("postgres"), autocommit=True) as connection:
            connection.execute(statement)

    def _address(self, database: str) -> str:
        return f"host=127.0.0.1 port={self.port} user={SUPERUSER} dbname={database} connect_timeout=5"

    def _answers(self) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            if STILL_IN_USE not in self._log.read_text():
                pytest.fail(f"PostgreSQL ended: {self._log.read_text()}")
            self._launch()
            return False
        try:
            self._do("SELECT 1")
        except psycopg.OperationalError:
            return False
        return True


class PgBouncer:
    """A connection pooler before a PostgreSQL, in transaction mode, with fewer connections to it than clients."""

    def __init__(self, postgres: Postgres, connections: int = 2) -> None:
        program = shutil.which("pgbouncer", path=f"{os.environ['PATH']}:/usr/sbin")
        if program is None:
            pytest.fail("PgBouncer is missing: apt install pgbouncer (macOS: brew install pgbouncer)")
        self._program, self._as_user = program, postgres.as_user
        self._folder = Path(tempfile.mkdtemp(prefix="mlpq-pgbouncer-"))
        self.port = free_port()
        settings = {
            "listen_addr": "127.0.0.1", "listen_port": self.port, "unix_socket_dir": "", "auth_type": "any",
            "pool_mode": "transaction", "default_pool_size": connections, "logfile": self._folder / "log",
        }  # fmt: skip
        lines = [f"{name} = {value}" for name, value in settings.items()]
        server = f"* = host=127.0.0.1 port={postgres.port} user={SUPERUSER}"
        (self._folder / "pgbouncer.ini").write_text("\n".join(["[databases]", server, "[pgbouncer]", *lines]))
        if self._as_user:
            shutil.chown(self._folder, SUPERUSER, SUPERUSER)
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self._process = subprocess.Popen(
            [self._program, "--quiet", self._folder / "pgbouncer.ini"], cwd=self._folder, **self._as_user
        )
        wait_until("PgBouncer listens", lambda: socket_answers(self.port))

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(START_SECONDS)
        shutil.rmtree(self._folder)

    def url(self, database: str) -> str:
        return f"postgresql+psycopg://{SUPERUSER}@127.0.0.1:{self.port}/{database}"


class Redis:
    """A Redis server that keeps nothing on disk."""

    def __init__(self, *options: str) -> None:
        """`options` are further arguments of redis-server."""
        self._options = options
        program = shutil.which("redis-server")
        if program is None:
            pytest.fail("redis-server is missing: apt install redis-server (macOS: brew install redis)")
        self._program = program
        self._folder = Path(tempfile.mkdtemp(prefix="mlpq-redis-"))
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self._handed_out = 0

    def start(self) -> None:
        """Start, or start again on the same port without the earlier data."""
        options = ("--bind", "127.0.0.1", "--port", str(self.port), "--save", "", "--appendonly", "no")
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [self._program, *options, *self._options], cwd=self._folder, stdout=log, stderr=log
            )
        wait_until("Redis answers", self._answers)

    def crash(self) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.wait(START_SECONDS)

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(START_SECONDS)
        shutil.rmtree(self._folder)

    def empty_url(self) -> str:
        """The URL of an emptied database; only sixteen exist, so few can be in use at a time."""
        number = self._handed_out % 16
        self._handed_out += 1
        with redis.Redis(port=self.port, db=number) as client:
            client.flushdb()
        return f"redis://127.0.0.1:{self.port}/{number}"

    def _answers(self) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            pytest.fail(f"Redis ended: {(self._folder / 'log').read_text()}")
        try:
            with redis.Redis(port=self.port) as client:
                return bool(client.ping())
        except redis.ConnectionError:
            return False


def socket_answers(port: int) -> bool:
    """Whether something listens on a loopback port."""
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


def free_port() -> int:
    """A loopback port without a listener."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def postgres_programs() -> Path:
    """The folder of the programs of the newest installed PostgreSQL."""
    debian = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda file: int(file.parts[-3]))
    found = debian[-1] if debian else shutil.which("initdb")
    if found is None:
        pytest.fail("PostgreSQL is missing: apt install postgresql (macOS: brew install postgresql)")
    return Path(found).resolve().parent
