"""What is recorded about each test image with a result."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mlpq.image_records import (
    CALIBRATION_BINS,
    MOST_PAIRS,
    MOST_WHOLE,
    CalibrationBin,
    Confusion,
    ResultImages,
    SparseConfusion,
)
from mlpq.weights_format import predictions_sha256
from mlpq_workers.engine.training_state import Predictions

Classes = NDArray[np.int64]


def result_images(predictions: Predictions, labels: NDArray[np.int64], classes: int) -> ResultImages:
    """Count the predictions against the labels, [n], of which there are `classes`."""
    predicted = predictions.classes
    confidences = predictions.confidences.astype(np.float64)
    is_correct = predicted == labels
    bins = np.clip(np.ceil(confidences * CALIBRATION_BINS).astype(int) - 1, 0, CALIBRATION_BINS - 1)
    counts, sums, hits = (
        np.bincount(bins, weights, minlength=CALIBRATION_BINS).tolist() for weights in (None, confidences, is_correct)
    )
    return ResultImages(
        correct=np.packbits(is_correct).tobytes(),
        predictions_sha256=predictions_sha256(predicted.tobytes()),
        confusion=_confusion(labels, predicted.astype(np.int64), classes),
        calibration=[CalibrationBin(*each) for each in zip(counts, sums, map(int, hits), strict=True)],
    )


def _confusion(labels: Classes, predicted: Classes, classes: int) -> list[list[int]] | SparseConfusion:
    if classes <= MOST_WHOLE:
        matrix = np.bincount(labels * classes + predicted, minlength=classes**2).reshape(classes, classes)
        return matrix.tolist()
    is_correct = predicted == labels
    totals, columns, correct = (
        np.bincount(each, minlength=classes).tolist() for each in (labels, predicted, labels[is_correct])
    )
    wrong = (labels * classes + predicted)[~is_correct]
    entries, counts = np.unique(wrong, return_counts=True)
    order = np.argsort(-counts, kind="stable")[:MOST_PAIRS]
    found = zip(
        (entries[order] // classes).tolist(), (entries[order] % classes).tolist(), counts[order].tolist(), strict=True
    )
    return SparseConfusion(totals, columns, correct, [Confusion(*each) for each in found])
