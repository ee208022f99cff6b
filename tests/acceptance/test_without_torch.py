"""A worker on a machine without torch trains, resumes and verifies every job of the CPU, and says what it can't do."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.installations import MLPQ, ROOT, SERVICES, SOURCE_ROOTS, Site
from tests.support.services import wait_until

# Read by every Python that starts with this folder in PYTHONPATH: these packages can't be imported, nor be found.
BLOCKER = """
import sys
sys.modules.update(dict.fromkeys(("torch", "torchvision", "sklearn")))
"""
JOBS = ("--dataset", "digits", "--optimizer", "sgd:lr=0.5", "--optimizer", "adam", "--epochs", 3)
LARGE = ("--dataset", "digits", "--hidden", "1000,500", "--batch-size", 400, "--epochs", 1)


@pytest.fixture
def blocked(tmp_path: Path) -> dict[str, str]:
    """The variable with which a Python has no torch."""
    folder = tmp_path / "without-torch"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(BLOCKER)
    paths = [str(folder), *(str(ROOT / name) for name in SOURCE_ROOTS)]
    return {"PYTHONPATH": os.pathsep.join(paths)}


def run(site: Site, blocked: dict[str, str], *arguments: object, **more: str) -> subprocess.CompletedProcess[str]:
    """The command `mlpq` in a Python of its own."""
    return subprocess.run(
        [sys.executable, *MLPQ, *map(str, arguments)], capture_output=True, text=True, cwd=site.folder,
        env=site.environ({**blocked, **more}), timeout=120, check=False,
    )  # fmt: skip


def test_torch_can_not_be_imported_there(blocked: dict[str, str]) -> None:
    code = "import importlib.util; print(importlib.util.find_spec('torch')); import torch"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ, **blocked})
    assert done.stdout == "None\n"
    assert "ModuleNotFoundError" in done.stderr


def test_submit_waits_for_jobs_of_every_size_and_chains_without_torch(alone: Site, blocked: dict[str, str]) -> None:
    done = run(alone, blocked, "submit", *JOBS, "--dropout", 0.2, "--experiment", "lab", "--wait")
    assert (done.returncode, "2 jobs submitted" in done.stdout) == (0, True), done.stderr
    parent = alone.mlpq("results", "lab", "--format", "json").json[0]["id"]
    chain = ("--continue-from", parent, "--optimizer", "adam", "--epochs", 1, "--experiment", "lab", "--wait")
    assert run(alone, blocked, "submit", *chain).returncode == 0
    assert run(alone, blocked, "submit", *LARGE, "--experiment", "lab", "--wait").returncode == 0
    rows = alone.mlpq("results", "lab", "--format", "json").json
    assert [(row["status"], row["engine"], row["arithmetic"]) for row in rows] == [("succeeded", "kernel", 1)] * 4
    verified = run(alone, blocked, "verify", "lab")
    assert verified.stdout.splitlines()[-1] == "4 of 4 results: same bits"


def test_results_have_the_bits_that_a_worker_with_torch_gets(alone: Site, blocked: dict[str, str]) -> None:
    alone.submit(*JOBS, "--experiment", "with", "--wait")
    assert run(alone, blocked, "verify", "with").stdout.splitlines()[-1] == "2 of 2 results: same bits"


def test_results_of_torchs_engines_are_graded_by_their_figures(alone: Site, blocked: dict[str, str]) -> None:
    (row,) = alone.submit(*JOBS[:4], "--experiment", "old", "--wait", env={"MLPQ_KERNEL": "off"})
    assert row["engine"] == "gang"
    out = run(alone, blocked, "verify", "old").stdout
    assert "recorded by torch's stacked engine, now by the kernel (arithmetic 1), which round differently" in out
    assert out.splitlines()[-1] == "1 of 1 result: same figures"


def test_torch_that_can_not_be_loaded_fails_only_the_jobs_that_request_it(alone: Site, tmp_path: Path) -> None:
    """A broken installation is found, but its import fails. Jobs for the kernel behind such a job still train."""
    alone.submit(*JOBS[:4], "--experiment", "old", "--wait", env={"MLPQ_KERNEL": "off"})
    (tmp_path / "broken" / "torch").mkdir(parents=True)
    (tmp_path / "broken" / "torch" / "__init__.py").write_text('raise ImportError("libtorch.so is missing")')
    paths = [str(tmp_path / "broken"), *(str(ROOT / name) for name in SOURCE_ROOTS)]
    broken = {"PYTHONPATH": os.pathsep.join(paths)}
    verified = run(alone, broken, "verify", "old")
    assert "torch can't be loaded: libtorch.so is missing" in " ".join(verified.stdout.split())
    assert run(alone, broken, "submit", *JOBS, "--experiment", "new", "--wait").returncode == 0


@pytest.mark.parametrize("site", [SERVICES], indirect=True)
def test_job_resumes_on_a_worker_without_torch(site: Site, blocked: dict[str, str]) -> None:
    with site.worker(env={"MLPQ_CHECKPOINT_SECONDS": "0"}) as worker:
        (row,) = site.submit("--dataset", "digits", "--hidden", 1000, "--epochs", 150)
        wait_until("it trains", lambda: site.outcomes(row["id"]))
        worker.terminate()
        worker.wait()
    with site.worker(env=blocked, forked=False):
        assert site.wait_for(row["id"], "succeeded").attempt == 2


@pytest.mark.parametrize(
    ("arguments", "environ", "reason"),
    [
        (("--world-size", "2"), {}, "world size 2 needs torch, which is not installed: pip install 'mlpq[worker]'"),
        (("--device", "cuda"), {}, "--device cuda needs torch, which is not installed: pip install 'mlpq[worker]'"),
        ((), {"MLPQ_KERNEL": "off"}, "MLPQ_KERNEL=off needs torch, which is not installed: pip install 'mlpq[worker]'"),
    ],
    ids=["ranks", "cuda", "off"],
)
def test_worker_that_needs_torch_says_so_in_one_line(
    alone: Site, blocked: dict[str, str], arguments: tuple[str, ...], environ: dict[str, str], reason: str
) -> None:
    done = run(alone, blocked, "worker", *arguments, **environ)
    assert (done.returncode, done.stderr) == (2, f"mlpq worker: {reason}\n")


def test_doctor_says_what_torch_is_needed_for(alone: Site, blocked: dict[str, str]) -> None:
    done = run(alone, blocked, "doctor")
    assert done.returncode == 0
    lines = {line.split()[1]: " ".join(line.split()) for line in done.stdout.splitlines()[2:] if len(line.split()) > 2}
    assert "arithmetic 1: the same bits on every CPU" in lines["kernel"]
    assert "not installed; needed for GPUs and several processes" in lines["torch"]


def test_missing_data_set_says_how_to_get_it(alone: Site, blocked: dict[str, str]) -> None:
    done = run(alone, blocked, "data", "fetch", "kmnist")
    assert done.returncode == 2
    assert "downloading it needs torchvision: pip install 'mlpq[worker]'" in done.stderr
    alone.mlpq("submit", "--dataset", "kmnist", "--epochs", 1, "--attempts", 1)
    with alone.worker(env=blocked, forked=False):
        wait_until("the job has failed", lambda: alone.mlpq("jobs", "--format", "json").json[0]["status"] == "failed")
    (row,) = alone.mlpq("jobs", "--format", "json").json
    assert "downloading it needs torchvision: pip install 'mlpq[worker]', or import its files" in row["error"]


def test_unknown_build_is_one_line(alone: Site) -> None:
    done = alone.mlpq("worker", env={"MLPQ_KERNEL": "sse"}, status=2)
    assert done.err == "mlpq worker: MLPQ_KERNEL is 'sse'; it must be auto or avx512 or avx2 or plain or off\n"
