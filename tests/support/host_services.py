"""PostgreSQL and Redis on a host of their own."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import psycopg
import pytest

from tests.support.hosts import Host
from tests.support.services import SUPERUSER, postgres_programs, wait_until

PORT, REDIS_PORT = 5432, 6379
AS_SUPERUSER = ("setpriv", "--reuid", SUPERUSER, "--regid", SUPERUSER, "--clear-groups")
SETTINGS = {
    "listen_addresses": "*", "max_connections": "100", "fsync": "off", "wal_level": "replica", "max_wal_size": "128MB",
    "hot_standby": "on",
}  # fmt: skip
NETWORK = "10.77.0.0/24"


class HostPostgres:
    """PostgreSQL on a host. Tests reach it through its socket, which no cut affects."""

    def __init__(self, host: Host, launcher: Sequence[str] = ()) -> None:
        """`launcher` begins the server's command line."""
        self.host, self._launcher, self._programs = host, launcher, postgres_programs()
        self._folder = host.folder / "postgresql"
        self._data = self._folder / "data"
        self._folder.mkdir()
        shutil.chown(self._folder, SUPERUSER, SUPERUSER)

    def start(self, **settings: str) -> None:
        """Create a database cluster, and start it as a primary with these further settings."""
        self._do("initdb", "-D", self._data, "-U", SUPERUSER, "--auth=trust", "--no-sync", "--no-locale",
                 "--encoding=UTF8")  # fmt: skip
        with (self._data / "pg_hba.conf").open("a") as file:
            file.writelines(f"host {database} all {NETWORK} trust\n" for database in ("all", "replication"))
        self._serve(settings)

    def follow(self, primary: HostPostgres) -> None:
        """Start as a hot standby of the primary, and wait until the primary's commits wait for it."""
        options = ("--write-recovery-conf", "--no-sync", "--checkpoint=fast")
        self._do("pg_basebackup", "-D", self._data, "-h", primary.host.address, "-U", SUPERUSER, *options)
        self._serve({})
        state = "SELECT 1 FROM pg_stat_replication WHERE sync_state = 'sync'"
        wait_until("the standby is synchronous", lambda: primary.sql(state))

    def promote(self) -> None:
        self._do("pg_ctl", "promote", "-D", self._data)

    def sql(self, statement: str) -> list[tuple[object, ...]]:
        """Run one statement, which waits for no standby; its rows."""
        options = "-csynchronous_commit=local"
        address = f"host={self._folder} port={PORT} user={SUPERUSER} dbname=postgres options={options}"
        with psycopg.connect(address, autocommit=True) as connection:
            cursor = connection.execute(statement)
            return cursor.fetchall() if cursor.description else []

    def local_url(self, database: str) -> str:
        """The URL through the socket."""
        return f"postgresql+psycopg://{SUPERUSER}@/{database}?host={self._folder}&port={PORT}"

    def _serve(self, settings: dict[str, str]) -> None:
        command: list[str | Path] = [*AS_SUPERUSER, *self._launcher, self._programs / "postgres", "-D", self._data]
        for name, value in {**SETTINGS, "unix_socket_directories": str(self._folder), **settings}.items():
            command += ["-c", f"{name}={value}"]
        log = self.host.folder / "postgresql.log"
        process = self.host.start(*command, log=log)

        def answers() -> bool:
            if process.poll() is not None:
                pytest.fail(f"PostgreSQL ended: {log.read_text()}")
            try:
                return bool(self.sql("SELECT 1"))
            except psycopg.OperationalError:
                return False

        wait_until("PostgreSQL answers", answers)

    def _do(self, program: str, *arguments: str | Path) -> None:
        done = self.host.run(*AS_SUPERUSER, self._programs / program, *arguments)
        if done.returncode:
            pytest.fail(f"{program} failed: {done.stderr}")


def start_redis(host: Host) -> subprocess.Popen[bytes]:
    """Redis on the host, keeping nothing on disk."""
    options = ("--bind", host.address, "--protected-mode", "no", "--save", "", "--appendonly", "no")
    return host.start("redis-server", "--port", str(REDIS_PORT), *options, log=host.folder / "redis.log")
