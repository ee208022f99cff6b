"""Interrupted jobs: given back, taken over, resumed from a checkpoint, with the weights of a run undisturbed."""

from __future__ import annotations

import os
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from mlpq.store import queries
from tests.support.installations import EMBEDDED, SERVICES, Site
from tests.support.job_steps import let_delay_pass, let_lease_expire
from tests.support.services import wait_until

GANG = ("--dataset", "digits", "--epochs", 300, "--optimizer", "sgd", "--optimizer", "adam", "--seeds", "1,2")
ALONE = ("--dataset", "digits", "--hidden", "1000,500", "--epochs", 16, "--batch-size", 32)
ALWAYS = {"MLPQ_CHECKPOINT_SECONDS": "0"}


def wait_for_epochs(site: Site, rows: list[dict[str, Any]], epochs: int = 1) -> None:
    wait_until(
        "epochs of every job are recorded",
        lambda: all(len(queries.curve(site.store, row["id"])) >= epochs for row in rows),
        60,
    )


def folder_of(site: Site, job: str) -> Path:
    return Path(site.env["MLPQ_HOME"]) / "artifacts" / job


def checkpoints(site: Site, job: str) -> list[Path]:
    return sorted(folder_of(site, job).glob("attempt-*-epoch-*.safetensors"))


def assert_undisturbed(site: Site, rows: list[dict[str, Any]], *arguments: object) -> None:
    """The results are those of the same specs trained in one go, and nothing is left of the interruption."""
    again = site.submit(*arguments, "--experiment", "undisturbed")
    for disturbed, row in zip(rows, again, strict=True):
        mine, whole = site.wait_for(disturbed["id"], "succeeded"), site.wait_for(row["id"], "succeeded", seconds=120)
        for name in ("spec_hash", "weights_sha256", "test_correct", "test_loss", "best_epoch", "epochs_run", "engine"):
            assert mine[name] == whole[name], name
        curves = [queries.curve(site.store, job) for job in (mine["id"], whole["id"])]
        for curve in curves:
            for epoch in curve:
                del epoch["seconds"]
        assert curves[0] == curves[1]
        assert [path.name for path in folder_of(site, mine["id"]).iterdir()] == [
            f"attempt-{mine['attempt']}.safetensors"
        ]


def resumed_at(site: Site, job: str) -> int:
    """The epoch after which the last attempt went on; the job's own log keeps only its last lines."""
    said = f"{job}/{site.row(job)['attempt']}: goes on from its checkpoint after epoch "
    logs = [line for file in site.folder.glob("worker-*.log") for line in file.read_text().splitlines()]
    (line,) = [line for line in logs if said in line]
    return int(line.split()[-1])


@pytest.mark.parametrize(("site", "arguments"), [(SERVICES, GANG), (EMBEDDED, ALONE)], indirect=["site"])
def test_a_worker_told_to_stop_finishes_its_epoch_and_another_goes_on_from_there(
    site: Site, arguments: tuple[object, ...]
) -> None:
    with site.worker() as worker:
        rows = site.submit(*arguments)
        wait_for_epochs(site, rows, 2)
        began = time.monotonic()
        worker.terminate()
        assert worker.wait(45) == 0
        assert time.monotonic() - began < 30
    for row in rows:
        assert site.outcomes(row["id"]) == [(1, "released")]
        assert site.row(row["id"])["status"] == "queued"
        assert len(checkpoints(site, row["id"])) == 1
    assert queries.live_workers(site.store) == []
    with site.worker():
        for row in rows:
            site.wait_for(row["id"], "succeeded", seconds=120)
            assert site.outcomes(row["id"]) == [(1, "released"), (2, "succeeded")]
            assert resumed_at(site, row["id"]) >= 2
        assert_undisturbed(site, rows, *arguments)


