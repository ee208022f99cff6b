"""What is stored about a job either fits together, or what does not fit is named."""

from __future__ import annotations

import base64
import copy
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mlpq.jobs import fingerprint, job_id
from mlpq.spec.job import JobSpec
from mlpq.verification.audit import audit
from tests.support.job_steps import FACTS, RESULT, child_of, spec

Record = dict[str, Any]
Curve = list[dict[str, Any]]


def curve_of(*losses: float) -> Curve:
    """An epoch for each validation loss."""
    return [
        {
            "epoch": number, "train_loss": 1 / number, "validation_loss": loss, "validation_correct": 100,
            "validation_total": 130, "test_loss": 1.5 / number, "test_correct": 400 + number, "test_total": 500,
            "seconds": 0.1,
        }
        for number, loss in enumerate(losses, start=1)
    ]  # fmt: skip


def weights_file(folder: Path, spec_hash: str) -> tuple[Path, str]:
    """A file with one number, and its SHA-256."""
    number, state = b"\0\0\x80\x3f", base64.b64encode(b"state").decode()
    sha256 = hashlib.sha256(b'["w", "float32", [1]]\n' + number).hexdigest()
    states = hashlib.sha256(f"{state}\n{state}".encode()).hexdigest()
    metadata = {"spec_hash": spec_hash, "weights_sha256": sha256, "shuffle_state": state, "dropout_state": state}
    tensor = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}
    header = json.dumps({"__metadata__": {**metadata, "states_sha256": states}, "w": tensor}).encode()
    path = folder / "attempt-1.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header + number)
    return path, sha256


def record_of(job: JobSpec, folder: Path, curve: Curve, best: int) -> Record:
    """A record in which all fits."""
    path, sha256 = weights_file(folder, job.hash)
    figures = {name: value for name, value in curve[best - 1].items() if name in RESULT}
    facts = {**FACTS, "world_size": 1}
    return {
        "id": job_id("lab", job.hash, 0), "experiment": "lab", "repeat": 0, "spec": job.model_dump(mode="json"),
        "spec_hash": job.hash, "seed": job.seed, "attempt": 1, "parent_id": None, "parent_hash": job.parent,
        "outcome": "succeeded", "environment": facts, "fingerprint": fingerprint(facts),
        "result": {
            **RESULT, **figures, "attempt": 1, "best_epoch": best, "epochs_run": len(curve), "weights_file": str(path),
            "weights_sha256": sha256, "train_seconds": sum(epoch["seconds"] for epoch in curve),
        },
    }  # fmt: skip


EARLY = {"validation": 0.1, "patience": 2, "epochs": 9}
JOB = spec(**EARLY)
LOSSES = (0.5, 0.4, 0.4, 0.6)  # the second is the best, and two more do not get below it


@pytest.fixture
def record(tmp_path: Path) -> Record:
    return record_of(JOB, tmp_path, curve_of(*LOSSES), best=2)


@pytest.fixture
def curve() -> Curve:
    return curve_of(*LOSSES)


@pytest.mark.parametrize(
    ("keys", "losses", "best"),
    [
        (EARLY, LOSSES, 2),
        ({**EARLY, "epochs": 3}, (0.5, 0.4, 0.6), 2),
        ({**EARLY, "epochs": 3}, (0.5, 0.4, 0.3), 3),
        ({"validation": 0.1, "epochs": 3}, (0.5, 0.4, 0.6), 3),
    ],
)
def test_a_sound_record_has_no_misfit(
    tmp_path: Path, keys: dict[str, Any], losses: tuple[float, ...], best: int
) -> None:
    job, curve = spec(**keys), curve_of(*losses)
    found = audit(record_of(job, tmp_path, curve, best), curve)
    assert (found.misfits, found.unchecked, found.spec) == ([], [], job)


def test_a_record_of_a_job_that_goes_on_from_another_fits_too(tmp_path: Path) -> None:
    child, curve = child_of(JOB, validation=0.1, epochs=2), curve_of(0.5, 0.4)
    record = record_of(child, tmp_path, curve, best=2)
    assert audit(record, curve).misfits == []
    assert "parent: " in audit({**record, "parent_hash": "ab" * 32}, curve).misfits[0]
    assert "parent: " in audit({**record, "parent_hash": None}, curve).misfits[0]


def put(*path: str, value: object) -> Callable[[Record, Curve], None]:
    """Changes one thing of a record."""

    def change(record: Record, _: Curve) -> None:
        for name in path[:-1]:
            record = record[name]
        assert record[path[-1]] != value
        record[path[-1]] = value

    return change


def put_epoch(number: int, name: str, value: object) -> Callable[[Record, Curve], None]:
    def change(_: Record, curve: Curve) -> None:
        assert curve[number - 1][name] != value
        curve[number - 1][name] = value

    return change


def other_spec_and_hash(record: Record, _: Curve) -> None:
    other = spec(**EARLY, lr=0.5)
    record.update(spec=other.model_dump(mode="json"), spec_hash=other.hash)


