"""mlpq on several hosts: workers and commands on some, PostgreSQL and Redis on others."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from sqlalchemy import func, select

from mlpq.jobs import Outcome
from mlpq.store import migrate, queries, worker_queries
from mlpq.store.schema import attempts, epochs, job_results, jobs
from mlpq.store.session import Store
from mlpq.worker_records import WorkerRecord
from tests.support.host_services import PORT, REDIS_PORT, HostPostgres, start_redis
from tests.support.hosts import HOME, ROOT, Host, network
from tests.support.installations import MLPQ, SERVICES, WORKER, Site
from tests.support.services import SUPERUSER, wait_until

DATABASE = "mlpq"
CHECKPOINT_SECONDS = 5
START_SECONDS = 90


@dataclass
class Hosts:
    """Hosts by name. `site` reads the database through its socket, and has the settings of all hosts."""

    hosts: dict[str, Host]
    postgres: dict[str, HostPostgres]
    site: Site
    workers: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def start_worker(self, name: str, launcher: Sequence[str] = ()) -> None:
        """Start a worker on that host, and wait until it is alive."""
        host = self.hosts[name]
        command = (*launcher, sys.executable, *WORKER)
        worker = self.workers[name] = host.start(*command, log=self.log_file(name), env=self.site.environ())

        def is_alive() -> bool:
            assert worker.poll() is None, self.log(name)
            return any(each.name.startswith(f"{name}:{worker.pid}:") for each in self._live())

        wait_until(f"the worker on {name} is alive", is_alive, START_SECONDS)

    def start_workers(self, *names: str) -> None:
        for name in names:
            self.start_worker(name)

    def log_file(self, name: str) -> Path:
        return self.hosts[name].folder / "worker.log"

    def log(self, name: str) -> str:
        """What workers on that host have logged."""
        return self.log_file(name).read_text()

    def mlpq(self, name: str, *arguments: object) -> subprocess.CompletedProcess[str]:
        """Run the command `mlpq` on that host."""
        return self.hosts[name].run(sys.executable, *MLPQ, *map(str, arguments), env=self.site.environ())

    def start_mlpq(self, name: str, *arguments: object, log: Path) -> subprocess.Popen[bytes]:
        """Start the command `mlpq` on that host."""
        return self.hosts[name].start(sys.executable, *MLPQ, *map(str, arguments), log=log, env=self.site.environ())

    def submit(self, name: str, *arguments: object) -> list[str]:
        """Submit from that host; the ids of the jobs."""
        done = self.mlpq(name, "submit", *arguments, "--format", "json")
        assert done.returncode == 0, done.stderr
        return [str(job["id"]) for job in json.loads(done.stdout)]

    def read_from(self, name: str) -> None:
        """Read the database on that host from now on."""
        self.site.store.close()
        self.site.store = Store(self.postgres[name].local_url(DATABASE))

    def jobs(self) -> list[str]:
        """The ids of all jobs, in the order of submission."""
        with self.site.store.read() as connection:
            return list(connection.execute(select(jobs.c.id).order_by(jobs.c.seq)).scalars())

    def host_of(self, job: str) -> str:
        """The name of the host whose worker claimed the job last."""
        with self.site.store.read() as connection:
            worker = connection.execute(select(jobs.c.worker).where(jobs.c.id == job)).scalar_one()
        return str(worker).partition(":")[0]

    def await_training(self, *ids: str) -> None:
        """Wait until each of these jobs has reported an epoch of its present attempt."""
        for job in ids:
            wait_until(f"{job} trains", lambda: queries.curve(self.site.store, job), START_SECONDS)  # noqa: B023

    def await_success(self, *ids: str, seconds: float = 420) -> None:
        for job in ids:
            self.site.wait_for(job, "succeeded", "failed", "cancelled", seconds=seconds)
            assert self.site.row(job).status == "succeeded", self.site.row(job).error

    def attempts(self, *ids: str) -> str:
        """How the attempts of each job ended, in short."""
        return ", ".join(" then ".join(str(outcome) for _, outcome in self.site.outcomes(job)) for job in ids)

    def unread(self, broker: Host) -> int:
        """The number of wake-ups in Redis."""
        done = broker.run("redis-cli", "-h", broker.address, "--raw", "LLEN", "mlpq:mlpq.auto")
        return int(done.stdout)

    def check_records(self, weights: Mapping[str, str]) -> None:
        """Every job succeeded once, with the weights of an undisturbed run (by spec hash) and its whole curve."""
        with self.site.store.read() as connection:
            found = connection.execute(select(jobs, job_results).outerjoin(job_results)).all()
            won = select(attempts.c.job_id).where(attempts.c.outcome == Outcome.SUCCEEDED)
            successes = Counter(connection.execute(won).scalars())
            same = (epochs.c.job_id == job_results.c.job_id) & (epochs.c.attempt == job_results.c.attempt)
            counted = select(epochs.c.job_id, func.count()).join(job_results, same).group_by(epochs.c.job_id)
            lengths: dict[str, int] = dict(connection.execute(counted).all())
        for row in found:
            assert (row.status, successes[row.id]) == ("succeeded", 1), row
            assert lengths[row.id] == row.epochs_run
            assert row.weights_sha256 == weights[row.spec_hash], row

    def _live(self) -> list[WorkerRecord]:
        return worker_queries.live_workers(self.site.store)


def url_of(*hosts: Host) -> str:
    """The URL that names these hosts, of which one takes writes."""
    names = ",".join(f"{host.address}:{PORT}" for host in hosts)
    more = "?target_session_attrs=read-write" if len(hosts) > 1 else ""
    return f"postgresql+psycopg://{SUPERUSER}@{names}/{DATABASE}{more}"


@contextmanager
def several_hosts(
    workers: Sequence[str],
    databases: Sequence[str] = ("db1",),
    launcher: Sequence[str] = (),
    shared: bool = True,
    **settings: str,
) -> Iterator[Hosts]:
    """Hosts for workers, and hosts for databases: the first has the primary and Redis, the second a standby.

    `launcher` starts the primary, `settings` are its own. Without `shared`, each worker has its own artifacts folder.
    """
    with network(*databases, *workers) as found:
        hosts = {host.name: host for host in found}
        postgres = {name: HostPostgres(hosts[name], launcher if name == databases[0] else ()) for name in databases}
        primary, *standbys = postgres.values()
        primary.start(**settings)
        primary.sql(f"CREATE DATABASE {DATABASE}")
        for standby in standbys:
            standby.follow(primary)
        start_redis(primary.host)
        store = Store(primary.local_url(DATABASE))
        migrate.upgrade(store)
        env = {
            "MLPQ_HOME": str(HOME / "mlpq"),
            "MLPQ_DATABASE_URL": url_of(*(each.host for each in postgres.values())),
            "MLPQ_BROKER_URL": f"redis://{primary.host.address}:{REDIS_PORT}/0",
            "MLPQ_CHECKPOINT_SECONDS": str(CHECKPOINT_SECONDS),
        }
        if shared:
            (ROOT / "artifacts").mkdir(exist_ok=True)
            env["MLPQ_ARTIFACTS_DIR"] = str(ROOT / "artifacts")
        site = Site(SERVICES, ROOT, store, env)
        running = Hosts(hosts, postgres, site)
        try:
            yield running
        finally:
            for name in workers:
                with suppress(FileNotFoundError):
                    print(f"--- {name}\n{running.log(name)}")
            running.site.store.close()
