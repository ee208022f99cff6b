"""Clocks that are two hours off: leases in the future expire, and every job is done once."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from mlpq.store.worker_queries import live_workers
from tests.hosts.conftest import MIDDLE
from tests.support.hosts import ROOT
from tests.support.services import wait_until
from tests.support.several_hosts import Hosts, several_hosts

HOURS = "+7200"
NONE = "+0"
CLOCK = ROOT / "clock"  # the offset of a faked clock, in seconds
KEPT, TAKEN = [(1, "succeeded")], [(1, "lost"), (2, "succeeded")]


@pytest.fixture
def faked() -> list[str]:
    """What begins the command line of a process with a clock that is CLOCK seconds off."""
    (library,) = Path("/usr/lib").glob("*/faketime/libfaketime.so.1")
    return [
        "env", f"LD_PRELOAD={library}", f"FAKETIME_TIMESTAMP_FILE={CLOCK}", "FAKETIME_NO_CACHE=1",
        "FAKETIME_DONT_FAKE_MONOTONIC=1",
    ]  # fmt: skip


def set_clock(offset: str) -> None:
    """Replace the file at once: a faked process may read it at any time."""
    ROOT.mkdir(exist_ok=True)
    new = CLOCK.with_suffix(".new")
    new.write_text(offset)
    new.replace(CLOCK)


def await_clock(hosts: Hosts, hours: int) -> None:
    """Wait until the database's clock is that many hours ahead."""
    query = "SELECT round(extract(epoch FROM clock_timestamp()) / 3600 - {now} / 3600)"
    wait_until("the clock is set", lambda: hosts.postgres["db1"].sql(query.format(now=time.time()))[0][0] == hours)


def test_leases_from_before_the_database_clock_was_set_back_expire(
    faked: list[str], weights: dict[str, str], report: Callable[[str], None]
) -> None:
    """A host loses its power while the clock is two hours ahead; then the clock is set back."""
    set_clock(HOURS)
    with several_hosts(["w1", "w2"], launcher=faked) as hosts:
        await_clock(hosts, 2)
        hosts.start_workers("w1", "w2")
        jobs = hosts.submit("w1", *MIDDLE, "--seeds", "0..1")
        hosts.await_training(*jobs)
        on = {hosts.host_of(job): job for job in jobs}
        hosts.hosts["w1"].kill()
        set_clock(NONE)
        await_clock(hosts, 0)
        wait_until("w1 counts as dead", lambda: [w.name[:2] for w in live_workers(hosts.site.store)] == ["w2"])
        hosts.await_success(*jobs)
        outcomes = {name: hosts.site.outcomes(job) for name, job in on.items()}
        report(f"database's clock set back by 2 h, killed host and other host: {hosts.attempts(on['w1'], on['w2'])}")
        assert outcomes["w1"] == TAKEN
        assert outcomes["w2"] in (KEPT, TAKEN)
        hosts.check_records(weights)


def test_database_clock_that_jumps_forward_records_nothing_twice(
    faked: list[str], weights: dict[str, str], report: Callable[[str], None]
) -> None:
    set_clock(NONE)
    with several_hosts(["w1", "w2"], launcher=faked) as hosts:
        hosts.start_workers("w1", "w2")
        jobs = hosts.submit("w1", *MIDDLE, "--seeds", "0..1")
        hosts.await_training(*jobs)
        set_clock(HOURS)
        await_clock(hosts, 2)
        hosts.await_success(*jobs)
        report(f"database's clock set forward by 2 h: {hosts.attempts(*jobs)}")
        assert all(hosts.site.outcomes(job) in (KEPT, TAKEN) for job in jobs)
        hosts.check_records(weights)


def test_clocks_of_worker_hosts_do_not_matter(
    faked: list[str], weights: dict[str, str], report: Callable[[str], None]
) -> None:
    """The clock of w1 is two hours ahead, and is set back while it trains."""
    set_clock(HOURS)
    with several_hosts(["w1", "w2"]) as hosts:
        hosts.start_worker("w1", launcher=faked)
        hosts.start_worker("w2")
        jobs = hosts.submit("w2", *MIDDLE, "--seeds", "0..3")
        hosts.await_training(*jobs[:2])
        set_clock(NONE)
        hosts.await_success(*jobs)
        report(f"clock of a worker's host set back by 2 h: {hosts.attempts(*jobs)}")
        assert all(hosts.site.outcomes(job) == KEPT for job in jobs)
        hosts.check_records(weights)