SPECS = {
    "another learning rate": (put("spec", "lr", value=0.5), "spec: it has the hash"),
    "no learning rate": (put("spec", "lr", value=-1), "its spec is none: lr must be a number above 0"),
    "another hash": (put("spec_hash", value="ab" * 32), "spec: it has the hash"),
    "another spec with its hash": (other_spec_and_hash, "the job's id is not that of this spec"),
    "another repeat": (put("repeat", value=1), "the job's id is not that of this spec"),
    "another experiment": (put("experiment", value="other"), "the job's id is not that of this spec"),
    "another seed": (put("seed", value=7), "seed: 42 in the spec, 7 beside it"),
    "a parent": (put("parent_hash", value="ab" * 32), "parent: the spec goes on from another job"),
    "no result": (put("result", value=None), "its result is gone"),
}


@pytest.mark.parametrize(("change", "message"), SPECS.values(), ids=SPECS.keys())
def test_a_spec_that_cannot_be_the_filed_one_is_told_and_can_not_be_run(
    record: Record, curve: Curve, change: Callable[[Record, Curve], None], message: str
) -> None:
    change(record, curve)
    found = audit(record, curve)
    assert message in found.misfits[0]
    assert found.spec is None


MISFITS = {
    "right answers": (put("result", "test_correct", value=450), "test_correct: 450 in the result, 402 in epoch 2"),
    "test loss": (put("result", "test_loss", value=0.1), "test_loss: 0.1 in the result, 0.75 in epoch 2"),
    "validation": (put("result", "validation_correct", value=None), "validation_correct: None in the result, 100 in"),
    "right answers of the best epoch": (put_epoch(2, "test_correct", 450), "test_correct: 402 in the result, 450 in"),
    "more right answers than images": (put_epoch(1, "test_correct", 501), "test_correct: 501 of 500 in epoch 1"),
    "fewer than none": (put_epoch(3, "validation_correct", -1), "validation_correct: -1 of 130 in epoch 3"),
    "fewer images": (put_epoch(1, "test_total", 450), "test_total: 450 in epoch 1, and the data have 500"),
    "another best epoch": (put("result", "best_epoch", value=1), "best_epoch: 1 in the result, 2 by the curve"),
    "a best epoch that there is not": (put("result", "best_epoch", value=9), "best_epoch: 9 in the result, 2 by the"),
    "a better validation loss": (put_epoch(3, "validation_loss", 0.1), "best_epoch: 2 in the result, 3 by the curve"),
    "no validation loss": (put_epoch(2, "validation_loss", None), "best_epoch: 2 in the result, 3 by the curve"),
    "fewer epochs": (put("result", "epochs_run", value=3), "epochs_run: 3 in the result, and the curve has 4"),
    "an epoch twice": (put_epoch(4, "epoch", 3), "epochs_run: 4 in the result"),
    "less time": (put("result", "train_seconds", value=0.01), "train_seconds: the result has another time"),
    "another attempt": (put("result", "attempt", value=2), "attempt: the result is of attempt 2"),
    "an attempt that failed": (put("outcome", value="failed"), "attempt: the result is of attempt 1"),
    "another environment": (put("environment", "threads", value=2), "environment: its facts are not those"),
    "no environment": (put("environment", value=None), "environment: it is not recorded"),
    "another device": (put("result", "device", value="cuda"), "device: cuda in the result, cpu in the environment"),
    "more processes": (put("result", "world_size", value=2), "world_size: 2 in the result, 1 in the environment"),
    "other weights": (put("result", "weights_sha256", value="ab" * 32), "does not hold the recorded ones"),
}


@pytest.mark.parametrize(("change", "message"), MISFITS.values(), ids=MISFITS.keys())
def test_what_does_not_fit_is_named(
    record: Record, curve: Curve, change: Callable[[Record, Curve], None], message: str
) -> None:
    record, curve = copy.deepcopy(record), copy.deepcopy(curve)
    change(record, curve)
    found = audit(record, curve)
    assert any(message in misfit for misfit in found.misfits), found.misfits
    assert found.spec == JOB


def test_a_job_must_not_end_before_its_spec_says_so(tmp_path: Path) -> None:
    for keys in (EARLY, {"validation": 0.1, "epochs": 9}):
        curve = curve_of(0.5, 0.4, 0.6)
        best = 2 if "patience" in keys else 3
        found = audit(record_of(spec(**keys), tmp_path, curve, best), curve)
        assert found.misfits == ["epochs_run: 3 is not where this spec stops"]


def test_the_file_of_another_jobs_weights_is_told(record: Record, curve: Curve, tmp_path: Path) -> None:
    weights_file(tmp_path, "ab" * 32)
    assert "says that it is of another job" in audit(record, curve).misfits[0]


def test_a_damaged_file_is_told(record: Record, curve: Curve) -> None:
    path = Path(record["result"]["weights_file"])
    path.write_bytes(path.read_bytes()[:-1])
    assert audit(record, curve).misfits == [f"weights: {path} is damaged"]


def test_a_file_that_cannot_be_read_from_here_is_said_and_refutes_nothing(record: Record, curve: Curve) -> None:
    path = Path(record["result"]["weights_file"])
    path.unlink()
    found = audit(record, curve)
    assert (found.misfits, found.unchecked) == ([], [f"the weights: {path}: No such file or directory"])
