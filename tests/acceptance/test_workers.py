"""Workers that die or are stopped: each job is still done, once, and every failure has a reason."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import redis

from mlpq.store import claiming, queries, worker_queries
from mlpq.worker_records import WorkerCapabilities
from tests.support.installations import MLPQ_WORKER, SERVICES, Process, Site, Worker, stop
from tests.support.job_steps import FACTS, let_delay_pass, let_lease_expire
from tests.support.services import wait_until

LONG = ("--dataset", "digits", "--hidden", 1000, "--epochs", 10_000)
A_WHILE = ("--dataset", "digits", "--hidden", 1000, "--epochs", 800)


def wait_for_epochs(site: Site, job: str) -> None:
    wait_until("the first epochs are recorded", lambda: queries.curve(site.store, job))


def training_process(site: Site, worker: Worker) -> Process:
    (found,) = [child for child in site.training_processes() if child.parent == worker.pid]
    return found


@contextmanager
def real_worker(site: Site) -> Iterator[Worker]:
    """`mlpq worker`, as a user starts it."""
    with site.worker(launcher=MLPQ_WORKER, forked=False) as worker:
        yield worker


def test_two_workers_do_every_job_once(site: Site) -> None:
    with real_worker(site) as one, real_worker(site) as other:
        rows = site.submit("--dataset", "digits", "--hidden", 1000, "--epochs", 80, "--seeds", "0..9")
        watched = site.mlpq("watch")
    assert watched.err.count(" of 10]") == 10
    assert [site.row(row["id"]).status for row in rows] == ["succeeded"] * 10
    assert [site.outcomes(row["id"]) for row in rows] == [[(1, "succeeded")]] * 10
    names = {str(site.row(row["id"]).worker).split(":")[1] for row in rows}
    assert names == {str(one.pid), str(other.pid)}
    assert site.row_counts()["environments"] == 1


@pytest.mark.parametrize("site", [SERVICES], indirect=True)
def test_losing_every_message_loses_no_job(site: Site) -> None:
    (job,) = site.submit("--dataset", "digits", "--epochs", 2)
    with redis.Redis.from_url(site.env["MLPQ_BROKER_URL"]) as client:
        assert client.dbsize() > 0
        client.flushdb()
    with site.worker():
        assert site.wait_for(job["id"], "succeeded").attempt == 1


def test_killed_training_process_is_reported_and_its_job_retried(served: Site) -> None:
    (job,) = served.submit(*A_WHILE, "--experiment", "killed")
    wait_for_epochs(served, job["id"])
    (child,) = served.training_processes()
    os.kill(child.pid, signal.SIGKILL)
    wait_until("the attempt has failed", lambda: served.outcomes(job["id"]) == [(1, "failed")])
    let_delay_pass(served.store, job["id"])
    assert served.wait_for(job["id"], "succeeded").attempt == 2
    first, second = queries.attempts_of(served.store, job["id"])
    assert first.error == "training process exited unexpectedly: signal SIGKILL"
    assert "train loss" in str(first.log_tail)
    assert second.outcome == "succeeded"
    assert len(queries.curve(served.store, job["id"])) == A_WHILE[-1]


def test_training_process_of_a_killed_worker_ends_and_another_worker_finishes_the_job(alone: Site) -> None:
    with real_worker(alone) as first:
        (job,) = alone.submit(*A_WHILE)
        wait_for_epochs(alone, job["id"])
        child = training_process(alone, first)
        first.kill()
        first.wait()
        wait_until("its training process is gone", lambda: child.pid not in {p.pid for p in alone.training_processes()})
    assert alone.row(job["id"]).status == "running"
    let_lease_expire(alone.store, job["id"])
    with alone.worker():
        alone.wait_for(job["id"], "succeeded")
    assert alone.outcomes(job["id"]) == [(1, "lost"), (2, "succeeded")]
    assert "lease expired" in str(queries.attempts_of(alone.store, job["id"])[0].error)


def test_busy_worker_requeues_jobs_with_expired_leases(alone: Site) -> None:
    (expired, busy) = alone.submit("--dataset", "digits", "--hidden", "3000,3000", "--batch-size", 1, "--seeds", "1,2")
    claiming.claim(alone.store, "another worker", WorkerCapabilities("cpu"), FACTS)
    with alone.worker():
        alone.wait_for(busy["id"], "running")
        let_lease_expire(alone.store, expired["id"])
        alone.wait_for(expired["id"], "queued")
        assert alone.row(busy["id"]).status == "running"
        alone.mlpq("cancel", expired["id"])
        alone.mlpq("cancel", busy["id"])
        alone.wait_for(busy["id"], "cancelled")


def test_training_process_in_the_middle_of_an_epoch_ends_with_its_worker(alone: Site) -> None:
    """It sends no event for a long time, so no broken pipe ends it."""
    with real_worker(alone) as worker:
        (job,) = alone.submit("--dataset", "digits", "--hidden", "3000,3000", "--batch-size", 1)
        alone.wait_for(job["id"], "running")
        child = training_process(alone, worker)
        time.sleep(1)
        worker.kill()
        worker.wait()
        gone = lambda: child.pid not in {each.pid for each in alone.training_processes()}  # noqa: E731
        wait_until("its training process is gone", gone, 3)
    assert queries.curve(alone.store, job["id"]) == []


def test_ctrl_c_during_wait_leaves_its_jobs_queued(site: Site) -> None:
    """On the embedded default the wait has its own worker, which releases the job; with services there is none."""
    command = [sys.executable, "-m", "mlpq.cli", "submit", *map(str, LONG), "--wait"]
    log = site.folder / "wait.log"
    with log.open("wb") as err:
        waiting = subprocess.Popen(command, stdout=err, stderr=err, cwd=site.folder, env=site.environ())
    try:
        (job,) = wait_until("the job is submitted", lambda: queries.job_records(site.store))
        if site.kind == SERVICES:
            wait_until("the wait reports that no worker is alive", lambda: "none is alive" in log.read_text())
        else:
            wait_for_epochs(site, job.id)
        waiting.send_signal(signal.SIGINT)
        assert waiting.wait(60) == 130
    finally:
        stop(waiting)
    assert "the jobs stay queued" in log.read_text()
    assert site.row(job.id).status == "queued"
    assert site.outcomes(job.id) == ([] if site.kind == SERVICES else [(1, "released")])


def test_worker_of_a_killed_wait_shuts_down(alone: Site) -> None:
    command = [sys.executable, "-m", "mlpq.cli", "submit", *map(str, LONG), "--wait"]
    waiting = subprocess.Popen(command, stderr=subprocess.DEVNULL, cwd=alone.folder, env=alone.environ())
    try:
        (job,) = wait_until("the job is submitted", lambda: queries.job_records(alone.store))
        wait_for_epochs(alone, job.id)
    finally:
        waiting.kill()
        waiting.wait()
    assert alone.wait_for(job.id, "queued").attempt == 1
    wait_until("its worker has stopped", lambda: not worker_queries.live_workers(alone.store))


def test_job_that_the_database_rejects_does_not_affect_the_next(alone: Site) -> None:
    """The first job's epochs can't be written: its training must end, with the reason recorded."""
    quick = ("--dataset", "digits", "--epochs", 2)
    (refused,) = alone.submit("--dataset", "digits", "--epochs", 800)
    (good,) = alone.submit(*quick)
    with alone.store.write() as connection:
        connection.exec_driver_sql("UPDATE jobs SET max_attempts = 1")  # no further tries: that is quicker
        connection.exec_driver_sql(
            f"CREATE TRIGGER refusal BEFORE INSERT ON epochs WHEN NEW.job_id = '{refused['id']}' "
            "BEGIN SELECT RAISE(ABORT, 'the disk is broken'); END"
        )
    with alone.worker():
        done = alone.wait_for(good["id"], "succeeded", "failed")
        (again,) = alone.submit(*quick, "--experiment", "reference")
        reference = alone.wait_for(again["id"], "succeeded")
    assert done.result is not None
    assert reference.result is not None
    assert done.result.weights_sha256 == reference.result.weights_sha256
    assert len(queries.curve(alone.store, good["id"])) == 2
    first = queries.attempts_of(alone.store, refused["id"])[0]
    assert first.outcome == "failed"
    assert "the disk is broken" in str(first.error)


def test_worker_claims_only_jobs_for_its_device(served: Site) -> None:
    missing = "mps" if sys.platform == "linux" else "cuda"
    (elsewhere,) = served.submit(*LONG, "--experiment", "elsewhere", "--device", missing, "--priority", 9)
    (here,) = served.submit("--dataset", "digits", "--epochs", 2, "--experiment", "here")
    served.wait_for(here["id"], "succeeded")
    assert served.row(elsewhere["id"]).status == "queued"
    served.mlpq("cancel", elsewhere["id"])
