"""Interrupted jobs are released, requeued and resumed from checkpoints, with the weights of an uninterrupted run."""

from __future__ import annotations

import os
import shutil
import signal
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mlpq.records import EpochMetrics
from mlpq.store import queries, worker_queries
from tests.support.installations import EMBEDDED, SERVICES, Site
from tests.support.job_steps import let_delay_pass, let_lease_expire
from tests.support.services import wait_until

MODELS = ("--dataset", "digits", "--hidden", 500, "--optimizer", "sgd", "--optimizer", "adam")
GANG = (*MODELS, "--epochs", 120, "--seeds", "1,2")
ALONE = ("--dataset", "digits", "--hidden", "1000,500", "--epochs", 30, "--batch-size", 32)
TOGETHER = {"MLPQ_THREADS": "4"}  # all jobs of GANG train at once
ALWAYS = {**TOGETHER, "MLPQ_CHECKPOINT_SECONDS": "0"}


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


def assert_uninterrupted(site: Site, rows: list[dict[str, Any]], *arguments: object) -> None:
    """Assert that results equal those of uninterrupted jobs of the same specs, and that no checkpoint is left."""
    reference = site.submit(*arguments, "--experiment", "uninterrupted")
    for interrupted, whole in zip(rows, reference, strict=True):
        record = site.wait_for(interrupted["id"], "succeeded")
        site.wait_for(whole["id"], "succeeded", seconds=120)
        mine, theirs = site.result(interrupted["id"]), site.result(whole["id"])
        for name in ("weights_sha256", "test_correct", "test_loss", "best_epoch", "epochs_run", "engine"):
            assert getattr(mine, name) == getattr(theirs, name), name
        curves = [queries.curve(site.store, job) for job in (interrupted["id"], whole["id"])]
        assert [*map(without_seconds, curves[0])] == [*map(without_seconds, curves[1])]
        assert [path.name for path in folder_of(site, record.id).iterdir()] == [f"attempt-{record.attempt}.safetensors"]


def without_seconds(metrics: EpochMetrics) -> EpochMetrics:
    return replace(metrics, seconds=0.0)


def resumed_at(site: Site, job: str) -> int:
    """The epoch after which the last attempt resumed, by the workers' logs: the job's own keeps only its last lines."""
    message = f"{job}/{site.row(job).attempt}: resuming from the checkpoint after epoch "
    logs = [line for file in site.folder.glob("worker-*.log") for line in file.read_text().splitlines()]
    (line,) = [line for line in logs if message in line]
    return int(line.split()[-1])


@pytest.mark.parametrize(("site", "arguments"), [(SERVICES, GANG), (EMBEDDED, ALONE)], indirect=["site"])
def test_stopped_worker_finishes_its_epoch_and_another_resumes_from_it(
    site: Site, arguments: tuple[object, ...]
) -> None:
    with site.worker(env=TOGETHER) as worker:
        rows = site.submit(*arguments)
        wait_for_epochs(site, rows, 2)
        began = time.monotonic()
        worker.terminate()
        assert worker.wait(45) == 0
        assert time.monotonic() - began < 30
    for row in rows:
        assert site.outcomes(row["id"]) == [(1, "released")]
        assert site.row(row["id"]).status == "queued"
        assert len(checkpoints(site, row["id"])) == 1
    assert worker_queries.live_workers(site.store) == []
    with site.worker():
        for row in rows:
            site.wait_for(row["id"], "succeeded", seconds=120)
            assert site.outcomes(row["id"]) == [(1, "released"), (2, "succeeded")]
            assert resumed_at(site, row["id"]) >= 2
        assert_uninterrupted(site, rows, *arguments)


def test_second_sigterm_ends_a_worker_immediately(alone: Site) -> None:
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
def test_job_of_a_killed_worker_resumes_from_its_checkpoint(site: Site) -> None:
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
        assert_uninterrupted(site, rows, *GANG)


def test_damaged_checkpoint_is_skipped_with_a_warning(alone: Site) -> None:
    """The worker was killed; its job resumes from the last valid checkpoint."""
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
        assert f"{last.name} skipped: the file is damaged" in str(queries.attempts_of(alone.store, job)[1].log_tail)
        assert_uninterrupted(alone, rows, *ALONE)


def test_checkpoint_of_another_environment_is_not_resumed(alone: Site) -> None:
    """The bits of the plain engine depend on the number of threads, so a mixed run could never be verified."""
    alone.env["MLPQ_KERNEL"] = "off"
    with alone.worker(env={**ALWAYS, "MLPQ_THREADS": "1"}) as worker:
        rows = alone.submit(*ALONE)
        wait_for_epochs(alone, rows, 2)
        worker.terminate()
        worker.wait()
    with alone.worker(env={"MLPQ_THREADS": "2"}):
        alone.wait_for(rows[0]["id"], "succeeded", seconds=120)
        log = str(queries.attempts_of(alone.store, rows[0]["id"])[1].log_tail)
        assert "skipped: threads was 1, now 2" in log
        assert "resuming" not in log


