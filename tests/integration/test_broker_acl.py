"""The users of Redis in docker-compose.yml: each does its work, and every attack as one of them is refused."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import quote

import pytest
import redis

from mlpq import queue
from mlpq.settings import read_settings
from tests.support.broker_acl import PASSWORDS, RedisOfDeployment

ATTACKS = (
    "FLUSHALL", "FLUSHDB", "SHUTDOWN NOSAVE", "CONFIG GET *", "CONFIG SET dir /tmp", "CONFIG REWRITE", "DEBUG SLEEP 1",
    "REPLICAOF 10.0.0.1 6379", "SLAVEOF 10.0.0.1 6379", "MODULE LIST", "MODULE LOAD /tmp/evil.so", "ACL LIST",
    "ACL SETUSER evil on nopass ~* +@all", "ACL SETUSER submit ~* +@all", "SAVE", "BGSAVE", "BGREWRITEAOF", "KEYS *",
    "SCAN 0", "DBSIZE", "RANDOMKEY", "MONITOR", "CLIENT LIST", "CLIENT KILL TYPE normal", "CLIENT PAUSE 1000", "INFO",
    "MIGRATE 10.0.0.1 6379 mlpq:mlpq.cpu 0 100", "SCRIPT FLUSH", "FUNCTION LIST", "LATENCY RESET", "SLOWLOG GET",
    "SUBSCRIBE mlpq", "PSUBSCRIBE *", "PUBLISH mlpq x", "SET other x", "GET other", "LPUSH other x", "SADD other x",
    "SORT mlpq:mlpq.cpu", "RENAME mlpq:mlpq.cpu other", "COPY mlpq:mlpq.cpu other", "SWAPDB 0 1", "OBJECT HELP",
    "BLPOP mlpq:mlpq.cpu 1", "LMPOP 1 mlpq:mlpq.cpu LEFT",
)  # fmt: skip
SUBMIT_ATTACKS = (
    *ATTACKS, "DEL mlpq:mlpq.cpu", "UNLINK mlpq:mlpq.cpu", "RPOP mlpq:mlpq.cpu", "BRPOP mlpq:mlpq.cpu 1",
    "LRANGE mlpq:mlpq.cpu 0 -1", "LTRIM mlpq:mlpq.cpu 1 0", "SET mlpq:mlpq.cpu x", "GET mlpq:unacked",
    "HGETALL mlpq:unacked", "HSET mlpq:unacked a b", "EXPIRE mlpq:mlpq.cpu 1", "SREM mlpq:_kombu.binding.mlpq.cpu x",
)  # fmt: skip
WORKER_ATTACKS = (*ATTACKS, "EVAL return(redis.call('FLUSHALL')) 0", "EVAL return(redis.call('GET','other')) 0")


@pytest.fixture(scope="module")
def broker() -> Iterator[RedisOfDeployment]:
    server = RedisOfDeployment()
    server.start()
    try:
        yield server
    finally:
        server.stop()


@pytest.mark.parametrize(("user", "attacks"), [("submit", SUBMIT_ATTACKS), ("worker", WORKER_ATTACKS)])
def test_attack_is_refused(broker: RedisOfDeployment, user: str, attacks: tuple[str, ...]) -> None:
    for attack in attacks:
        with (
            broker.client(user) as client,
            pytest.raises(redis.ResponseError, match=r"NOPERM|[Nn]o permissions|can't access|can't run|not allowed"),
        ):
            print(attack, client.execute_command(*attack.split()))


def test_nobody_connects_without_a_password(broker: RedisOfDeployment) -> None:
    with redis.Redis(port=broker.port) as client, pytest.raises(redis.AuthenticationError):
        client.ping()


def test_submitter_wakes_workers(broker: RedisOfDeployment) -> None:
    password = quote(PASSWORDS["REDIS_SUBMITTER_PASSWORD"], safe="")
    config = read_settings({"MLPQ_BROKER_URL": f"redis://submit:{password}@127.0.0.1:{broker.port}/0"})
    queue.check_broker(config)
    queue.wake(config, "cpu", 3)
    with broker.client("worker") as client:
        assert client.llen("mlpq:mlpq.cpu") == 3
        client.delete("mlpq:mlpq.cpu")
