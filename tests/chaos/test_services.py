"""Redis and PostgreSQL that go away, come back empty, or hang: submissions and workers ride it out."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import redis

from mlpq.store import migrate, queries
from mlpq.store.session import Store
from tests.support.installations import EMBEDDED, SERVICES, Site
from tests.support.job_steps import let_lease_expire
from tests.support.proxy import Proxy, proxy
from tests.support.risk import worker_at_risk
from tests.support.services import Postgres, Redis, wait_until

QUICK = ("--dataset", "digits", "--epochs", 2)
LONG = ("--dataset", "digits", "--epochs", 1000)
NOBODY_THERE = "127.0.0.1:1"


@dataclass
class Fragile:
    """A site whose services may be broken; mlpq reaches both through proxies."""

    site: Site
    postgres: Postgres
    redis: Redis
    before_postgres: Proxy
    before_redis: Proxy

    def submit(self, *arguments: object, **env: str) -> str:
        """The id of the one job that was submitted."""
        return str(self.site.submit(*arguments, env=env)[0]["id"])

    def unread(self) -> int:
        """Wake-ups that nobody has taken yet."""
        with redis.Redis(port=self.redis.port) as client:
            return sum(int(client.llen(key)) for key in client.keys("mlpq:mlpq.*"))


@pytest.fixture(scope="module")
def own_services() -> Iterator[tuple[Postgres, Redis]]:
    """Of this file alone, since its tests break them."""
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
    "nobody listens": f"redis://:secret@{NOBODY_THERE}/0",
    "no such host": "redis://:secret@host.invalid/0",
    "no such folder": "filesystem:///proc/nothing",
}


@pytest.mark.parametrize("url", BROKERS_AWAY.values(), ids=BROKERS_AWAY.keys())
def test_without_a_broker_jobs_are_filed_with_a_warning(alone: Site, url: str) -> None:
    done = alone.mlpq("submit", *QUICK, env={"MLPQ_BROKER_URL": url})
    assert "1 job submitted" in done.out
    (line,) = done.err.splitlines()
    assert line.startswith("mlpq: warning: no worker could be woken: ")
    assert "secret" not in line
    assert [row["status"] for row in queries.job_rows(alone.store)] == ["queued"]


def test_without_redis_jobs_run_by_polling(fragile: Fragile) -> None:
    away = {"MLPQ_BROKER_URL": f"redis://{NOBODY_THERE}/0"}
    fragile.site.env |= away
    job = fragile.submit(*QUICK)
    with fragile.site.worker():
        assert fragile.site.wait_for(job, "succeeded")["attempt"] == 1
        fragile.site.wait_for(fragile.submit(*QUICK, "--seeds", 7), "succeeded")


def test_a_broker_that_hangs_holds_a_submission_up_for_seconds_only(fragile: Fragile) -> None:
    fragile.before_redis.swallow()
    began = time.monotonic()
    done = fragile.site.mlpq("submit", *QUICK)
    assert time.monotonic() - began < 30
    assert "does not answer" in done.err
    assert [row["status"] for row in queries.job_rows(fragile.site.store)] == ["queued"]


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


def assert_ridden_out(fragile: Fragile, *troubles: Callable[[Fragile], None]) -> None:
    """What trains goes on meanwhile, and afterwards Redis wakes the same worker again."""
    with fragile.site.worker() as worker:
        for number, trouble in enumerate(troubles):
            running = fragile.submit(*LONG, "--epochs", 500, "--seeds", number)
            wait_until("it trains", lambda: queries.curve(fragile.site.store, running))  # noqa: B023
            trouble(fragile)
            fragile.site.wait_for(running, "succeeded")
            assert fragile.site.outcomes(running) == [(1, "succeeded")]
            fragile.site.wait_for(fragile.submit(*QUICK, "--seeds", number), "succeeded")
            wait_until("every wake-up is read", lambda: not fragile.unread(), 60)
        assert worker.poll() is None


def test_a_worker_rides_out_a_redis_that_restarts_and_forgets_and_cuts(fragile: Fragile) -> None:
    assert_ridden_out(fragile, restart_redis, flush_redis, cut_redis)


def test_a_worker_rides_out_a_redis_that_hangs(fragile: Fragile) -> None:
    assert_ridden_out(fragile, hang_redis)


def test_a_slow_network_and_cut_connections_cost_time_and_no_attempt(fragile: Fragile) -> None:
    fragile.before_postgres.delay(0.1)
    fragile.before_redis.delay(0.1)
    with fragile.site.worker():
        job = fragile.submit(*LONG, "--epochs", 2500)  # the network takes seconds from the first epochs to the last
        for _ in range(3):
            epochs = len(queries.curve(fragile.site.store, job))
            wait_until("it trains", lambda: len(queries.curve(fragile.site.store, job)) > epochs)  # noqa: B023
            fragile.before_postgres.cut()
        fragile.site.wait_for(job, "succeeded")
        assert fragile.site.outcomes(job) == [(1, "succeeded")]
        assert len(queries.curve(fragile.site.store, job)) == 2500


def test_what_was_computed_while_postgresql_was_away_is_recorded_when_it_is_back(fragile: Fragile) -> None:
    with fragile.site.worker():
        job = fragile.submit("--dataset", "digits", "--epochs", 1000)
        wait_until("it trains", lambda: fragile.site.row(job)["status"] == "running")
        fragile.postgres.crash()
        weights = fragile.site.folder / "home" / "artifacts" / job / "attempt-1.safetensors"
        wait_until("its weights are saved", weights.exists, 60)
        time.sleep(3)
        fragile.postgres.start_again()
        fragile.site.wait_for(job, "succeeded")
    assert fragile.site.outcomes(job) == [(1, "succeeded")]


def test_what_was_computed_too_late_is_refused_by_the_fence(fragile: Fragile) -> None:
    """The worker is stopped past its lease, another does its job, and then it wakes and wants to record."""
    with fragile.site.worker() as zombie:
        # Few epochs, that take long: their news must fit into the pipe that the zombie does not read.
        job = fragile.submit("--dataset", "digits", "--epochs", 12, "--hidden", "1000,500")
        wait_until("it trains", lambda: queries.curve(fragile.site.store, job))
        zombie.send_signal(signal.SIGSTOP)
        weights = fragile.site.folder / "home" / "artifacts" / job / "attempt-1.safetensors"
        wait_until("its training process has finished all the same", weights.exists, 60)
        let_lease_expire(fragile.site.store, job)
        with fragile.site.worker():
            fragile.site.wait_for(job, "succeeded")
        zombie.send_signal(signal.SIGCONT)
        log = fragile.site.folder / "worker-1.log"
        wait_until("the zombie was refused", lambda: "the lease was lost, nothing is recorded" in log.read_text())
    assert fragile.site.outcomes(job) == [(1, "lost"), (2, "succeeded")]
    assert fragile.site.row(job)["attempt"] == 2


def test_a_database_that_hangs_ends_the_worker_and_another_does_the_job(fragile: Fragile) -> None:
    """A question that is never answered would be waited for in vain: the watchdog ends the process."""
    with worker_at_risk(fragile.site, lease="6") as worker:
        job = fragile.submit("--dataset", "digits", "--epochs", 10_000, "--hidden", "1000,500")
        wait_until("it trains", lambda: queries.curve(fragile.site.store, job))
        fragile.before_postgres.swallow()
        assert worker.wait(60) == 70
    wait_until("its training has ended", lambda: not fragile.site.training_processes())
    fragile.before_postgres.pass_again()
    with worker_at_risk(fragile.site, lease="6"):
        wait_until("another has it", lambda: fragile.site.outcomes(job) == [(1, "lost"), (2, None)], 60)
        fragile.site.mlpq("cancel", job)
        fragile.site.wait_for(job, "cancelled")


def test_a_worker_whose_celery_loop_hangs_ends(fragile: Fragile) -> None:
    with worker_at_risk(fragile.site, lease="6", hang="loop") as worker:
        fragile.submit(*QUICK)
        assert worker.wait(60) == 70


@pytest.mark.parametrize("site", [EMBEDDED, SERVICES], indirect=True)
def test_an_idle_worker_outlives_its_watchdogs_patience(site: Site) -> None:
    with worker_at_risk(site, lease="6") as worker:
        wait_until("it is alive", lambda: queries.live_workers(site.store), 60)
        time.sleep(15)
        assert worker.poll() is None


def test_a_training_process_that_hangs_is_ended_and_its_job_tried_again(fragile: Fragile) -> None:
    with worker_at_risk(fragile.site, lease="6"):
        job = fragile.submit(*LONG)
        wait_until("it trains", lambda: queries.curve(fragile.site.store, job))
        (child,) = fragile.site.training_processes()
        os.kill(child.pid, signal.SIGSTOP)
        assert fragile.site.wait_for(job, "succeeded", seconds=90)["attempt"] == 2
    first, _ = queries.attempts_of(fragile.site.store, job)
    assert first["outcome"] == "failed"
    assert "SIGKILL" in first["error"]


def test_two_workers_that_start_at_once_on_a_new_sqlite_file_both_live(tmp_path: Path) -> None:
    store = Store(f"sqlite:///{tmp_path / 'home' / 'mlpq.db'}")
    site = Site("embedded", tmp_path, store, {"MLPQ_HOME": str(tmp_path / "home")})
    (tmp_path / "home").mkdir()
    with site.worker(await_life=False) as one, site.worker(await_life=False) as other:
        wait_until("both live", lambda: _alive(site) == 2, 90)
        assert (one.poll(), other.poll()) == (None, None)
    store.close()


def _alive(site: Site) -> int:
    try:
        return len(queries.live_workers(site.store))
    except Exception:  # there are no tables yet
        return 0