def test_a_second_sigterm_ends_a_worker_at_once(alone: Site) -> None:
    with alone.worker() as worker:
        (row,) = alone.submit("--dataset", "digits", "--hidden", "3000,3000", "--batch-size", 1)  # long epochs
        alone.wait_for(row["id"], "running")
        worker.terminate()
        time.sleep(1)
        assert worker.poll() is None
        worker.terminate()
        assert worker.wait(5) == 1
        wait_until("its training process is gone", lambda: not alone.training_processes(), 5)


@pytest.mark.parametrize("site", [SERVICES], indirect=True)
def test_a_job_of_a_worker_that_was_killed_goes_on_from_its_checkpoint(site: Site) -> None:
    with site.worker(env=ALWAYS) as worker:
        rows = site.submit(*GANG)
        wait_for_epochs(site, rows, 3)
        worker.kill()
        worker.wait()
    for row in rows:
        let_lease_expire(site.store, row["id"])
    with site.worker():
        for row in rows:
            site.wait_for(row["id"], "succeeded", seconds=120)
            assert site.outcomes(row["id"]) == [(1, "lost"), (2, "succeeded")]
            assert resumed_at(site, row["id"]) >= 1
        assert_undisturbed(site, rows, *GANG)


def test_checkpoints_that_are_torn_or_damaged_are_passed_over_with_a_warning(alone: Site) -> None:
    """The worker was killed; its job goes on from the last one that is whole."""
    with alone.worker(env=ALWAYS) as worker:
        rows = alone.submit(*ALONE)
        wait_for_epochs(alone, rows, 3)
        worker.kill()
        worker.wait()
    job = rows[0]["id"]
    last = max(checkpoints(alone, job), key=lambda path: int(path.name.split("-")[3]))
    last.write_bytes(last.read_bytes()[:1000])
    let_lease_expire(alone.store, job)
    with alone.worker():
        alone.wait_for(job, "succeeded", seconds=120)
        assert resumed_at(alone, job) == int(last.name.split("-")[3]) - 1
        assert f"{last.name} is passed over: it is damaged" in queries.attempts_of(alone.store, job)[1]["log_tail"]
        assert_undisturbed(alone, rows, *ALONE)


def test_a_checkpoint_made_on_something_else_is_not_gone_on_from(alone: Site) -> None:
    """On the plain engine the number of threads shows in the bits, so a mixed run could never be checked."""
    with alone.worker(env={**ALWAYS, "MLPQ_THREADS": "1"}) as worker:
        rows = alone.submit(*ALONE)
        wait_for_epochs(alone, rows, 2)
        worker.terminate()
        worker.wait()
    with alone.worker(env={"MLPQ_THREADS": "2"}):
        alone.wait_for(rows[0]["id"], "succeeded", seconds=120)
        log = queries.attempts_of(alone.store, rows[0]["id"])[1]["log_tail"]
        assert "passed over: threads was 1 and is 2" in log
        assert "goes on from" not in log


@pytest.mark.parametrize("site", [SERVICES], indirect=True)
def test_a_cancelled_job_of_a_gang_stops_within_seconds_and_the_others_go_on(site: Site) -> None:
    with site.worker():
        rows = site.submit(*GANG, "--epochs", 600)
        wait_for_epochs(site, rows)
        began = time.monotonic()
        site.mlpq("cancel", rows[1]["id"])
        site.wait_for(rows[1]["id"], "cancelled")
        assert time.monotonic() - began < 5 + 2  # and the command itself
        for row in (rows[0], *rows[2:]):
            site.wait_for(row["id"], "succeeded", seconds=120)
            assert site.outcomes(row["id"]) == [(1, "succeeded")]


