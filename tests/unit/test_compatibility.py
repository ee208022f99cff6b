"""Specs, hashes, gang keys, job ids and weights of version 0.1.0 stay what they were.

The fixtures in tests/fixtures/v0.1.0 were written by that version and are never written again.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest

from mlpq.jobs import job_id
from mlpq.spec.job import JobSpec
from mlpq.spec.presets import preset_jobs
from mlpq.spec.sweep import Sweep
from tests.support.installations import ROOT, SOURCE_ROOTS

FIXTURES = ROOT / "tests" / "fixtures" / "v0.1.0"
SPECS = json.loads((FIXTURES / "specs.json").read_text())
PRESET_OPTIONS: dict[str, dict[str, str]] = {"textbook": {}, "fmnist_mlp": {"seeds": "0..1"}}
# Kernels that every x86-64 CPU of the last ten years runs with the same bits.
SAME_BITS = {"MKL_CBWR": "COMPATIBLE", "ATEN_CPU_CAPABILITY": "avx2"}


@pytest.mark.parametrize("old", SPECS["specs"], ids=lambda old: old["hash"][:8])
def test_old_spec_keeps_its_hash_gang_key_and_job_id(old: dict[str, Any]) -> None:
    spec = JobSpec.model_validate_json(old["canonical"])
    assert spec.canonical() == old["canonical"]
    assert spec.hash == old["hash"]
    assert spec.gang_key == old["gang_key"]
    assert job_id("lab", spec.hash, 1) == old["job_id"]


@pytest.mark.parametrize("old", [old for old in SPECS["specs"] if old["sweep"]], ids=lambda old: old["hash"][:8])
def test_old_sweep_still_makes_the_same_spec(old: dict[str, Any]) -> None:
    parents = [
        JobSpec.model_validate_json(each["canonical"]) for each in SPECS["specs"] if each["hash"] == old["parent"]
    ]
    (spec,) = Sweep.parse(old["sweep"]).jobs(*parents)
    assert spec.hash == old["hash"]


@pytest.mark.parametrize("name", SPECS["presets"])
def test_preset_still_makes_the_same_specs(name: str) -> None:
    assert [spec.hash for spec in preset_jobs(name, PRESET_OPTIONS[name])[1]] == SPECS["presets"][name]


def test_fixtures_hold_every_kind_of_spec() -> None:
    specs = [JobSpec.model_validate_json(old["canonical"]) for old in SPECS["specs"]]
    assert len({spec.hash for spec in specs}) >= 200
    assert len({spec.optimizer for spec in specs}) == 11
    assert {spec.gang_key is None for spec in specs} == {True, False}
    for field in ("parent", "patience", "dropout", "l1", "validation"):
        assert {bool(getattr(spec, field)) for spec in specs} == {True, False}, field


@pytest.mark.slow
def test_short_jobs_of_both_engines_keep_their_weights_to_the_bit() -> None:
    """In a process of its own: which kernels torch and MKL take is settled when they are loaded."""
    environ = {**os.environ, **SAME_BITS, "PYTHONPATH": os.pathsep.join(str(ROOT / path) for path in SOURCE_ROOTS)}
    command = [sys.executable, "-m", "tests.support.short_jobs", str(FIXTURES / "weights.json")]
    run = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert run.stdout.strip() == "42 jobs have the recorded weights"
