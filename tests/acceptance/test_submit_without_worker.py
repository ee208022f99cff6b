"""What `mlpq submit` says where no live worker can run its jobs."""

from __future__ import annotations

import pytest

from mlpq.store import execution
from mlpq.worker_records import WorkerCapabilities
from tests.support.installations import Site
from tests.support.job_steps import claim_one, finish

QUICK = ("--dataset", "digits", "--epochs", 1)


@pytest.mark.parametrize(
    ("options", "advice"),
    [
        ((), "waiting for a worker; none is alive: mlpq worker"),
        (("--device", "cuda"), "waiting for a cuda worker; none is alive: mlpq worker --device cuda"),
        (("--world-size", 3), "waiting for a worker that can run 3 processes; none is alive: mlpq worker"),
    ],
)
def test_submit_without_a_worker_names_the_one_to_start(site: Site, options: tuple[object, ...], advice: str) -> None:
    first, second, third = site.mlpq("submit", *QUICK, *options).out.splitlines()
    assert first.endswith("1 job submitted")
    assert second == advice
    assert third.startswith("job ")
    as_json = site.mlpq("submit", *QUICK, *options, "--format", "json")
    assert len(as_json.json) == 1
    assert as_json.err.strip() == advice


def test_submit_with_a_live_worker_says_nothing_of_it(site: Site) -> None:
    execution.worker_heartbeat(site.store, "ann:1:a", WorkerCapabilities("cpu"))
    done = site.mlpq("submit", *QUICK)
    assert "worker" not in done.out + done.err


def test_submit_of_finished_jobs_needs_no_worker(site: Site) -> None:
    site.mlpq("submit", *QUICK)
    finish(site.store, claim_one(site.store))
    done = site.mlpq("submit", *QUICK)
    assert "already there" in done.out
    assert "worker" not in done.out + done.err