def test_a_job_that_kills_its_process_runs_out_of_attempts_and_drags_no_other_down(alone: Site) -> None:
    with alone.worker():
        rows = alone.submit(*GANG, "--epochs", 500, "--seeds", 1)
        bad, others = rows[0]["id"], [row["id"] for row in rows[1:]]
        for attempt in (1, 2, 3):
            let_delay_pass(alone.store, bad)
            wait_until("it runs", lambda: alone.outcomes(bad)[-1:] == [(attempt, None)], 120)  # noqa: B023
            wait_until("it trains", lambda: queries.curve(alone.store, bad))
            (child,) = alone.training_processes()
            os.kill(child.pid, signal.SIGKILL)
            wait_until("that is told", lambda: alone.outcomes(bad)[-1][1] is not None)
        for job in others:
            let_delay_pass(alone.store, job)
            alone.wait_for(job, "succeeded", seconds=120)
    assert alone.row(bad)["status"] == "failed"
    for attempt in queries.attempts_of(alone.store, bad):
        assert attempt["outcome"] == "failed"
        assert "SIGKILL" in attempt["error"]
        assert "epoch" in attempt["log_tail"]
    assert "SIGKILL" in alone.row(bad)["error"]
    assert all(alone.row(job)["gang_size"] == 1 for job in others)


NOT_EVEN_ROOT_WRITES_HERE = "/proc/artifacts"
NO_FILE_ABOVE = """
import os, resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))
os.execv(sys.executable, [sys.executable, "-m", "mlpq.cli", "worker"])
"""


@pytest.mark.parametrize("site", [SERVICES], indirect=True)
def test_what_fails_on_one_worker_is_done_by_another(site: Site) -> None:
    """One can't write weights; the attempt says so, and the other worker gets the job."""
    rows = site.submit("--dataset", "digits", "--epochs", 3, "--seeds", "1..4")
    with site.worker(env={"MLPQ_ARTIFACTS_DIR": NOT_EVEN_ROOT_WRITES_HERE}) as bad:
        wait_until("every job has failed there", lambda: all(site.outcomes(row["id"]) for row in rows))
        with site.worker():
            for row in rows:
                let_delay_pass(site.store, row["id"])
                site.wait_for(row["id"], "succeeded")
        assert bad.poll() is None
    for row in rows:
        first, *_, last = queries.attempts_of(site.store, row["id"])
        assert first["outcome"] == "failed"
        assert "/proc/artifacts" in first["error"]
        assert last["outcome"] == "succeeded"
        assert str(bad.pid) not in last["worker"]


@pytest.mark.parametrize("site", [SERVICES], indirect=True)
def test_a_worker_without_the_data_leaves_the_job_to_one_that_has_them(
    site: Site, tmp_path: Path, fashion_mnist: Path
) -> None:
    damaged = tmp_path / "damaged" / "FashionMNIST" / "raw"
    shutil.copytree(fashion_mnist, damaged)
    labels = damaged / "train-labels-idx1-ubyte.gz"
    labels.write_bytes(labels.read_bytes()[:-100])
    (row,) = site.submit("--epochs", 1)
    with site.worker(env={"MLPQ_DATA_DIR": str(tmp_path / "damaged")}):
        wait_until("it has failed there", lambda: site.outcomes(row["id"]) == [(1, "failed")])
        with site.worker():
            let_delay_pass(site.store, row["id"])
            site.wait_for(row["id"], "succeeded", seconds=90)
    assert labels.name in queries.attempts_of(site.store, row["id"])[0]["error"]


def test_weights_that_cannot_be_written_fail_the_attempt_and_no_other_job(alone: Site) -> None:
    """As on a full disk; a limit on the size of files is one that a test can have anywhere."""
    with alone.worker(launcher=("-c", NO_FILE_ABOVE), forked=False):
        (big,) = alone.submit("--dataset", "digits", "--epochs", 1, "--hidden", 5000, "--attempts", 1)
        (small,) = alone.submit("--dataset", "digits", "--epochs", 1)
        assert "File too large" in alone.wait_for(big["id"], "failed")["error"]
        alone.wait_for(small["id"], "succeeded")
    assert list(folder_of(alone, big["id"]).iterdir()) == []
