"""Optimizers of an installed package: from the submission to verified results, and workers that lack the package."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mlpq.store import queries
from tests.support.docs_pages import DOCS
from tests.support.installations import MLPQ, ROOT, SOURCE_ROOTS, Site
from tests.support.job_steps import let_delay_pass
from tests.support.plugin_packages import PLUGIN, write_package
from tests.support.services import wait_until

QUICK = ("--dataset", "digits", "--epochs", 2)
LONG = ("--dataset", "digits", "--hidden", 64, "--epochs", 30, "--optimizer", "slowstart:lr=0.01")
# Hides the package that make setup installs.
HIDDEN = """
import importlib.metadata
found = importlib.metadata.entry_points
def others(**params):
    points = found(**params)
    return importlib.metadata.EntryPoints(point for point in points if point.dist.name != "mlpq-test-plugin")
importlib.metadata.entry_points = others
"""
OWN = """
import torch

class Edited(torch.optim.SGD):
    def step(self, closure=None):
        print("on standard output")
        {statement}
        super().step()
"""


def with_packages(folder: Path) -> dict[str, str]:
    """The variable by which a Python has what is in the folder, before all else."""
    return {"PYTHONPATH": os.pathsep.join([str(folder), *(str(ROOT / name) for name in SOURCE_ROOTS)])}


def edited(folder: Path, statement: str) -> dict[str, str]:
    """A package whose optimizer runs this statement in each step."""
    modules = {
        "edited_declared": "DECLARED = {'class': 'edited.optimizer:Edited', 'lr': 0.1}\n",
        "edited__optimizer": OWN.format(statement=statement),
    }
    return with_packages(write_package(folder, "edited", "1", {"edited": "edited_declared:DECLARED"}, **modules))


def submit(site: Site, env: dict[str, str], *arguments: object) -> list[dict[str, Any]]:
    """Submit from a Python of its own, which has other packages; the JSON of the jobs."""
    command = [sys.executable, *MLPQ, "submit", *map(str, (*QUICK, *arguments)), "--format", "json"]
    done = subprocess.run(command, capture_output=True, text=True, env=site.environ(env), cwd=site.folder, timeout=120)
    assert done.returncode == 0, done.stderr
    rows: list[dict[str, Any]] = json.loads(done.stdout)
    return rows


def without(folder: Path) -> dict[str, str]:
    """The variable by which a Python lacks the package of the tests."""
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(HIDDEN)
    return with_packages(folder)


def test_plugin_from_the_command_line_to_a_verified_result(alone: Site, tmp_path: Path) -> None:
    arms = ("--optimizer", "slowstart:lr=0.05,beta=0.8", "--optimizer", "jitter", "--optimizer", "muon:lr=0.02")
    with alone.worker(forked=False):
        rows = alone.submit(*QUICK, *arms, "--experiment", "own", "--wait")
        assert [(row["status"], row["plugin"], row["engine"]) for row in rows] == [
            ("succeeded", PLUGIN, "plain"), ("succeeded", PLUGIN, "plain"), ("succeeded", None, "plain"),
        ]  # fmt: skip
        verified = alone.mlpq("verify", "own", "--format", "json").json["verifications"]
    assert {each["grade"] for each in verified} == {"same_bits"}
    environments = [
        alone.mlpq("show", row["id"], "--format", "json").json["attempts"][0]["environment"] for row in rows
    ]
    assert [facts.get("plugin") for facts in environments] == [PLUGIN, PLUGIN, None]
    assert len({facts.get("plugin_sha256") for facts in environments}) == 2
    assert len(environments[0]["plugin_sha256"]) == 64
    shown = alone.mlpq("show", rows[0]["id"]).out
    assert PLUGIN in shown
    assert "slowstart lr=0.05 beta=0.8" in shown
    compared = alone.mlpq("compare", "own", "--by", "optimizer,beta", "--format", "md").out
    assert "slowstart beta=0.8" in compared
    refused = alone.mlpq("compare", "own", "--by", "bta", status=2)
    assert "the spec has no field 'bta' (did you mean 'beta'?)" in refused.err
    for row in rows:
        (tmp_path / "job.py").write_text(alone.mlpq("export", row["id"], "--script").out)
        done = subprocess.run([sys.executable, "job.py"], capture_output=True, text=True, timeout=250, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert f"{row['test_correct']} of 500 test images correct" in done.stdout


def test_options_of_a_plugin_in_a_spec_file(alone: Site, tmp_path: Path) -> None:
    file = tmp_path / "file.yaml"
    file.write_text("dataset: digits\noptimizer:\n  - {name: slowstart, lr: [0.1, 0.2], steps: [5, 10]}\n  - adam\n")
    planned = alone.mlpq("submit", file, "--dry-run", "--format", "json").json
    assert [(each["lr"], each["optimizer_settings"].get("steps")) for each in planned] == [
        (0.1, 5), (0.1, 10), (0.2, 5), (0.2, 10), (0.001, None),
    ]  # fmt: skip
    table = alone.mlpq("submit", file, "--dry-run").out
    for label in ("slowstart lr=0.1 steps=5", "slowstart lr=0.2 steps=10", "adam"):
        assert label in table


def test_killed_training_resumes_with_the_bits_of_an_uninterrupted_one(alone: Site) -> None:
    env = {"MLPQ_CHECKPOINT_SECONDS": "0"}
    with alone.worker(forked=False, env=env):
        (whole,) = alone.submit(*LONG, "--wait")
        (job,) = alone.submit(*LONG, "--again")
        wait_until("it has epochs", lambda: len(queries.curve(alone.store, job["id"])) >= 3, 60)
        (process,) = alone.training_processes()
        os.kill(process.pid, signal.SIGKILL)
        alone.wait_for(job["id"], "queued", "succeeded")
        let_delay_pass(alone.store, job["id"])
        alone.wait_for(job["id"], "succeeded", seconds=120)
    assert len(alone.outcomes(job["id"])) > 1
    assert "resuming from the checkpoint after epoch" in (alone.folder / "worker-1.log").read_text()
    assert alone.result(job["id"]).weights_sha256 == whole["weights_sha256"]


def test_failing_plugin_fails_its_own_job_and_no_other(alone: Site) -> None:
    failing = ("broken-import", "broken-start", "broken-step")
    arms = [part for name in (*failing, "slowstart", "sgd") for part in ("--optimizer", name)]
    with alone.worker(forked=False):
        rows = alone.mlpq("submit", *QUICK, *arms, "--attempts", 1, "--wait", "--format", "json", status=1).json
        assert alone.mlpq("workers", "--format", "json").json
    assert [row["error"] for row in rows] == [
        "RuntimeError: not today", "ValueError: no good start", "ZeroDivisionError: a step too far", None, None,
    ]  # fmt: skip
    assert [row["status"] for row in rows] == ["failed"] * 3 + ["succeeded"] * 2
    logs = alone.mlpq("logs", rows[1]["id"]).out
    assert "error: ValueError: no good start" in logs
    assert re.search(r'File ".*broken\.py", line \d+, in __init__', logs)


def test_plugin_that_ends_the_process_fails_its_own_job(alone: Site, tmp_path: Path) -> None:
    env = edited(tmp_path / "package", "import os; os._exit(3)")
    with alone.worker(forked=False, env=env):
        (job,) = submit(alone, env, "--optimizer", "edited", "--attempts", 1)
        (other,) = alone.submit(*QUICK, "--optimizer", "sgd")
        assert "training process exited unexpectedly: exit status 3" in str(alone.wait_for(job["id"], "failed").error)
        alone.wait_for(other["id"], "succeeded")


def test_changed_code_is_loaded_and_recorded(alone: Site, tmp_path: Path) -> None:
    env = edited(tmp_path / "package", "pass")
    with alone.worker(forked=False, env=env):
        (first,) = submit(alone, env, "--optimizer", "edited", "--wait")
        code = tmp_path / "package" / "edited" / "optimizer.py"
        code.write_text(OWN.format(statement="self.param_groups[0]['lr'] = 1"))
        (second,) = submit(alone, env, "--optimizer", "edited", "--again", "--wait")
    assert first["weights_sha256"] != second["weights_sha256"]
    records = [queries.attempts_of(alone.store, row["id"])[-1].environment or {} for row in (first, second)]
    assert len({facts["plugin_sha256"] for facts in records}) == 2


def test_worker_without_the_package_leaves_the_job_until_one_has_it(alone: Site, tmp_path: Path) -> None:
    """Also one that has another version."""
    hidden = without(tmp_path / "hidden")
    old = write_package(
        tmp_path / "old", "mlpq-test-plugin", "0.9", {"slowstart": "slowstart_mlpq:SLOWSTART"},
        slowstart_mlpq="SLOWSTART = {'class': 'slowstart.optimizer:Slowstart', 'lr': 1}\n",
    )  # fmt: skip
    needed = f"waiting for a worker that has the package {PLUGIN}; none alive has: pip install '{PLUGIN}'"
    with alone.worker(forked=False, env=hidden), alone.worker(forked=False, env=with_packages(old)):
        assert needed in alone.mlpq("submit", *QUICK, "--optimizer", "slowstart", "--experiment", "waits").out
        (other,) = alone.submit(*QUICK, "--optimizer", "sgd")
        alone.wait_for(other["id"], "succeeded")
        (job,) = alone.mlpq("jobs", "waits", "--format", "json").json
        assert (job["status"], job["attempt"]) == ("queued", 0)
        assert f"1 job {needed}" in alone.mlpq("jobs").out
        assert f"1 job {needed}" in alone.mlpq("workers").out
        assert needed in " ".join(alone.mlpq("show", job["id"]).out.split())
    with alone.worker(forked=False):
        alone.wait_for(job["id"], "succeeded")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--optimizer", "slowstart:bta=1"), "slowstart has no option 'bta' (did you mean 'beta'?)"),
        (("--optimizer", "misdeclared"), f"{PLUGIN} declares misdeclared with an invalid declaration: lr must be"),
        (("--optimizer", "jitter", "--formula", "jitter: p = p - g"), f"jitter is the formula, and {PLUGIN} has one"),
    ],
)
def test_errors_are_one_line(alone: Site, arguments: tuple[str, ...], message: str) -> None:
    error = alone.mlpq("submit", *QUICK, *arguments, status=2).err
    assert message in error
    assert error.count("\n") == 1


def test_submitter_without_the_package_gets_one_line(alone: Site, tmp_path: Path) -> None:
    command = [sys.executable, *MLPQ, "submit", "--dataset", "digits", "--optimizer", "slowstart"]
    environ = alone.environ(without(tmp_path / "hidden"))
    done = subprocess.run(command, capture_output=True, text=True, env=environ, cwd=alone.folder)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "unknown optimizer 'slowstart'" in done.stderr
    assert "or install its package" in done.stderr


def test_package_of_the_guide_trains(alone: Site, tmp_path: Path) -> None:
    """Its files as the page has them, installed by pip."""
    page = (DOCS / "how-to" / "use-an-optimizer-from-a-package.md").read_text()
    found = {name: re.findall(rf"```{name}\n(.*?)```", page, re.DOTALL) for name in ("toml", "python")}
    source, target = tmp_path / "source", tmp_path / "target"
    source.mkdir()
    for name, text in zip(
        ("pyproject.toml", "lookback_mlpq.py", "lookback.py"), (*found["toml"], *found["python"]), strict=True
    ):
        (source / name).write_text(text)
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*install, "--target", str(target), str(source)], check=True)
    env = with_packages(target)
    with alone.worker(forked=False, env=env):
        (row,) = submit(alone, env, "--optimizer", "lookback:lr=0.05,every=10", "--wait")
    assert (row["status"], row["plugin"]) == ("succeeded", "lookback==1.0")
