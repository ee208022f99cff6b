"""Cuts between workers and the database: both ways and one way, shorter and longer than a lease."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from mlpq.store import queries
from tests.hosts.conftest import LONG, SHORT
from tests.support.hosts import BOTH, FROM, ROOT, TO, cut
from tests.support.services import wait_until
from tests.support.several_hosts import Hosts, several_hosts

CUT = {"w1": BOTH, "w2": TO, "w3": FROM}  # w4 is not cut
KEPT, TAKEN = [(1, "succeeded")], [(1, "lost"), (2, "succeeded")]
# Training stops 45 s after the last heartbeat, but a result that is finished by then is recorded within the lease.
EXPECTED = {10: [KEPT], 50: [KEPT, TAKEN], 90: [TAKEN]}


@pytest.mark.parametrize("seconds", EXPECTED)
def test_cut_loses_nothing_and_records_nothing_twice(
    seconds: int, weights: dict[str, str], report: Callable[[str], None]
) -> None:
    with several_hosts([*CUT, "w4"]) as hosts:
        hosts.start_workers(*CUT, "w4")
        log = ROOT / "wait.log"
        waiting = hosts.start_mlpq("w1", "submit", *LONG, "--seeds", "0..3", "--wait", log=log)
        jobs = wait_until("they are submitted", hosts.jobs, 90)
        hosts.await_training(*jobs)
        on = {hosts.host_of(job): job for job in jobs}
        assert set(on) == {*CUT, "w4"}

        began = time.monotonic()
        for name, direction in CUT.items():
            cut(hosts.hosts[name], hosts.hosts["db1"], direction)
        assert_submission_fails_in_one_line(hosts)
        while time.monotonic() < began + seconds:
            time.sleep(0.1)
        for host in hosts.hosts.values():
            host.hear()

        hosts.await_success(*jobs)
        assert all(worker.poll() is None for worker in hosts.workers.values())
        outcomes = {name: hosts.site.outcomes(job) for name, job in on.items()}
        for name, job in sorted(on.items()):
            report(f"cut of {seconds} s, {name} {CUT.get(name, 'not cut')}: {hosts.attempts(job)}")
        for name in CUT:
            assert outcomes[name] in EXPECTED[seconds], (name, outcomes)
        assert outcomes["w4"] == KEPT
        assert_waited(waiting.wait(120), log, seconds)
        hosts.await_success(*hosts.submit("w1", *SHORT, "--seeds", "0..3"))
        wait_until("every wake-up is read", lambda: not hosts.unread(hosts.hosts["db1"]), 180)
        hosts.check_records(weights)


def assert_submission_fails_in_one_line(hosts: Hosts) -> None:
    """A host that is cut off says so, and submits nothing."""
    before = len(queries.job_records(hosts.site.store))
    done = hosts.mlpq("w1", "submit", *SHORT, "--seeds", "0..3")
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert "can't reach the database" in line
    assert len(queries.job_records(hosts.site.store)) == before


def assert_waited(status: int, log: Path, seconds: int) -> None:
    """`submit --wait` waits a minute for the database, and otherwise says that the jobs are submitted."""
    said = " ".join(log.read_text().split())
    assert status == (0 if seconds < 60 else 2), said
    assert seconds < 60 or "the jobs are submitted" in said
