"""Processes that die right before or after each commit: nothing is lost or done twice."""

from __future__ import annotations

import signal
from typing import Any

import pytest

from mlpq.jobs import Outcome
from mlpq.store import claiming, execution, queries, worker_queries
from mlpq.worker_records import WorkerCapabilities
from tests.support.installations import EMBEDDED, SERVICES, Site, Worker
from tests.support.job_steps import FACTS, let_lease_expire
from tests.support.risk import mlpq_at_risk, worker_at_risk
from tests.support.services import wait_until

KILLED = -signal.SIGKILL
SWEEP = ("--dataset", "digits", "--hidden", 1000, "--optimizer", "sgd", "--optimizer", "adam", "--seeds", "1,2")

on_services = pytest.mark.parametrize("site", [SERVICES], indirect=True)


def outcomes(site: Site, job: str) -> list[Outcome | None]:
    return [attempt.outcome for attempt in queries.attempts_of(site.store, job)]


def results(site: Site, experiment: str) -> list[tuple[Any, ...]]:
    jobs = queries.job_records(site.store, experiment)
    return [
        (job.spec_hash, job.status, job.result and (job.result.test_correct, job.result.weights_sha256)) for job in jobs
    ]


def wait_for_death(worker: Worker) -> None:
    wait_until("the worker has died at its failpoint", lambda: worker.poll() is not None, 90)
    assert worker.returncode == KILLED


def expire_dead_workers(site: Site) -> None:
    """As if the dead workers' heartbeats had stopped long ago: their leases expire, and they are not alive."""
    for job in queries.job_records(site.store, statuses=["running"]):
        let_lease_expire(site.store, job.id)
    for worker in worker_queries.live_workers(site.store):
        execution.remove_worker(site.store, worker.name)


@pytest.mark.parametrize(
    ("site", "deaths"),
    [
        (
            SERVICES,
            ["worker_heartbeat:after", "claim:before", "claim:after", "heartbeat:before", "heartbeat:after",
             "record:before", "record:after"],
        ),
        (EMBEDDED, ["record:before", "record:after"]),
    ],
    indirect=["site"],
)  # fmt: skip
def test_jobs_whose_workers_die_at_each_commit_succeed(site: Site, deaths: list[str]) -> None:
    epochs = 300 if "heartbeat:after" in deaths else 30
    rows = site.submit(*SWEEP, "--epochs", epochs, "--attempts", 100)
    lost: list[Outcome | None] = []
    for death in deaths:
        with worker_at_risk(site, die=death) as worker:
            wait_for_death(worker)
        found = [outcomes(site, row["id"]) for row in rows]
        if death == "record:after":  # the jobs end in one transaction or in several
            assert [*lost, Outcome.SUCCEEDED] in found
        elif death in ("worker_heartbeat:after", "claim:before"):
            assert found == [lost] * 4
        else:
            assert found == [[*lost, None]] * 4
            lost.append(Outcome.LOST)
        expire_dead_workers(site)
    with site.worker():
        site.mlpq("submit", *SWEEP, "--epochs", epochs, "--experiment", "undisturbed")
        ids = [row["id"] for row in rows] + queries.ids_of(site.store, "undisturbed")
        for job in ids:
            site.wait_for(job, "succeeded")
    assert results(site, "default") == results(site, "undisturbed")
    ended = [outcomes(site, row["id"]) for row in rows]
    assert [*lost, Outcome.SUCCEEDED] in ended
    assert all(each in ([*lost, Outcome.SUCCEEDED], [*lost, Outcome.LOST, Outcome.SUCCEEDED]) for each in ended)
    assert site.row_counts()["job_results"] == 8


@on_services
def test_worker_that_dies_while_requeuing_requeues_all_or_nothing(site: Site) -> None:
    rows = site.submit(*SWEEP, "--epochs", 30)
    claiming.claim(site.store, "somebody", WorkerCapabilities("cpu"), FACTS, 3)
    for row in rows[:3]:
        let_lease_expire(site.store, row["id"])
    for death, status in (("requeue_expired:before", "running"), ("requeue_expired:after", "queued")):
        with worker_at_risk(site, die=death) as worker:
            wait_for_death(worker)
        assert [site.row(row["id"]).status for row in rows] == [*[status] * 3, "queued"]
    with site.worker():
        for row in rows:
            site.wait_for(row["id"], "succeeded")
    assert [outcomes(site, row["id"]) for row in rows] == [*[["lost", "succeeded"]] * 3, ["succeeded"]]


@on_services
@pytest.mark.parametrize(("moment", "submitted"), [("before", 1), ("after", 2)])
def test_retry_that_dies_at_its_commit_can_be_repeated(site: Site, moment: str, submitted: int) -> None:
    (row,) = site.submit("--dataset", "digits")
    site.mlpq("cancel", row["id"])
    assert mlpq_at_risk(site, "retry", row["id"], die=f"retry_jobs:{moment}").status == KILLED
    assert site.row_counts()["jobs"] == submitted
    site.mlpq("retry", row["id"])
    assert sorted(job.status for job in queries.job_records(site.store)) == ["cancelled", "queued"]


@on_services
@pytest.mark.parametrize("moment", ["before", "after"])
def test_worker_that_dies_at_its_last_commit_has_released_its_jobs(site: Site, moment: str) -> None:
    (row,) = site.submit("--dataset", "digits", "--hidden", 1000, "--epochs", 10_000)
    with worker_at_risk(site, die=f"remove_worker:{moment}") as worker:
        wait_until("it trains", lambda: queries.curve(site.store, row["id"]), 60)
        worker.terminate()
        wait_for_death(worker)
    assert (site.row(row["id"]).status, outcomes(site, row["id"])) == ("queued", ["released"])
    assert len(worker_queries.live_workers(site.store)) == (moment == "before")


@on_services
@pytest.mark.parametrize(("moment", "status"), [("before", "queued"), ("after", "cancelled")])
def test_cancel_that_dies_at_its_commit_can_be_repeated(site: Site, moment: str, status: str) -> None:
    job = site.submit(*SWEEP, "--epochs", 30)[0]["id"]
    assert mlpq_at_risk(site, "cancel", job, die=f"cancel:{moment}").status == KILLED
    assert site.row(job).status == status
    site.mlpq("cancel", job)
    assert site.row(job).status == "cancelled"


@on_services
def test_submission_that_dies_at_its_commit_can_be_repeated(site: Site) -> None:
    again = []
    for death, submitted in (("submit_jobs:before", 0), ("submit_jobs:after", 4)):
        sweep = (*SWEEP, "--epochs", 30, "--experiment", death.replace(":", "-"))
        before = site.row_counts()["jobs"]
        assert mlpq_at_risk(site, "submit", *sweep, die=death).status == KILLED
        assert site.row_counts()["jobs"] == before + submitted
        rows = site.submit(*sweep)
        assert [row["submitted"] for row in rows] == [not submitted] * 4
        again += rows
    with site.worker():  # the jobs that existed before sent no message
        for row in again:
            site.wait_for(row["id"], "succeeded")
    assert site.row_counts()["jobs"] == site.row_counts()["job_results"] == 8
