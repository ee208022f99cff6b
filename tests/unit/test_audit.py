"""Audits: stored data are consistent, or each inconsistency is named."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mlpq.jobs import Outcome, fingerprint, job_id
from mlpq.records import EpochMetrics, JobResult, StoredResult
from mlpq.spec.job import JobSpec
from mlpq.verification.audit import audit
from tests.support.job_steps import FACTS, RESULT, child_of, spec

Curve = list[EpochMetrics]
IMAGES_NOT_RECORDED = "which test images it classifies correctly: not recorded, as by versions before 0.2"
BEST_EPOCH_FIGURES = (
    "test_correct", "test_total", "test_loss", "validation_correct", "validation_total", "validation_loss",
)  # fmt: skip


def curve_of(*losses: float) -> Curve:
    """An epoch for each validation loss."""
    return [
        EpochMetrics(
            epoch=number, train_loss=1 / number, validation_loss=loss, validation_correct=100, validation_total=130,
            test_loss=1.5 / number, test_correct=400 + number, test_total=500, seconds=0.1,
        )
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


def record_of(job: JobSpec, folder: Path, curve: Curve, best: int) -> StoredResult:
    """A consistent record."""
    path, sha256 = weights_file(folder, job.hash)
    facts = {**FACTS, "world_size": 1}
    figures = {name: getattr(curve[best - 1], name) for name in BEST_EPOCH_FIGURES}
    result = replace(
        RESULT, **figures, best_epoch=best, epochs_run=len(curve), weights_file=str(path), weights_sha256=sha256,
        train_seconds=sum(epoch.seconds for epoch in curve),
    )  # fmt: skip
    return StoredResult(
        id=job_id("lab", job.hash, 0), experiment="lab", repeat=0, spec=job.model_dump(mode="json"),
        spec_hash=job.hash, seed=job.seed, attempt=1, parent_id=None, parent_hash=job.parent,
        outcome=Outcome.SUCCEEDED, environment=facts, fingerprint=fingerprint(facts), result=result, result_attempt=1,
    )  # fmt: skip


ANYWHERE = Path("/")
EARLY: dict[str, object] = {"validation": 0.1, "patience": 2, "epochs": 9}
JOB = spec(**EARLY)
LOSSES = (0.5, 0.4, 0.4, 0.6)  # the second is the best: two more epochs are not below it


@pytest.fixture
def record(tmp_path: Path) -> StoredResult:
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
def test_consistent_record_has_no_misfit(
    tmp_path: Path, keys: dict[str, object], losses: tuple[float, ...], best: int
) -> None:
    job, curve = spec(**keys), curve_of(*losses)
    found = audit(record_of(job, tmp_path, curve, best), curve, tmp_path)
    assert (found.misfits, found.unchecked, found.spec) == ([], [IMAGES_NOT_RECORDED], job)


def test_record_of_a_continued_job_is_consistent(tmp_path: Path) -> None:
    child, curve = child_of(JOB, validation=0.1, epochs=2), curve_of(0.5, 0.4)
    record = record_of(child, tmp_path, curve, best=2)
    assert audit(record, curve, ANYWHERE).misfits == []
    assert "parent: " in audit(replace(record, parent_hash="ab" * 32), curve, ANYWHERE).misfits[0]
    assert "parent: " in audit(replace(record, parent_hash=None), curve, ANYWHERE).misfits[0]


Change = Callable[[StoredResult, Curve], tuple[StoredResult, Curve]]


def put(name: str, value: Any) -> Change:
    """Sets a field of the record; "spec.lr" is an entry of the spec, "result.device" a field of the result."""
    outer, _, inner = name.rpartition(".")

    def change(record: StoredResult, curve: Curve) -> tuple[StoredResult, Curve]:
        changes: dict[str, Any] = {inner: value}
        if outer:
            part = getattr(record, outer)
            is_result = isinstance(part, JobResult)
            assert (getattr(part, inner) if is_result else part[inner]) != value
            changes = {outer: replace(part, **changes) if is_result else {**part, **changes}}
        else:
            assert getattr(record, inner) != value
        return replace(record, **changes), curve

    return change


def put_epoch(number: int, name: str, value: Any) -> Change:
    """Sets a field of an epoch of the curve."""

    def change(record: StoredResult, curve: Curve) -> tuple[StoredResult, Curve]:
        assert getattr(curve[number - 1], name) != value
        changes: dict[str, Any] = {name: value}
        return record, [
            replace(epoch, **changes) if index == number - 1 else epoch for index, epoch in enumerate(curve)
        ]

    return change


def other_spec_and_hash(record: StoredResult, curve: Curve) -> tuple[StoredResult, Curve]:
    other = spec(**EARLY, lr=0.5)
    return replace(record, spec=other.model_dump(mode="json"), spec_hash=other.hash), curve


SPECS = {
    "another learning rate": (put("spec.lr", value=0.5), "spec: its hash is"),
    "an invalid learning rate": (put("spec.lr", value=-1), "spec: not valid: lr must be a number above 0"),
    "another hash": (put("spec_hash", value="ab" * 32), "spec: its hash is"),
    "another spec with its hash": (other_spec_and_hash, "the job's id is not that of this spec"),
    "another repeat": (put("repeat", value=1), "the job's id is not that of this spec"),
    "another experiment": (put("experiment", value="other"), "the job's id is not that of this spec"),
    "another seed": (put("seed", value=7), "seed: 42 in the spec, 7 in the job's row"),
    "a parent": (put("parent_hash", value="ab" * 32), "parent: the spec continues from another job"),
    "no result": (put("result", value=None), "result: missing"),
}


@pytest.mark.parametrize(("change", "message"), SPECS.values(), ids=SPECS.keys())
def test_altered_spec_is_a_misfit_and_is_not_returned(
    record: StoredResult, curve: Curve, change: Change, message: str
) -> None:
    found = audit(*change(record, curve), ANYWHERE)
    assert message in found.misfits[0]
    assert found.spec is None


MISFITS = {
    "right answers": (put("result.test_correct", value=450), "test_correct: 450 in the result, 402 in epoch 2"),
    "test loss": (put("result.test_loss", value=0.1), "test_loss: 0.1 in the result, 0.75 in epoch 2"),
    "test total": (put("result.test_total", value=499), "test_total: 499 in the result, 500 in epoch 2 of the curve"),
    "validation": (put("result.validation_correct", value=None), "validation_correct: None in the result, 100 in"),
    "validation total": (put("result.validation_total", value=1), "validation_total: 1 in the result, 130 in epoch 2"),
    "validation loss": (put("result.validation_loss", value=0.3), "validation_loss: 0.3 in the result, 0.4 in epoch 2"),
    "right answers of the best epoch": (put_epoch(2, "test_correct", 450), "test_correct: 402 in the result, 450 in"),
    "more right answers than images": (put_epoch(1, "test_correct", 501), "test_correct: 501 of 500 in epoch 1"),
    "fewer than none": (put_epoch(3, "validation_correct", -1), "validation_correct: -1 of 130 in epoch 3"),
    "fewer images": (put_epoch(1, "test_total", 450), "test_total: 450 in epoch 1, and the data have 500"),
    "another best epoch": (put("result.best_epoch", value=1), "best_epoch: 1 in the result, 2 by the curve"),
    "a missing best epoch": (put("result.best_epoch", value=9), "best_epoch: 9 in the result, 2 by the"),
    "a better validation loss": (put_epoch(3, "validation_loss", 0.1), "best_epoch: 2 in the result, 3 by the curve"),
    "no validation loss": (put_epoch(2, "validation_loss", None), "best_epoch: 2 in the result, 3 by the curve"),
    "fewer epochs": (put("result.epochs_run", value=3), "epochs_run: 3 in the result, and the curve has 4"),
    "an epoch twice": (put_epoch(4, "epoch", 3), "epochs_run: 4 in the result"),
    "less time": (put("result.train_seconds", value=0.3999999), "train_seconds: the result's time is not the sum of"),
    "more time": (put("result.train_seconds", value=0.4000001), "train_seconds: the result's time is not the sum of"),
    "another attempt": (put("result_attempt", value=2), "attempt: the result is of attempt 2"),
    "an attempt that failed": (put("outcome", value=Outcome.FAILED), "attempt: the result is of attempt 1"),
    "another environment": (put("environment.threads", value=2), "environment: its facts do not match"),
    "no environment": (put("environment", value=None), "environment: not recorded"),
    "another device": (put("result.device", value="cuda"), "device: cuda in the result, cpu in the environment"),
    "more processes": (put("result.world_size", value=2), "world_size: 2 in the result, 1 in the environment"),
    "other weights": (put("result.weights_sha256", value="ab" * 32), "does not hold the recorded weights"),
}


@pytest.mark.parametrize(("change", "message"), MISFITS.values(), ids=MISFITS.keys())
def test_misfit_is_named(record: StoredResult, curve: Curve, change: Change, message: str) -> None:
    found = audit(*change(record, curve), ANYWHERE)
    assert any(message in misfit for misfit in found.misfits), found.misfits
    assert found.spec == JOB


def test_job_that_stopped_too_early_is_a_misfit(tmp_path: Path) -> None:
    to_the_end: dict[str, object] = {"validation": 0.1, "epochs": 9}
    for keys in (EARLY, to_the_end):
        curve = curve_of(0.5, 0.4, 0.6)
        best = 2 if "patience" in keys else 3
        found = audit(record_of(spec(**keys), tmp_path, curve, best), curve, tmp_path)
        assert found.misfits == ["epochs_run: this spec does not stop after epoch 3"]


def weights_path(record: StoredResult) -> Path:
    assert record.result is not None
    return Path(record.result.weights_file)


def test_weights_of_another_job_are_a_misfit(record: StoredResult, curve: Curve, tmp_path: Path) -> None:
    weights_file(tmp_path, "ab" * 32)
    assert "belongs to another job" in audit(record, curve, ANYWHERE).misfits[0]


def test_metadata_with_another_hash_of_the_weights_is_a_misfit(record: StoredResult, curve: Curve) -> None:
    """The weights and the spec are the job's own."""
    path = weights_path(record)
    assert record.result is not None
    sha256 = record.result.weights_sha256.encode()
    content = path.read_bytes()
    assert content.count(sha256) == 1
    path.write_bytes(content.replace(sha256, b"ab" * 32))
    assert audit(record, curve, ANYWHERE).misfits == [f"weights: {path} belongs to another job, by its metadata"]


def test_damaged_weights_are_a_misfit(record: StoredResult, curve: Curve) -> None:
    path = weights_path(record)
    path.write_bytes(path.read_bytes()[:-1])
    assert audit(record, curve, ANYWHERE).misfits == [f"weights: {path} is damaged"]


def test_unreadable_weights_are_unchecked(record: StoredResult, curve: Curve) -> None:
    path = weights_path(record)
    path.unlink()
    found = audit(record, curve, ANYWHERE)
    assert (found.misfits, found.unchecked) == (
        [],
        [IMAGES_NOT_RECORDED, f"the weights: {path}: No such file or directory"],
    )
