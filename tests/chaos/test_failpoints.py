"""A process that dies right before or right after each commit: nothing is lost, and nothing is done twice."""

from __future__ import annotations

import signal
from typing import Any

import pytest

from mlpq.store import execution, queries
from mlpq.store.execution import Able
from tests.support.installations import EMBEDDED, SERVICES, Site, Worker
from tests.support.job_steps import FACTS, let_lease_expire
from tests.support.risk import mlpq_at_risk, worker_at_risk
from tests.support.services import wait_until

KILLED = -signal.SIGKILL
SWEEP = ("--dataset", "digits", "--epochs", 30, "--optimizer", "sgd", "--optimizer", "adam", "--seeds", "1,2")

on_services = pytest.mark.parametrize("site", [SERVICES], indirect=True)


def outcomes(site: Site, job: str) -> list[str | None]:
    return [attempt["outcome"] for attempt in queries.attempts_of(site.store, job)]


def results(site: Site, experiment: str) -> list[tuple[Any, ...]]:
    rows = queries.job_rows(site.store, experiment)
    return [(row["spec_hash"], row["status"], row["test_correct"], row["weights_sha256"]) for row in rows]


def wait_for_death(worker: Worker) -> None:
    wait_until("the worker has died of its fail-point", lambda: worker.poll() is not None, 90)
    assert worker.returncode == KILLED


def forget_the_dead(site: Site) -> None:
    """As if what died had been silent for long: its leases are over, and nobody shares jobs with it any more."""
    for row in queries.job_rows(site.store):
        if row["status"] == "running":
            let_lease_expire(site.store, row["id"])
    for worker in queries.live_workers(site.store):
        execution.worker_gone(site.store, worker["name"])


@pytest.mark.parametrize(
    ("site", "deaths"),
    [
        (
            SERVICES,
            ["worker_beat:after", "claim:before", "claim:after", "beat:before", "beat:after", "record:before",
             "record:after"],
        ),
        (EMBEDDED, ["record:before", "record:after"]),
    ],
    indirect=["site"],
)  # fmt: skip
def test_jobs_whose_workers_die_at_one_commit_after_another(site: Site, deaths: list[str]) -> None:
    epochs = 300 if "beat:after" in deaths else 30
    rows = site.submit(*SWEEP, "--epochs", epochs, "--attempts", 100)
    lost: list[str | None] = []
    for death in deaths:
        with worker_at_risk(site, die=death) as worker:
            wait_for_death(worker)
        found = [outcomes(site, row["id"]) for row in rows]
        if death == "record:after":  # they end in one transaction or in several
            assert [*lost, "succeeded"] in found
        elif death in ("worker_beat:after", "claim:before"):
            assert found == [lost] * 4
        else:
            assert found == [[*lost, None]] * 4
            lost.append("lost")
        forget_the_dead(site)
    with site.worker():
        site.mlpq("submit", *SWEEP, "--epochs", epochs, "--experiment", "undisturbed")
        for row in [*rows, *queries.job_rows(site.store, "undisturbed")]:
            site.wait_for(row["id"], "succeeded")
    assert results(site, "default") == results(site, "undisturbed")
    ended = [outcomes(site, row["id"]) for row in rows]
    assert [*lost, "succeeded"] in ended
    assert all(each in ([*lost, "succeeded"], [*lost, "lost", "succeeded"]) for each in ended)
    assert site.row_counts()["job_results"] == 8


@on_services
def test_workers_that_die_while_they_take_jobs_back(site: Site) -> None:
    rows = site.submit(*SWEEP)
    execution.claim(site.store, "somebody", Able("cpu"), FACTS, 3)
    for row in rows[:3]:
        let_lease_expire(site.store, row["id"])
    for death, status in (("reap:before", "running"), ("reap:after", "queued")):
        with worker_at_risk(site, die=death) as worker:
            wait_for_death(worker)
        assert [site.row(row["id"])["status"] for row in rows] == [*[status] * 3, "queued"]
    with site.worker():
        for row in rows:
            site.wait_for(row["id"], "succeeded")
    assert [outcomes(site, row["id"]) for row in rows] == [*[["lost", "succeeded"]] * 3, ["succeeded"]]


@on_services
@pytest.mark.parametrize(("moment", "filed"), [("before", 1), ("after", 2)])
def test_a_retry_that_dies_at_its_commit_may_be_made_again(site: Site, moment: str, filed: int) -> None:
    (row,) = site.submit("--dataset", "digits")
    site.mlpq("cancel", row["id"])
    assert mlpq_at_risk(site, "retry", row["id"], die=f"file_again:{moment}").status == KILLED
    assert site.row_counts()["jobs"] == filed
    site.mlpq("retry", row["id"])
    assert sorted(job["status"] for job in queries.job_rows(site.store)) == ["cancelled", "queued"]


@on_services
@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_worker_that_dies_as_its_last_commit_says_goodbye_has_given_its_jobs_back(site: Site, moment: str) -> None:
    (row,) = site.submit("--dataset", "digits", "--epochs", 1000)
    with worker_at_risk(site, die=f"worker_gone:{moment}") as worker:
        wait_until("it trains", lambda: queries.curve(site.store, row["id"]), 60)
        worker.terminate()
        wait_for_death(worker)
    assert (site.row(row["id"])["status"], outcomes(site, row["id"])) == ("queued", ["released"])
    assert len(queries.live_workers(site.store)) == (moment == "before")


@on_services
@pytest.mark.parametrize(("moment", "status"), [("before", "queued"), ("after", "cancelled")])
def test_a_cancel_that_dies_at_its_commit_may_be_made_again(site: Site, moment: str, status: str) -> None:
    job = site.submit(*SWEEP)[0]["id"]
    assert mlpq_at_risk(site, "cancel", job, die=f"cancel:{moment}").status == KILLED
    assert site.row(job)["status"] == status
    site.mlpq("cancel", job)
    assert site.row(job)["status"] == "cancelled"


@on_services
def test_a_submitter_that_dies_at_its_commit_may_simply_submit_again(site: Site) -> None:
    again = []
    for death, filed in (("file_jobs:before", 0), ("file_jobs:after", 4)):
        sweep = (*SWEEP, "--experiment", death.replace(":", "-"))
        before = site.row_counts()["jobs"]
        assert mlpq_at_risk(site, "submit", *sweep, die=death).status == KILLED
        assert site.row_counts()["jobs"] == before + filed
        rows = site.submit(*sweep)
        assert [row["submitted"] for row in rows] == [not filed] * 4
        again += rows
    with site.worker():  # no message was sent where all was filed before
        for row in again:
            site.wait_for(row["id"], "succeeded")
    assert site.row_counts()["jobs"] == site.row_counts()["job_results"] == 8
