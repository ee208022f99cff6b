"""`mlpq decide` while it, its worker and the database are killed: the decision is that of an undisturbed run."""

from __future__ import annotations

import random
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from subprocess import DEVNULL, Popen
from typing import Any

import pytest

from mlpq.jobs import Status
from mlpq.store import migrate, queries
from mlpq.store.session import Store
from tests.support.installations import SERVICES, Site, Worker
from tests.support.job_steps import let_lease_expire
from tests.support.services import Postgres, Redis

ARMS = ("--dataset", "digits", "--epochs", 60, "--lr", "0.3,0.32,0.05", "--seeds", 0)
QUESTION = ("--by", "lr", "--difference", 0.5, "--max-seeds", 20, "--wait", "--format", "json")
TROUBLES = ("decide", "worker", "decide", "database", "decide")


@pytest.fixture
def postgres_to_kill() -> Iterator[Postgres]:
    server = Postgres(durable=True)
    try:
        server.start()
        yield server
    finally:
        server.stop()


@pytest.fixture
def site(postgres_to_kill: Postgres, redis_server: Redis, tmp_path: Path) -> Iterator[Site]:
    store = Store(postgres_to_kill.url(postgres_to_kill.create()))
    migrate.upgrade(store)
    env = {
        "MLPQ_HOME": str(tmp_path / "home"),
        "MLPQ_DATABASE_URL": store.url,
        "MLPQ_BROKER_URL": redis_server.empty_url(),
    }
    yield Site(SERVICES, tmp_path, store, env)
    store.close()


def decision(site: Site, experiment: str) -> dict[str, Any]:
    document = site.mlpq("decide", experiment, *QUESTION).json
    assert isinstance(document, dict)
    for each in (document, *document["pairs"]):
        del each["registered_at"]
    del document["experiment"]
    return document


def jobs(site: Site, experiment: str) -> list[tuple[float, int]]:
    return sorted((job.spec.lr, job.spec.seed) for job in queries.job_records(site.store, experiment))


def start_decide(site: Site) -> Popen[bytes]:
    command = [sys.executable, "-m", "mlpq.cli", "decide", "storm", *map(str, QUESTION)]
    return Popen(command, stdout=DEVNULL, stderr=DEVNULL, cwd=site.folder, env=site.environ())


def kill_worker(site: Site, worker: Worker) -> None:
    """Its leases end at once, not after a minute."""
    worker.send_signal(signal.SIGKILL)
    worker.wait(30)
    for job in queries.job_records(site.store, "storm", [Status.RUNNING]):
        let_lease_expire(site.store, job.id)


def test_decision_is_the_same_after_kills_of_decide_worker_and_database(site: Site, postgres_to_kill: Postgres) -> None:
    moments = random.Random(17)
    with ExitStack() as workers:
        worker = workers.enter_context(site.worker())
        for experiment in ("calm", "storm"):
            site.mlpq("submit", "--experiment", experiment, *ARMS)
        calm = decision(site, "calm")
        deciding = start_decide(site)
        killed = 0
        for trouble in TROUBLES:
            time.sleep(moments.uniform(0.3, 2))
            if trouble == "decide":
                killed += deciding.poll() is None
                deciding.kill()
            elif trouble == "worker":
                kill_worker(site, worker)
                worker = workers.enter_context(site.worker())
            else:
                postgres_to_kill.crash()
                time.sleep(moments.uniform(0.1, 1))
                postgres_to_kill.start_again()
            if deciding.poll() is not None:
                deciding = start_decide(site)
        deciding.kill()
        deciding.wait(30)
        assert killed
        assert decision(site, "storm") == calm
    assert jobs(site, "storm") == jobs(site, "calm")
    assert calm["is_over"]
    assert calm["n"] == calm["cap"] == 20
