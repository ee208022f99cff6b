"""Failover to a standby: workers, submissions and waiting commands go on, with what was committed."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Self

import pytest

from tests.hosts.conftest import LONG, SHORT
from tests.support.hosts import ROOT, Host, cut
from tests.support.services import wait_until
from tests.support.several_hosts import Hosts, several_hosts

DOWN_SECONDS = 8  # until the standby is promoted
SUBMISSIONS = 50


def kill(hosts: Hosts) -> None:
    """The primary's processes die; its host refuses connections."""
    hosts.hosts["db1"].kill()


def isolate(hosts: Hosts) -> None:
    """The primary's host vanishes from the network, with the primary still running."""
    others: list[Host] = [host for name, host in hosts.hosts.items() if name != "db1"]
    for host in others:
        cut(hosts.hosts["db1"], host)


class Submitter(threading.Thread):
    """Submits one job after another from w2, and repeats each submission until it is acknowledged."""

    def __init__(self, hosts: Hosts) -> None:
        super().__init__(daemon=True)
        self._hosts, self._end, self._abandoned = hosts, threading.Event(), threading.Event()
        self.acknowledged = self.repeated = 0

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._abandoned.set()
        self.stop()

    def run(self) -> None:
        for seed in range(SUBMISSIONS):
            while self._hosts.mlpq("w2", "submit", *SHORT, "--experiment", "short", "--seeds", seed).returncode:
                if self._abandoned.is_set():
                    return
                self.repeated += 1
            self.acknowledged += 1
            if self._end.is_set():
                return

    def stop(self) -> None:
        """End after the present submission is acknowledged."""
        self._end.set()
        self.join()


@pytest.mark.parametrize("fail", [kill, isolate])
def test_failover_loses_nothing_and_records_nothing_twice(
    fail: Callable[[Hosts], None], weights: dict[str, str], report: Callable[[str], None]
) -> None:
    """Replication is synchronous. Redis is lost with the primary and does not come back."""
    with several_hosts(["w1", "w2"], ["db1", "db2"], synchronous_standby_names="*") as hosts:
        hosts.start_workers("w1", "w2")
        log = ROOT / "wait.log"
        waiting = hosts.start_mlpq("w1", "submit", *LONG, "--experiment", "long", "--seeds", "0..1", "--wait", log=log)
        long = wait_until("they are submitted", hosts.jobs, 90)
        hosts.await_training(*long)
        with Submitter(hosts) as submitter:
            wait_until("some are acknowledged", lambda: submitter.acknowledged >= 2, 120)
            fail(hosts)
            time.sleep(DOWN_SECONDS)
            hosts.postgres["db2"].promote()
            hosts.read_from("db2")
            hosts.hosts["db1"].kill()  # before it can come back as a second primary
            for host in hosts.hosts.values():
                host.hear()
            before = submitter.acknowledged
            wait_until("submissions go on", lambda: submitter.acknowledged > before + 1, 180)
            submitter.stop()

        hosts.await_success(*hosts.jobs())
        assert waiting.wait(120) == 0, log.read_text()
        assert all(worker.poll() is None for worker in hosts.workers.values())
        assert len(hosts.jobs()) == len(long) + submitter.acknowledged
        hosts.check_records(weights)
        report(
            f"failover, primary {fail.__name__}: {submitter.acknowledged} submissions acknowledged, "
            f"{submitter.repeated} repeated; {hosts.attempts(*long)}"
        )
