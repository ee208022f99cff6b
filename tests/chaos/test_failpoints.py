"""A process that dies right before or right after each commit: nothing is lost, and nothing is done twice."""

from __future__ import annotations

import signal
from typing import Any

import pytest

from mlpq.store import queries, repository
from mlpq.store.repository import Able
from risk import mlpq_at_risk, worker_at_risk
from samples import FACTS, let_lease_expire
from services import wait_until
from sites import EMBEDDED, SERVICES, Site, Worker

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


@pytest.mark.parametrize(
    ("site", "function", "moment", "first", "finally_"),
    [
        (SERVICES, "worker_beat", "after", [], ["succeeded"]),
        (SERVICES, "claim", "before", [], ["succeeded"]),
        (SERVICES, "claim", "after", [None], ["lost", "succeeded"]),
        (SERVICES, "beat", "before", [None], ["lost", "succeeded"]),
        (SERVICES, "beat", "after", [None], ["lost", "succeeded"]),
        (SERVICES, "record", "before", [None], ["lost", "succeeded"]),
        (SERVICES, "record", "after", ["succeeded"], ["succeeded"]),
        (EMBEDDED, "record", "before", [None], ["lost", "succeeded"]),
        (EMBEDDED, "record", "after", ["succeeded"], ["succeeded"]),
    ],
    indirect=["site"],
)
def test_a_worker_that_dies_at_a_commit(
    site: Site, function: str, moment: str, first: list[str | None], finally_: list[str]
) -> None:
    long = 300 if function == "beat" else 30
    rows = site.submit(*SWEEP, "--epochs", long)
    with worker_at_risk(site, die=f"{function}:{moment}") as worker:
        wait_for_death(worker)
    if function == "record":  # they end in one transaction or in several
        assert first in [outcomes(site, row["id"]) for row in rows]
    else:
        assert [outcomes(site, row["id"]) for row in rows] == [first] * 4
    for row in rows:
        if site.row(row["id"])["status"] == "running":
            let_lease_expire(site.store, row["id"])
    with site.worker():
        site.mlpq("submit", *SWEEP, "--epochs", long, "--experiment", "undisturbed")
        for row in [*rows, *queries.job_rows(site.store, "undisturbed")]:
            site.wait_for(row["id"], "succeeded")
    assert results(site, "default") == results(site, "undisturbed")
    ended = [outcomes(site, row["id"]) for row in rows]
    assert finally_ in ended
    assert function == "record" or ended == [finally_] * 4
    assert site.row_counts()["job_results"] == 8


@on_services
@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_worker_that_dies_while_it_takes_jobs_back(site: Site, moment: str) -> None:
    rows = site.submit(*SWEEP)
    repository.claim(site.store, "somebody", Able("cpu"), FACTS, 3)
    for row in rows[:3]:
        let_lease_expire(site.store, row["id"])
    with worker_at_risk(site, die=f"reap:{moment}") as worker:
        wait_for_death(worker)
    statuses = [site.row(row["id"])["status"] for row in rows]
    assert statuses == [*["running" if moment == "before" else "queued"] * 3, "queued"]
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
@pytest.mark.parametrize(("moment", "filed"), [("before", 0), ("after", 4)])
def test_a_submitter_that_dies_at_its_commit_may_simply_submit_again(site: Site, moment: str, filed: int) -> None:
    assert mlpq_at_risk(site, "submit", *SWEEP, die=f"file_jobs:{moment}").status == KILLED
    assert site.row_counts()["jobs"] == filed
    rows = site.submit(*SWEEP)
    assert [row["submitted"] for row in rows] == [not filed] * 4
    with site.worker():  # no message was sent where all was filed before
        for row in rows:
            site.wait_for(row["id"], "succeeded")
    assert site.row_counts()["jobs"] == site.row_counts()["job_results"] == 4
