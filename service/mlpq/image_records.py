"""What a result says about each test image: which of them it classifies correctly, as what, and how confidently."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar, NamedTuple

from pydantic import ConfigDict, Field

CALIBRATION_BINS = 15


Count = Annotated[int, Field(ge=0)]


class CalibrationBin(NamedTuple):
    """The test images whose predicted class has a probability in one of CALIBRATION_BINS equal intervals of (0, 1].

    `confidence` is the sum of those probabilities, `correct` counts the images that are classified correctly.
    """

    images: Count
    confidence: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    correct: Count


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

    correct: Annotated[bytes, Field(strict=True)]
    predictions_sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    confusion: Sequence[Sequence[Count]]
    calibration: Annotated[Sequence[CalibrationBin], Field(min_length=CALIBRATION_BINS, max_length=CALIBRATION_BINS)]

    def fits(self, classes: int, images: int) -> bool:
        """Whether it is of so many classes, each with images, and of so many images."""
        rows = self.confusion
        is_square = len(rows) == classes and all(len(row) == classes and sum(row) for row in rows)
        return is_square and sum(map(sum, rows)) == images and len(self.correct) == -(-images // 8)

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
        return distance / max(1, sum(each.images for each in self.calibration))

    @property
    def sha256(self) -> str:
        """SHA-256 over all of it, 64 hexadecimal digits."""
        document = [self.correct.hex(), self.predictions_sha256, self.confusion, self.calibration]
        return hashlib.sha256(json.dumps(document).encode()).hexdigest()

    def different_images(self, other: ResultImages) -> int:
        """How many images one of the two classifies correctly and the other one doesn't."""
        return (int.from_bytes(self.correct) ^ int.from_bytes(other.correct)).bit_count()
