"""What results say about each test image: inconsistencies are named, and reruns are compared with it."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mlpq.image_records import CalibrationBin, ResultImages
from mlpq.records import EpochMetrics, StoredResult
from mlpq.verification.audit import audit
from mlpq.verification.grading import Run, judge
from mlpq.verification_records import Grade
from mlpq.weights_format import predictions_sha256
from tests.support.job_steps import RESULT
from tests.unit.test_audit import ANYWHERE, JOB, LOSSES, curve_of, record_of, weights_path

LABELS = np.arange(500) % 2
PREDICTED = np.where(np.arange(500) < 402, LABELS, 1 - LABELS).astype(np.uint8)  # the first 402 are correct


def images_of(predicted: np.ndarray[tuple[int], np.dtype[np.uint8]], confidence: float = 0.8) -> ResultImages:
    """Of two classes, all predictions with one confidence."""
    correct = predicted == LABELS
    bins = [CalibrationBin(0, 0.0, 0)] * 15
    bins[int(confidence * 15)] = CalibrationBin(500, 500 * confidence, int(correct.sum()))
    confusion = np.bincount(LABELS * 2 + predicted, minlength=4).reshape(2, 2).tolist()
    return ResultImages(np.packbits(correct).tobytes(), predictions_sha256(predicted.tobytes()), confusion, bins)


IMAGES = images_of(PREDICTED)


def add_predictions(path: Path, predicted: bytes) -> None:
    """Add predictions to the metadata of a file of weights."""
    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    header["__metadata__"] |= {
        "predictions": base64.b64encode(predicted).decode(),
        "predictions_sha256": predictions_sha256(predicted),
    }
    new = json.dumps(header).encode()
    path.write_bytes(len(new).to_bytes(8, "little") + new + content[8 + length :])


@pytest.fixture
def record(tmp_path: Path) -> StoredResult:
    """A result with 402 of 500 images and its file of weights with the predictions."""
    found = record_of(JOB, tmp_path, curve_of(*LOSSES), best=2)
    add_predictions(weights_path(found), PREDICTED.tobytes())
    return found


@pytest.fixture
def curve() -> list[EpochMetrics]:
    return curve_of(*LOSSES)


def test_consistent_images_have_no_misfit(record: StoredResult, curve: list[EpochMetrics]) -> None:
    found = audit(record, curve, ANYWHERE, IMAGES)
    assert (found.misfits, found.unchecked) == ([], [])


Change = Callable[[ResultImages], ResultImages]
MISFITS: dict[str, tuple[Change, str]] = {
    "another bit": (
        lambda images: replace(images, correct=bytes([images.correct[0] & 127, *images.correct[1:]])),
        "bitmap: 401 of 500 correct, 402 of 500 in the result",
    ),
    "another place of a bit": (
        lambda images: replace(images, correct=bytes([*images.correct[1:-1], 0, images.correct[0]])),
        "confusion: the counts are not those of the predictions in the file of weights",
    ),
    "a shorter bitmap": (
        lambda images: replace(images, correct=images.correct[:-1]),
        "bitmap: 402 of 496 correct, 402 of 500 in the result",
    ),
    "another confusion": (
        lambda images: replace(images, confusion=[[201, 50], [49, 201]]),
        "confusion: 402 of 501 correct, 402 of 500 in the result",
    ),
    "the rows of a confusion": (
        lambda images: replace(images, confusion=[[202, 49], [49, 200]]),
        "confusion: the counts are not those of the predictions in the file of weights",
    ),
    "another calibration": (
        lambda images: replace(images, calibration=[*images.calibration[:-1], CalibrationBin(0, 0.0, 1)]),
        "calibration: 403 of 500 correct, 402 of 500 in the result",
    ),
    "other predictions": (
        lambda images: replace(images, predictions_sha256="ab" * 32),
        "predictions: the file of weights does not hold the recorded ones",
    ),
}


@pytest.mark.parametrize(("change", "message"), MISFITS.values(), ids=MISFITS.keys())
def test_misfit_of_images_is_named(
    record: StoredResult, curve: list[EpochMetrics], change: Change, message: str
) -> None:
    assert message in audit(record, curve, ANYWHERE, change(IMAGES)).misfits


def test_predictions_with_a_wrong_hash_are_damage(record: StoredResult, curve: list[EpochMetrics]) -> None:
    path = weights_path(record)
    content = path.read_bytes()
    start = content.index(b'"predictions": "') + len(b'"predictions": "')
    path.write_bytes(content[:start] + (b"B" if content[start : start + 1] == b"A" else b"A") + content[start + 1 :])
    assert audit(record, curve, ANYWHERE, IMAGES).misfits == [f"weights: {path} is damaged"]


def run(images: ResultImages | None, device: str = "cpu", weights_sha256: str = "ab" * 32) -> Run:
    result = replace(RESULT, test_correct=402, device=device, weights_sha256=weights_sha256)
    return Run(result, curve_of(0.5, 0.4), {"device": device, "world_size": 1}, images)


OTHER = images_of(np.where(np.arange(500) >= 98, LABELS, 1 - LABELS).astype(np.uint8))  # 402 others are correct
NEARLY = images_of(np.where(np.arange(500) == 0, 1 - PREDICTED, PREDICTED))


def changes(recorded: Run, now: Run) -> dict[str, tuple[object, object]]:
    figures = judge(recorded, now).figures
    return {figure.name: (figure.recorded, figure.now) for figure in figures if not figure.is_same}


def test_equal_images_have_the_same_bits() -> None:
    assert judge(run(IMAGES), run(IMAGES)).grade is Grade.SAME_BITS
    assert changes(run(IMAGES), run(IMAGES)) == {}


def test_results_without_images_are_graded_by_their_figures() -> None:
    for recorded, now in ((None, IMAGES), (IMAGES, None), (None, None)):
        assert judge(run(recorded), run(now)).grade is Grade.SAME_BITS


def test_other_images_on_the_cpu_refute() -> None:
    assert judge(run(IMAGES), run(OTHER)).grade is Grade.REFUTED
    assert changes(run(IMAGES), run(OTHER))["different_images"] == (0, 196)
    assert judge(run(IMAGES), run(replace(IMAGES, calibration=OTHER.calibration[::-1]))).grade is Grade.REFUTED


def test_other_weights_off_the_cpu_may_err_elsewhere() -> None:
    """Counts and losses agree: two trainings whose bits differ."""
    recorded = run(IMAGES, "cuda")
    assert judge(recorded, run(OTHER, "cuda", "cd" * 32)).grade is Grade.SAME_FIGURES


def test_equal_weights_err_on_the_same_images_up_to_the_tolerance() -> None:
    recorded = run(IMAGES, "cuda")
    assert judge(recorded, run(NEARLY, "cuda")).grade is Grade.SAME_FIGURES
    found = judge(recorded, run(OTHER, "cuda"))
    assert found.grade is Grade.REFUTED
    assert "do not give the recorded figures" in found.reason


def test_expected_calibration_error() -> None:
    """Two bins: 300 images with accuracy 0.9 and confidence 0.8, 200 with 0.5 and 0.6."""
    bins = [CalibrationBin(300, 240.0, 270), CalibrationBin(200, 120.0, 100)]
    bins += [CalibrationBin(0, 0.0, 0)] * (13)
    assert replace(IMAGES, calibration=bins).calibration_error == pytest.approx(0.6 * 0.1 + 0.4 * 0.1)
