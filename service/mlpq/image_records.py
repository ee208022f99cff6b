"""What a result says about each test image: which of them it classifies correctly, as what, and how confidently."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

from pydantic import ConfigDict

CALIBRATION_BINS = 15


class CalibrationBin(NamedTuple):
    """The test images whose predicted class has a probability in one of CALIBRATION_BINS equal intervals of (0, 1].

    `confidence` is the sum of those probabilities, `correct` counts the images that are classified correctly.
    """

    images: int
    confidence: float
    correct: int


@dataclass(frozen=True, slots=True)
class ResultImages:
    """What a result says about each test image, in the order of the test set.

    `correct` is a bitmap, as numpy.packbits makes it: the bit of image i, the (i % 8)th of byte i // 8 from the most
    significant one on, says whether it is classified correctly. `predictions_sha256` is the hash of the predicted
    classes, one byte each, which the file of weights has. `confusion[i][j]` counts the images of class i that are
    predicted as class j.
    """

    # In JSON the bitmap is base64.
    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(ser_json_bytes="base64", val_json_bytes="base64")

    correct: bytes
    predictions_sha256: str
    confusion: Sequence[Sequence[int]]
    calibration: Sequence[CalibrationBin]

    @property
    def correct_count(self) -> int:
        """How many images are classified correctly, by the bitmap."""
        return int.from_bytes(self.correct).bit_count()

    @property
    def calibration_error(self) -> float:
        """The expected calibration error, from 0 to 1: |accuracy - mean confidence|, averaged over the images.

        Naeini et al. 2015; Guo et al. 2017, "On Calibration of Modern Neural Networks", with as many bins.
        """
        distance = sum(abs(each.correct - each.confidence) for each in self.calibration)
        return distance / sum(each.images for each in self.calibration)

    @property
    def sha256(self) -> str:
        """SHA-256 over all of it, 64 hexadecimal digits."""
        document = [self.correct.hex(), self.predictions_sha256, self.confusion, self.calibration]
        return hashlib.sha256(json.dumps(document).encode()).hexdigest()

    def different_images(self, other: ResultImages) -> int:
        """How many images one of the two classifies correctly and the other one doesn't."""
        return (int.from_bytes(self.correct) ^ int.from_bytes(other.correct)).bit_count()