def test_job_of_the_kernel_resumes_on_another_cpu_with_another_number_of_threads(alone: Site) -> None:
    """Only the arithmetic must agree."""
    with alone.worker(env={**ALWAYS, "MLPQ_KERNEL": "plain"}) as worker:
        rows = alone.submit(*GANG)
        wait_for_epochs(alone, rows, 2)
        worker.terminate()
        worker.wait()
    with alone.worker():
        for row in rows:
            alone.wait_for(row["id"], "succeeded", seconds=120)
            assert resumed_at(alone, row["id"]) >= 2
        assert_uninterrupted(alone, rows, *GANG)


@pytest.mark.parametrize("site", [SERVICES], indirect=True)
def test_cancelled_job_of_a_gang_stops_within_seconds_and_the_others_continue(site: Site) -> None:
    with site.worker(env=TOGETHER):
        rows = site.submit(*MODELS, "--epochs", 250, "--seeds", "1,2")
        wait_for_epochs(site, rows)
        began = time.monotonic()
        site.mlpq("cancel", rows[1]["id"])
        site.wait_for(rows[1]["id"], "cancelled")
        assert time.monotonic() - began < 5 + 2  # the second term is for the command itself
        for row in (rows[0], *rows[2:]):
            site.wait_for(row["id"], "succeeded", seconds=120)
            assert site.outcomes(row["id"]) == [(1, "succeeded")]


def test_job_that_kills_its_process_uses_up_its_attempts_and_no_others(alone: Site) -> None:
    with alone.worker():
        rows = alone.submit(*MODELS, "--epochs", 250, "--seeds", 1)
        bad, others = rows[0]["id"], [row["id"] for row in rows[1:]]
        for attempt in (1, 2, 3):
            let_delay_pass(alone.store, bad)
            wait_until("it runs", lambda: alone.outcomes(bad)[-1:] == [(attempt, None)], 120)  # noqa: B023
            wait_until("it trains", lambda: queries.curve(alone.store, bad))
            (child,) = alone.training_processes()
            os.kill(child.pid, signal.SIGKILL)
            wait_until("the attempt has ended", lambda: alone.outcomes(bad)[-1][1] is not None)
        for job in others:
            let_delay_pass(alone.store, job)
            alone.wait_for(job, "succeeded", seconds=120)
    assert alone.row(bad).status == "failed"
    for record in queries.attempts_of(alone.store, bad):
        assert record.outcome == "failed"
        assert "SIGKILL" in str(record.error)
        assert "epoch" in str(record.log_tail)
    assert "SIGKILL" in str(alone.row(bad).error)
    assert all(alone.result(job).gang_size == 1 for job in others)


NOT_EVEN_ROOT_WRITES_HERE = "/proc/artifacts"
NO_FILE_ABOVE = """
import os, resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))
os.execv(sys.executable, [sys.executable, "-m", "mlpq.cli", "worker"])
"""


@pytest.mark.parametrize("site", [SERVICES], indirect=True)
def test_job_that_fails_on_one_worker_succeeds_on_another(site: Site) -> None:
    """One worker can't write weights; its attempts record that, and another worker gets the jobs."""
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
        assert first.outcome == "failed"
        assert "/proc/artifacts" in str(first.error)
        assert last.outcome == "succeeded"
        assert str(bad.pid) not in last.worker


@pytest.mark.parametrize("site", [SERVICES], indirect=True)
def test_job_without_data_on_one_worker_succeeds_on_another(site: Site, tmp_path: Path, fashion_mnist: Path) -> None:
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
    assert labels.name in str(queries.attempts_of(site.store, row["id"])[0].error)


def test_unwritable_weights_fail_the_attempt_and_no_other_job(alone: Site) -> None:
    """As on a full disk, simulated by a limit on the size of files."""
    with alone.worker(launcher=("-c", NO_FILE_ABOVE), forked=False):
        (big,) = alone.submit("--dataset", "digits", "--epochs", 1, "--hidden", 5000, "--attempts", 1)
        (small,) = alone.submit("--dataset", "digits", "--epochs", 1)
        assert "File too large" in str(alone.wait_for(big["id"], "failed").error)
        alone.wait_for(small["id"], "succeeded")
    assert list(folder_of(alone, big["id"]).iterdir()) == []
