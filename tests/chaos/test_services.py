"""Outages of Redis and PostgreSQL: restarts, lost data, hanging connections. Submissions and workers survive them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import redis

from mlpq.store import migrate, queries, worker_queries
from mlpq.store.session import Store
from tests.support.installations import EMBEDDED, SERVICES, Site, stop
from tests.support.job_steps import let_lease_expire
from tests.support.proxy import Proxy, proxy
from tests.support.risk import worker_at_risk
from tests.support.services import Postgres, Redis, wait_until

QUICK = ("--dataset", "digits", "--epochs", 2)
LONG = ("--dataset", "digits", "--hidden", 1000, "--epochs", 1000)
NOBODY_THERE = "127.0.0.1:1"


@dataclass
class Fragile:
    """A site with services that tests may break; mlpq connects to both through proxies."""

    site: Site
    postgres: Postgres
    redis: Redis
    before_postgres: Proxy
    before_redis: Proxy

    def submit(self, *arguments: object, **env: str) -> str:
        """The id of the one job that was submitted."""
        return str(self.site.submit(*arguments, env=env)[0]["id"])

    def unread(self) -> int:
        """Number of wake-ups in the queue."""
        with redis.Redis(port=self.redis.port) as client:
            return sum(int(client.llen(key)) for key in client.keys("mlpq:mlpq.*"))


@pytest.fixture(scope="module")
def own_services() -> Iterator[tuple[Postgres, Redis]]:
    """Services of this file alone, since its tests break them."""
    postgres, redis_server = Postgres(), Redis()
    try:
        postgres.start()
        redis_server.start()
        yield postgres, redis_server
    finally:
        redis_server.stop()
        postgres.stop()


@pytest.fixture
def fragile(own_services: tuple[Postgres, Redis], tmp_path: Path) -> Iterator[Fragile]:
    postgres, redis_server = own_services
    with proxy(postgres.port) as before_postgres, proxy(redis_server.port) as before_redis:
        store = Store(postgres.url(postgres.create()))
        migrate.upgrade(store)
        env = {
            "MLPQ_HOME": str(tmp_path / "home"),
            "MLPQ_DATABASE_URL": store.url.replace(str(postgres.port), str(before_postgres.port)),
            "MLPQ_BROKER_URL": f"redis://:@127.0.0.1:{before_redis.port}/0",
        }
        site = Site(SERVICES, tmp_path, store, env)
        fragile = Fragile(site, postgres, redis_server, before_postgres, before_redis)
        flush_redis(fragile)
        yield fragile
        store.close()


BROKERS_AWAY = {
    "closed port": f"redis://:secret@{NOBODY_THERE}/0",
    "no such host": "redis://:secret@host.invalid/0",
    "no such folder": "filesystem:///proc/nothing",
}


@pytest.mark.parametrize("url", BROKERS_AWAY.values(), ids=BROKERS_AWAY.keys())
def test_submission_without_a_broker_is_a_warning(alone: Site, url: str) -> None:
    done = alone.mlpq("submit", *QUICK, env={"MLPQ_BROKER_URL": url})
    assert "1 job submitted" in done.out
    (line,) = done.err.splitlines()
    assert line.startswith("mlpq: warning: can't wake workers: ")
    assert "secret" not in line
    assert [job.status for job in queries.job_records(alone.store)] == ["queued"]


def test_without_redis_jobs_run_by_polling(fragile: Fragile) -> None:
    away = {"MLPQ_BROKER_URL": f"redis://{NOBODY_THERE}/0"}
    fragile.site.env |= away
    job = fragile.submit(*QUICK)
    with fragile.site.worker():
        assert fragile.site.wait_for(job, "succeeded").attempt == 1
        fragile.site.wait_for(fragile.submit(*QUICK, "--seeds", 7), "succeeded")


def test_hanging_broker_delays_a_submission_by_seconds(fragile: Fragile) -> None:
    fragile.before_redis.swallow()
    began = time.monotonic()
    done = fragile.site.mlpq("submit", *QUICK)
    assert time.monotonic() - began < 30
    assert "does not respond" in done.err
    assert [job.status for job in queries.job_records(fragile.site.store)] == ["queued"]


def restart_redis(fragile: Fragile) -> None:
    fragile.redis.crash()
    time.sleep(3)
    fragile.redis.start()


def flush_redis(fragile: Fragile) -> None:
    with redis.Redis(port=fragile.redis.port) as client:
        client.flushall()


def hang_redis(fragile: Fragile) -> None:
    fragile.before_redis.swallow()
    time.sleep(15)
    fragile.before_redis.pass_again()


def cut_redis(fragile: Fragile) -> None:
    fragile.before_redis.cut()


def assert_survived(fragile: Fragile, *troubles: Callable[[Fragile], None]) -> None:
    """Training continues during the trouble, and afterwards Redis wakes the same worker again."""
    with fragile.site.worker() as worker:
        for number, trouble in enumerate(troubles):
            running = fragile.submit("--dataset", "digits", "--hidden", 1000, "--epochs", 500, "--seeds", number)
            wait_until("it trains", lambda: queries.curve(fragile.site.store, running))  # noqa: B023
            trouble(fragile)
            fragile.site.wait_for(running, "succeeded")
            assert fragile.site.outcomes(running) == [(1, "succeeded")]
            fragile.site.wait_for(fragile.submit(*QUICK, "--seeds", number), "succeeded")
            wait_until("every wake-up is read", lambda: not fragile.unread(), 60)
        assert worker.poll() is None


def test_worker_survives_restarts_flushes_and_cut_connections_of_redis(fragile: Fragile) -> None:
    assert_survived(fragile, restart_redis, flush_redis, cut_redis)


def test_worker_survives_a_hanging_redis(fragile: Fragile) -> None:
    assert_survived(fragile, hang_redis)


def test_slow_network_and_cut_connections_cost_no_attempt(fragile: Fragile) -> None:
    fragile.before_postgres.delay(0.1)
    fragile.before_redis.delay(0.1)
    with fragile.site.worker():
        # Long enough to report epochs for several seconds.
        job = fragile.submit("--dataset", "digits", "--hidden", 1000, "--epochs", 2500)
        for _ in range(3):
            epochs = len(queries.curve(fragile.site.store, job))
            wait_until("it trains", lambda: len(queries.curve(fragile.site.store, job)) > epochs)  # noqa: B023
            fragile.before_postgres.cut()
        fragile.site.wait_for(job, "succeeded", seconds=180)
        assert fragile.site.outcomes(job) == [(1, "succeeded")]
        assert len(queries.curve(fragile.site.store, job)) == 2500


def test_result_is_recorded_after_an_outage_of_postgresql(fragile: Fragile) -> None:
    with fragile.site.worker():
        job = fragile.submit("--dataset", "digits", "--hidden", 1000, "--epochs", 1000)
        wait_until("it trains", lambda: fragile.site.row(job).status == "running")
        fragile.postgres.crash()
        weights = fragile.site.folder / "home" / "artifacts" / job / "attempt-1.safetensors"
        wait_until("its weights are saved", weights.exists, 60)
        time.sleep(3)
        fragile.postgres.start_again()
        fragile.site.wait_for(job, "succeeded")
    assert fragile.site.outcomes(job) == [(1, "succeeded")]


def test_late_result_is_rejected_by_the_fence(fragile: Fragile) -> None:
    """The worker is stopped until its lease expires and another worker finishes the job; then it continues."""
    with fragile.site.worker() as zombie:
        # Few, long epochs: their messages must fit into the pipe that the stopped worker does not read.
        job = fragile.submit("--dataset", "digits", "--epochs", 12, "--hidden", "2000,1000")
        wait_until("it trains", lambda: queries.curve(fragile.site.store, job))
        zombie.send_signal(signal.SIGSTOP)
        weights = fragile.site.folder / "home" / "artifacts" / job / "attempt-1.safetensors"
        wait_until("its training process has finished", weights.exists, 60)
        let_lease_expire(fragile.site.store, job)
        with fragile.site.worker():
            fragile.site.wait_for(job, "succeeded")
        zombie.send_signal(signal.SIGCONT)
        log = fragile.site.folder / "worker-1.log"
        wait_until("the late result was rejected", lambda: "lease lost; nothing recorded" in log.read_text())
    assert fragile.site.outcomes(job) == [(1, "lost"), (2, "succeeded")]
    assert fragile.site.row(job).attempt == 2


def test_worker_survives_a_database_that_does_not_answer(fragile: Fragile) -> None:
    """It counts as unreachable: the job is dropped before its lease expires, and the same worker goes on later."""
    with worker_at_risk(fragile.site, lease="9") as worker:
        job = fragile.submit("--dataset", "digits", "--epochs", 10_000, "--hidden", "1000,500")
        wait_until("it trains", lambda: queries.curve(fragile.site.store, job))
        fragile.before_postgres.swallow()
        wait_until("its training has ended", lambda: not fragile.site.training_processes(), 60)
        time.sleep(15)
        assert worker.poll() is None
        fragile.before_postgres.pass_again()
        wait_until("it runs again", lambda: fragile.site.outcomes(job) == [(1, "lost"), (2, None)], 60)
        fragile.site.mlpq("cancel", job)
        fragile.site.wait_for(job, "cancelled")
        assert worker.poll() is None


def test_wait_goes_on_after_a_database_that_does_not_answer(fragile: Fragile) -> None:
    with fragile.site.worker():
        log = fragile.site.folder / "wait.log"
        command = [
            sys.executable,
            "-m",
            "mlpq.cli",
            "submit",
            *QUICK[:2],
            "--hidden",
            "1000",
            "--epochs",
            "1000",
            "--wait",
        ]
        with log.open("wb") as err:
            waiting = subprocess.Popen(command, stderr=err, cwd=fragile.site.folder, env=fragile.site.environ())
        try:
            (job,) = wait_until("it is submitted", lambda: queries.job_records(fragile.site.store))
            wait_until("it trains", lambda: queries.curve(fragile.site.store, job.id))
            fragile.postgres.crash()
            wait_until("it says so", lambda: "trying again for 60 s" in " ".join(log.read_text().split()))
            fragile.postgres.start_again()
            assert waiting.wait(60) == 0
        finally:
            stop(waiting)
    assert fragile.site.outcomes(job.id) == [(1, "succeeded")]


def test_worker_with_a_hanging_executor_exits(fragile: Fragile) -> None:
    """Another worker must take its jobs over: the watchdog ends the process."""
    with worker_at_risk(fragile.site, lease="6", hang="executor") as worker:
        fragile.submit(*QUICK)
        assert worker.wait(60) == 70


def test_worker_with_a_hanging_celery_loop_exits(fragile: Fragile) -> None:
    with worker_at_risk(fragile.site, lease="6", hang="loop") as worker:
        fragile.submit(*QUICK)
        assert worker.wait(60) == 70


@pytest.mark.parametrize("site", [EMBEDDED, SERVICES], indirect=True)
def test_idle_worker_is_not_ended_by_its_watchdog(site: Site) -> None:
    with worker_at_risk(site, lease="6") as worker:
        wait_until("it is alive", lambda: worker_queries.live_workers(site.store), 60)
        time.sleep(15)
        assert worker.poll() is None


def test_hanging_training_process_is_killed_and_its_job_retried(fragile: Fragile) -> None:
    with worker_at_risk(fragile.site, lease="6"):
        job = fragile.submit(*LONG)
        wait_until("it trains", lambda: queries.curve(fragile.site.store, job))
        (child,) = fragile.site.training_processes()
        os.kill(child.pid, signal.SIGSTOP)
        assert fragile.site.wait_for(job, "succeeded", seconds=90).attempt == 2
    first, _ = queries.attempts_of(fragile.site.store, job)
    assert first.outcome == "failed"
    assert "SIGKILL" in (first.error or "")


def test_two_workers_start_on_a_new_sqlite_file(tmp_path: Path) -> None:
    store = Store(f"sqlite:///{tmp_path / 'home' / 'mlpq.db'}")
    site = Site("embedded", tmp_path, store, {"MLPQ_HOME": str(tmp_path / "home")})
    (tmp_path / "home").mkdir()
    with site.worker(await_life=False) as one, site.worker(await_life=False) as other:
        wait_until("both live", lambda: _alive(site) == 2, 90)
        assert (one.poll(), other.poll()) == (None, None)
    store.close()


def _alive(site: Site) -> int:
    try:
        return len(worker_queries.live_workers(site.store))
    except Exception:  # before the tables exist
        return 0
