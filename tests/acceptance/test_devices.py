"""Which worker claims which job, jobs that no worker can run, and jobs trained by several processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from mlpq.store import queries
from tests.support.installations import SERVICES, Site, Worker, processes
from tests.support.services import wait_until

QUICK = ("--dataset", "digits", "--epochs", 2)
on_services = pytest.mark.parametrize("site", [SERVICES], indirect=True)


@contextmanager
def cuda_worker(site: Site) -> Iterator[Worker]:
    """A worker that reports two GPUs but trains on the CPU."""
    launcher = ("-m", "tests.support.pretend_cuda", "worker", "--gang", "64", "--world-size", "1")
    with site.worker(launcher=launcher) as worker:
        yield worker


@on_services
def test_workers_of_two_kinds_claim_the_jobs_that_they_can_run(site: Site) -> None:
    wanted = {
        device: site.submit(*QUICK, "--device", device, "--experiment", device, "--seeds", "1..3")
        for device in ("cpu", "cuda", "auto")
    }
    with site.worker() as cpu:
        for row in [*wanted["cpu"], *wanted["auto"]]:
            site.wait_for(row["id"], "succeeded")
        time.sleep(4)  # longer than the polling interval
        assert [site.row(row["id"]).status for row in wanted["cuda"]] == ["queued"] * 3
        with cuda_worker(site) as cuda:
            for row in wanted["cuda"]:
                site.wait_for(row["id"], "succeeded")
            pid = {"cpu": str(cpu.pid), "cuda": str(cuda.pid)}
            for device in ("cpu", "cuda"):
                assert {str(site.row(row["id"]).worker).split(":")[1] for row in wanted[device]} == {pid[device]}
            table = site.mlpq("workers")
            listed = site.mlpq("workers", "--format", "json").json
    lines = [line for line in table.out.splitlines() if any(number in line for number in pid.values())]
    assert len(lines) == 2
    assert "2 workers alive" in table.out
    found = {str(row["process"]): row for row in listed}
    assert [found[pid[device]]["device"] for device in ("cpu", "cuda")] == ["cpu", "cuda"]
    assert [found[pid[device]]["most_ranks"] for device in ("cpu", "cuda")] == [max(2, os.cpu_count() or 1), 2]
    assert [found[pid[device]]["jobs_done"] for device in ("cpu", "cuda")] == [6, 3]
    assert [row["jobs_running"] for row in listed] == [0, 0]
    assert len({row["host"] for row in listed}) == 1


def test_jobs_without_a_suitable_worker_are_reported(alone: Site) -> None:
    assert alone.mlpq("workers").out == "no worker is alive: mlpq worker starts one\n"
    alone.submit(*QUICK, "--device", "cuda", "--seeds", "1,2")
    alone.submit(*QUICK, "--device", "cuda", "--world-size", 4)
    with alone.worker():
        for command in ("jobs", "workers"):
            out = alone.mlpq(command).out
            assert "2 jobs waiting for a cuda worker; none is alive: mlpq worker --device cuda" in out
            assert "1 job waiting for a cuda worker that can run 4 processes; none is alive" in out
        for arguments in (("watch",), ("submit", *QUICK, "--device", "cuda", "--seeds", "1,2", "--wait")):
            assert "waiting for a cuda worker; none is alive" in first_line(alone, *arguments)


def first_line(site: Site, *arguments: object) -> str:
    """The first line that a waiting command writes to standard error; it is then interrupted."""
    waiting = subprocess.Popen(
        [sys.executable, "-m", "mlpq.cli", *map(str, arguments)],
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=site.environ(),
    )  # fmt: skip
    assert waiting.stderr is not None
    line = waiting.stderr.readline()
    waiting.send_signal(signal.SIGINT)
    waiting.communicate(timeout=45)
    return line


@on_services
def test_job_may_request_a_world_size_and_the_worker_has_a_default(site: Site) -> None:
    with site.worker("--world-size", "2"):
        (usual,) = site.submit(*QUICK)
        (own,) = site.submit(*QUICK, "--world-size", 1, "--seeds", 7)
        for row, size in ((usual, 2), (own, 1)):
            site.wait_for(row["id"], "succeeded")
            assert site.result(row["id"]).world_size == size
            (attempt,) = queries.attempts_of(site.store, row["id"])
            assert attempt.environment is not None
            assert attempt.environment["world_size"] == size
    assert "cpu with 2 processes (requested auto" in site.mlpq("show", usual["id"]).out
    assert "requested auto, world size 1" in site.mlpq("show", own["id"]).out


@on_services
@pytest.mark.xdist_group("ranks")  # tests with ranks at the same time would only wait for each other
def test_two_ranks_classify_as_many_images_as_one(site: Site, fashion_mnist: object) -> None:
    with site.worker():
        one, two = (site.submit("--epochs", 1, "--world-size", size)[0]["id"] for size in (1, 2))
        for job in (one, two):
            site.wait_for(job, "succeeded", seconds=250)
        assert abs(site.result(one).test_correct - site.result(two).test_correct) <= 5


@on_services
def test_stopped_ranks_release_the_job_and_others_resume_it_with_the_same_bits(site: Site) -> None:
    arguments = ("--dataset", "digits", "--epochs", 25, "--optimizer", "adam", "--hidden", "64")
    with site.worker("--world-size", "2") as worker:
        rows = site.submit(*arguments, "--seeds", "1,2")
        wait_until("they train", lambda: all(queries.curve(site.store, row["id"]) for row in rows), 60)
        worker.terminate()
        assert worker.wait(45) == 0
    assert [site.row(row["id"]).status for row in rows] == ["queued"] * 2
    with site.worker("--world-size", "2", env={"MLPQ_LOG_FORMAT": "json"}):
        whole = site.submit(*arguments, "--seeds", "1,2", "--experiment", "uninterrupted")
        for mine, theirs in zip(rows, whole, strict=True):
            assert site.wait_for(mine["id"], "succeeded", seconds=120).attempt == 2
            site.wait_for(theirs["id"], "succeeded", seconds=120)
            assert site.result(mine["id"]).weights_sha256 == site.result(theirs["id"]).weights_sha256
    log = [json.loads(line) for line in (site.folder / "worker-2.log").read_text().splitlines()]
    assert "Traceback" not in str(log)  # ranks that are killed log nothing
    for row in rows:
        messages = [line["message"] for line in log if (line.get("job"), line.get("attempt")) == (row["id"], 2)]
        for part in ("started, gang of", "resuming from the checkpoint", "epoch 25: train loss", "succeeded; now"):
            assert any(part in message for message in messages), part


@on_services
def test_rank_that_dies_fails_the_attempt_with_its_own_error_and_the_job_is_retried(site: Site) -> None:
    with site.worker("--world-size", "2"):
        (row,) = site.submit("--dataset", "digits", "--epochs", 25)
        wait_until("it trains", lambda: queries.curve(site.store, row["id"]), 60)
        ranks = sorted(
            each.pid
            for each in processes()
            if "mlpq_workers.trainer.rank_main" in each.command and str(site.folder) in each.command
        )
        os.kill(ranks[1], signal.SIGKILL)
        assert site.wait_for(row["id"], "succeeded", seconds=120).attempt == 2
        first, _ = queries.attempts_of(site.store, row["id"])
        assert (first.outcome, first.error) == ("failed", "rank 1: signal SIGKILL")
        assert not {each.pid for each in processes()} & set(ranks)


@on_services
def test_job_whose_ranks_cannot_start_fails_with_the_reason_and_others_continue(site: Site) -> None:
    """The worker reports two GPUs that don't exist."""
    with cuda_worker(site):
        (bad,) = site.submit(*QUICK, "--world-size", 2, "--device", "cuda", "--attempts", 1)
        (good,) = site.submit(*QUICK, "--seeds", 7)
        assert "no cuda device on this machine" in str(site.wait_for(bad["id"], "failed").error)
        site.wait_for(good["id"], "succeeded")


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("submit --world-size 0", "world_size must be a whole number from 1 to 64, not '0'; or auto"),
        ("submit --world-size many", "world_size must be a whole number from 1 to 64, not 'many'; or auto"),
        ("worker --world-size 65", "world_size must be a whole number from 1 to 64, not '65'; or auto"),
        ("worker --device cuda --world-size 2", "no cuda device on this machine"),
    ],
)
def test_invalid_world_size_is_rejected(alone: Site, command: str, words: str) -> None:
    done = alone.mlpq(*command.split(), status=2)
    assert words in done.err
