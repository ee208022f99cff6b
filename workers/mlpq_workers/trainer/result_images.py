"""What is recorded about each test image with a result."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from mlpq.image_records import CALIBRATION_BINS, CalibrationBin, ResultImages
from mlpq.weights_format import predictions_sha256
from mlpq_workers.engine.training_state import Predictions


def result_images(predictions: Predictions, labels: Tensor, classes: int) -> ResultImages:
    """Count the predictions against the labels, int64 [n] on the CPU, of which there are `classes`."""
    predicted, actual = predictions.classes.numpy(), labels.numpy()
    confidences = predictions.confidences.numpy().astype(np.float64)
    is_correct = predicted == actual
    confusion = np.bincount(actual * classes + predicted, minlength=classes**2).reshape(classes, classes)
    bins = np.clip(np.ceil(confidences * CALIBRATION_BINS).astype(int) - 1, 0, CALIBRATION_BINS - 1)
    counts, sums, hits = (
        np.bincount(bins, weights, minlength=CALIBRATION_BINS).tolist() for weights in (None, confidences, is_correct)
    )
    return ResultImages(
        correct=np.packbits(is_correct).tobytes(),
        predictions_sha256=predictions_sha256(predicted.tobytes()),
        confusion=confusion.tolist(),
        calibration=[CalibrationBin(*each) for each in zip(counts, sums, map(int, hits), strict=True)],
    )
