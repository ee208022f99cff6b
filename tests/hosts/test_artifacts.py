"""Jobs that are interrupted on one host and run on another one, with and without a shared artifacts folder."""

from __future__ import annotations

import signal
from collections.abc import Callable

import pytest

from mlpq.store.worker_queries import live_workers
from tests.hosts.conftest import CHILD, MIDDLE
from tests.support.hosts import ROOT, cut
from tests.support.services import wait_until
from tests.support.several_hosts import Hosts, several_hosts

RESUMING = "resuming from the checkpoint"


@pytest.mark.parametrize("shared", [True, False], ids=["shared", "unshared"])
def test_interrupted_job_ends_on_another_host(
    shared: bool, weights: dict[str, str], report: Callable[[str], None]
) -> None:
    """A worker shuts down, and then another host loses its power; each time the other host continues."""
    with several_hosts(["w1", "w2"], shared=shared) as hosts:
        hosts.start_worker("w1")
        (job,) = hosts.submit("w2", *MIDDLE, "--seeds", 0)
        await_checkpoint(hosts, job)
        hosts.workers["w1"].send_signal(signal.SIGTERM)
        assert hosts.workers["w1"].wait(60) == 0
        hosts.start_worker("w2")
        hosts.await_success(job)
        assert hosts.site.outcomes(job) == [(1, "released"), (2, "succeeded")]
        assert hosts.host_of(job) == "w2"
        assert (RESUMING in hosts.log("w2")) is shared

        (other,) = hosts.submit("w1", *MIDDLE, "--seeds", 1)
        await_checkpoint(hosts, other)
        cut(hosts.hosts["w2"], hosts.hosts["db1"])
        hosts.hosts["w2"].kill()
        hosts.start_worker("w1")
        hosts.await_success(other)
        assert hosts.site.outcomes(other) == [(1, "lost"), (2, "succeeded")]
        assert hosts.host_of(other) == "w1"
        assert (RESUMING in hosts.log("w1")) is shared
        hosts.check_records(weights)
        report(f"artifacts {'shared' if shared else 'unshared'}: {hosts.attempts(job, other)}")


def test_job_continues_from_weights_of_another_host_only_where_they_are(
    weights: dict[str, str], report: Callable[[str], None]
) -> None:
    """Without a shared folder, the attempt on a host without the weights fails, and the other host continues."""
    with several_hosts(["w1", "w2"], shared=False) as hosts:
        hosts.start_worker("w1")
        (parent,) = hosts.submit("w1", *MIDDLE, "--seeds", 0)
        hosts.await_success(parent)
        hosts.workers["w1"].send_signal(signal.SIGSTOP)
        wait_until("w1 seems dead", lambda: not live_workers(hosts.site.store), 90)
        hosts.start_worker("w2")
        (child,) = hosts.submit("w2", *CHILD, "--continue-from", parent)
        wait_until("w2 tried", lambda: (1, "failed") in hosts.site.outcomes(child), 60)
        hosts.workers["w1"].send_signal(signal.SIGCONT)
        hosts.await_success(child)
        assert hosts.host_of(child) == "w1"
        hosts.check_records(weights)
        report(f"weights of another host, unshared: {hosts.attempts(child)}")


def await_checkpoint(hosts: Hosts, job: str) -> None:
    """Wait until some host has a checkpoint of the job."""
    wait_until("a checkpoint is written", lambda: any(ROOT.glob(f"**/{job}/attempt-*-epoch-*")), 90)
