"""States of Redis in which it answers and refuses: workers poll the database meanwhile, and are woken again after."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest
import redis

from tests.support.installations import Site
from tests.support.risk import worker_at_risk
from tests.support.services import Redis, wait_until

QUICK = ("--dataset", "digits", "--epochs", 2)
KEY = "mlpq:mlpq.auto"


@pytest.fixture(scope="module")
def own_redis() -> Iterator[Redis]:
    """A server of this file alone, since its tests break it."""
    server = Redis()
    try:
        server.start()
        yield server
    finally:
        server.stop()


@dataclass(frozen=True)
class State:
    """How Redis is brought into a state, what it then answers, and how it is brought back."""

    begin: Callable[[redis.Redis], object]
    end: Callable[[redis.Redis], object]
    answer: str


STATES = {
    "a key of another type": State(lambda r: r.set(KEY, "x"), lambda r: r.delete(KEY), "WRONGTYPE"),
    "a missing permission": State(
        lambda r: r.execute_command("ACL SETUSER default -brpop -llen"),
        lambda r: r.execute_command("ACL SETUSER default +@all"),
        "no permissions",
    ),
    "a replica": State(
        lambda r: r.execute_command("REPLICAOF 127.0.0.1 1"),
        lambda r: r.execute_command("REPLICAOF NO ONE"),
        "read only",
    ),
    "a full memory": State(lambda r: r.config_set("maxmemory", 1), lambda r: r.config_set("maxmemory", 0), ""),
}


@pytest.mark.parametrize("state", STATES.values(), ids=STATES.keys())
def test_worker_polls_while_redis_refuses_and_is_woken_after(alone: Site, own_redis: Redis, state: State) -> None:
    alone.env["MLPQ_BROKER_URL"] = f"redis://127.0.0.1:{own_redis.port}/0"
    with redis.Redis(port=own_redis.port) as client, alone.worker() as before:
        state.begin(client)
        try:
            (job,) = alone.submit(*QUICK)
            alone.wait_for(job["id"], "succeeded")
            with alone.worker() as meanwhile:
                (job,) = alone.submit(*QUICK, "--seeds", 7)
                alone.wait_for(job["id"], "succeeded")
                log = alone.folder / "worker-2.log"
                wait_until("the refusal is logged", lambda: state.answer in log.read_text())
                assert (before.poll(), meanwhile.poll()) == (None, None)
                assert "Traceback" not in log.read_text()
        finally:
            state.end(client)
        (job,) = alone.submit(*QUICK, "--seeds", 8)
        wait_until("every wake-up is read", lambda: not client.llen(KEY), 60)
        alone.wait_for(job["id"], "succeeded")
        assert before.poll() is None
    text = (alone.folder / "worker-1.log").read_text()
    assert text.count("polling the database instead") <= 3  # one a minute


def test_worker_whose_celery_fails_exits_with_an_error(alone: Site) -> None:
    """No stop signal ended it, so a supervisor must start it again."""
    with worker_at_risk(alone, fail="consumer") as worker:
        assert worker.wait(60) == 70
    assert "Celery's worker ended" in (alone.folder / "worker-1.log").read_text()
