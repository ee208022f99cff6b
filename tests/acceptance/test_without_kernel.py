"""Where the kernel is not compiled, torch's engines train, and results and mlpq doctor name it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.fresh_clone import clone
from tests.support.installations import MLPQ, SOURCE_ROOTS, Site

WHY = "the kernel is not compiled: install gcc or clang, then install mlpq again"
JOB = ("submit", "--dataset", "digits", "--epochs", 2, "--wait")


@pytest.fixture(scope="module")
def uncompiled(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The variable with which a Python runs a copy of the source without the kernel's library."""
    source = clone(tmp_path_factory.mktemp("source"))
    assert not list(source.rglob("*.so"))
    return {"PYTHONPATH": os.pathsep.join(str(source / root) for root in SOURCE_ROOTS)}


def run(site: Site, environ: dict[str, str], *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *MLPQ, *map(str, arguments)]
    return subprocess.run(
        command, capture_output=True, text=True, cwd=site.folder, env=site.environ(environ), timeout=120, check=False
    )


def test_jobs_run_on_torchs_engines_and_the_log_says_why(alone: Site, uncompiled: dict[str, str]) -> None:
    done = run(alone, uncompiled, *JOB)
    assert done.returncode == 0, done.stderr
    (row,) = alone.mlpq("results", "--format", "json").json
    assert (row["engine"], row["arithmetic"]) == ("gang", None)
    log = (Path(alone.env["MLPQ_HOME"]) / "worker.log").read_text()
    assert f"{WHY}; until then jobs run on the stacked engine" in log


def test_doctor_says_what_to_install(alone: Site, uncompiled: dict[str, str]) -> None:
    done = run(alone, uncompiled, "doctor")
    assert done.returncode == 0
    out = " ".join(done.stdout.split())
    assert f"! kernel {WHY}" in out


def test_build_that_is_requested_by_name_is_missing(alone: Site, uncompiled: dict[str, str]) -> None:
    done = run(alone, {**uncompiled, "MLPQ_KERNEL": "avx2"}, "worker")
    assert (done.returncode, done.stderr) == (2, f"mlpq worker: MLPQ_KERNEL is 'avx2': {WHY}\n")
    doctor = run(alone, {**uncompiled, "MLPQ_KERNEL": "avx2"}, "doctor")
    assert doctor.returncode == 1


def test_nothing_trains_without_torch_either(alone: Site, uncompiled: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("import sys; sys.modules['torch'] = None")
    blocked = {"PYTHONPATH": f"{tmp_path}{os.pathsep}{uncompiled['PYTHONPATH']}"}
    done = run(alone, blocked, "worker")
    assert done.returncode == 2
    assert done.stderr == f"mlpq worker: {WHY}; or train with torch instead: pip install 'mlpq[worker]'\n"
    assert "no worker can run here" in run(alone, blocked, "doctor").stdout
