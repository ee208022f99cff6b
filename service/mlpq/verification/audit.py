"""Audits a finished job: whether the stored rows and files are consistent. Runs nothing."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from mlpq.errors import DataError, SpecError
from mlpq.image_records import ResultImages
from mlpq.jobs import Outcome, fingerprint, job_id
from mlpq.records import EpochMetrics, JobResult, StoredResult
from mlpq.regular_files import check_inside
from mlpq.spec.job import JobSpec, parse_spec
from mlpq.verification import weights
from mlpq.verification.grading import BEST_EPOCH_FIGURES
from mlpq.weights_format import predictions_sha256

IMAGES_NOT_RECORDED = "which test images it classifies correctly: not recorded, as by versions before 0.2"


@dataclass(frozen=True, slots=True)
class Audit:
    """`misfits` are inconsistencies, and `unchecked` are parts that could not be checked, each as a line of text.

    `spec` is the job's spec; None where the stored one can't be the submitted one.
    """

    spec: JobSpec | None
    misfits: Sequence[str]
    unchecked: Sequence[str]


def audit(
    stored: StoredResult, curve: Sequence[EpochMetrics], artifacts_dir: Path, images: ResultImages | None = None
) -> Audit:
    """Check a succeeded job against its curve, its attempt, its images, and its file of weights in `artifacts_dir`."""
    try:
        spec = parse_spec(stored.spec)
    except SpecError as error:
        return Audit(None, [f"spec: not valid: {error}"], [])
    wrong = list(_check_spec(stored, spec))
    if wrong or stored.result is None:
        missing = f"result: unreadable: {stored.problem}" if stored.problem else "result: missing"
        return Audit(None, wrong or [missing], [])
    unchecked: list[str] = []
    misfits = [
        *_check_epochs(stored.result, curve, spec),
        *_check_figures(stored.result, curve, spec),
        *_check_attempt(stored, stored.result),
        *_check_images(stored.result, images, unchecked),
        *_check_weights(stored.result, images, spec, artifacts_dir, unchecked),
    ]
    return Audit(spec, misfits, unchecked)


def _check_spec(stored: StoredResult, spec: JobSpec) -> Iterator[str]:
    if spec.hash != stored.spec_hash:
        yield f"spec: its hash is {spec.hash[:12]}…, the recorded one {stored.spec_hash[:12]}…"
    elif stored.id != job_id(stored.experiment, spec.hash, stored.repeat):
        yield f"spec: the job's id is not that of this spec in the experiment {stored.experiment}"
    if spec.seed != stored.seed:
        yield f"seed: {spec.seed} in the spec, {stored.seed} in the job's row"
    if spec.parent != stored.parent_hash:
        yield "parent: the spec continues from another job than the recorded parent"


def _check_epochs(result: JobResult, curve: Sequence[EpochMetrics], spec: JobSpec) -> Iterator[str]:
    """The curve has the epochs that this spec trains, and the best epoch is the one that the spec selects."""
    if [epoch.epoch for epoch in curve] != list(range(1, result.epochs_run + 1)):
        yield f"epochs_run: {result.epochs_run} in the result, and the curve has {len(curve)} epochs"
        return
    best = result.epochs_run
    if spec.patience is not None:
        best = min(curve, key=lambda epoch: (epoch.validation_loss is None, epoch.validation_loss)).epoch
    if result.best_epoch != best:
        yield f"best_epoch: {result.best_epoch} in the result, {best} by the curve"
    if result.epochs_run != (spec.epochs if spec.patience is None else min(spec.epochs, best + spec.patience)):
        yield f"epochs_run: this spec does not stop after epoch {result.epochs_run}"
    if not math.isclose(result.train_seconds, sum(epoch.seconds for epoch in curve), rel_tol=1e-9):
        yield "train_seconds: the result's time is not the sum of the epochs' times"


def _check_figures(result: JobResult, curve: Sequence[EpochMetrics], spec: JobSpec) -> Iterator[str]:
    """The result has the figures of its best epoch, and the totals are the sizes of the data."""
    for best in [epoch for epoch in curve if epoch.epoch == result.best_epoch]:
        for name in BEST_EPOCH_FIGURES:
            old, new = getattr(result, name), getattr(best, name)
            if old != new:
                yield f"{name}: {old} in the result, {new} in epoch {best.epoch} of the curve"
    checked: list[tuple[str, JobResult | EpochMetrics]] = [("the result", result)]
    checked += [(f"epoch {epoch.epoch}", epoch) for epoch in curve]
    for where, figures in checked:
        for part, correct, total, size in (
            ("test", figures.test_correct, figures.test_total, spec.data.test),
            ("validation", figures.validation_correct, figures.validation_total, spec.validation_size or None),
        ):
            if total != size:
                yield f"{part}_total: {total} in {where}, and the data have {size}"
            elif correct is not None and not 0 <= correct <= (total or 0):
                yield f"{part}_correct: {correct} of {total} in {where}"


def _check_attempt(stored: StoredResult, result: JobResult) -> Iterator[str]:
    """The result is that of the last attempt, which succeeded, and its environment is unchanged."""
    if stored.result_attempt != stored.attempt or stored.outcome is not Outcome.SUCCEEDED:
        yield f"attempt: the result is of attempt {stored.result_attempt}, which is not the one that succeeded"
    if stored.environment is None:
        yield "environment: not recorded"
        return
    if fingerprint(stored.environment) != stored.fingerprint:
        yield "environment: its facts do not match its fingerprint"
    for name, recorded in (("device", result.device), ("world_size", result.world_size)):
        if stored.environment.get(name) != recorded:
            yield f"{name}: {recorded} in the result, {stored.environment.get(name)} in the environment"


def _check_images(result: JobResult, images: ResultImages | None, unchecked: list[str]) -> Iterator[str]:
    """What is recorded about each test image adds up to the result; added to `unchecked` where nothing is recorded."""
    if images is None:
        unchecked.append(IMAGES_NOT_RECORDED)
        return
    confusion, bins, whole = images.confusion, images.calibration, -(-result.test_total // 8)
    found = {
        "bitmap": (
            images.correct_count,
            result.test_total if len(images.correct) == whole else 8 * len(images.correct),
        ),
        "confusion": (sum(row[i] for i, row in enumerate(confusion)), sum(map(sum, confusion))),
        "calibration": (sum(each.correct for each in bins), sum(each.images for each in bins)),
    }
    for name, (correct, total) in found.items():
        if (correct, total) != (result.test_correct, result.test_total):
            yield f"{name}: {correct} of {total} correct, {result.test_correct} of {result.test_total} in the result"


def _check_predictions(images: ResultImages, predictions: bytes) -> Iterator[str]:
    """The predicted classes give the recorded hash, and with the bitmap the margins of the confusion matrix."""
    if predictions_sha256(predictions) != images.predictions_sha256:
        yield "predictions: the file of weights does not hold the recorded ones"
        return
    bits = "".join(f"{byte:08b}" for byte in images.correct)
    correct = Counter(each for each, bit in zip(predictions, bits, strict=False) if bit == "1")
    predicted = Counter(predictions)
    for i, row in enumerate(images.confusion):
        if (correct[i], predicted[i]) != (row[i], sum(each[i] for each in images.confusion)):
            yield "confusion: the counts are not those of the predictions in the file of weights"
            return


def _check_weights(
    result: JobResult, images: ResultImages | None, spec: JobSpec, artifacts_dir: Path, unchecked: list[str]
) -> Iterator[str]:
    """The file holds the recorded weights of this spec, and its predictions.

    A file that can't be read here is added to `unchecked`.
    """
    path = Path(result.weights_file)
    try:
        check_inside(path, artifacts_dir)
        file = weights.read(path, spec.parameters)
    except (OSError, ValueError) as error:  # ValueError: a path with a null character
        unchecked.append(f"the weights: {path}: {getattr(error, 'strerror', None) or error}")
        return
    except DataError as error:
        yield f"weights: {error}"
        return
    if file.sha256 != result.weights_sha256:
        yield f"weights: {path} does not hold the recorded weights"
    elif file.metadata.get("weights_sha256") != file.sha256 or file.metadata.get("spec_hash") != spec.hash:
        yield f"weights: {path} belongs to another job, by its metadata"
    elif images is not None:
        yield from _check_predictions(images, file.predictions or b"")
