"""What a result says about each test image: which of them it classifies correctly, as what, and how confidently."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Annotated, ClassVar, NamedTuple

from pydantic import ConfigDict, Field

CALIBRATION_BINS = 15
MOST_WHOLE = 100  # classes up to which a confusion matrix is stored whole
MOST_PAIRS = 20_000  # confusions that are stored of more classes

Count = Annotated[int, Field(ge=0)]


class CalibrationBin(NamedTuple):
    """The test images whose predicted class has a probability in one of CALIBRATION_BINS equal intervals of (0, 1].

    `confidence` is the sum of those probabilities, `correct` counts the images that are classified correctly.
    """

    images: Count
    confidence: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    correct: Count


class Confusion(NamedTuple):
    """How many test images of the class `true` are predicted as another class."""

    true: Count
    predicted: Count
    images: Count


@dataclass(frozen=True, slots=True)
class SparseConfusion:
    """A confusion matrix of many classes: by class how many images are of it, are predicted as it, and are both.

    `pairs` are the other entries, the largest first: at most MOST_PAIRS, so small ones may be missing.
    """

    totals: Sequence[Count]
    predicted: Sequence[Count]
    correct: Sequence[Count]
    pairs: Sequence[Confusion]

    @classmethod
    def of(cls, matrix: Sequence[Sequence[int]]) -> SparseConfusion:
        """That of a whole matrix, without the entries that are 0."""
        pairs = [Confusion(i, j, n) for i, row in enumerate(matrix) for j, n in enumerate(row) if n and i != j]
        return cls(
            totals=[sum(row) for row in matrix],
            predicted=[sum(column) for column in zip(*matrix, strict=False)],
            correct=[row[i] if i < len(row) else 0 for i, row in enumerate(matrix)],
            pairs=sorted(pairs, key=lambda pair: (-pair.images, pair.true, pair.predicted)),
        )

    def fits(self, classes: int) -> bool:
        """Whether it is one of so many classes."""
        counts = (self.totals, self.predicted, self.correct)
        is_complete = all(len(each) == classes for each in counts) and sum(self.totals) == sum(self.predicted)
        is_inside = all(max(pair.true, pair.predicted) < classes for pair in self.pairs)
        return is_complete and is_inside and all(map(int.__le__, self.correct, self.totals))


@dataclass(frozen=True, slots=True)
class ResultImages:
    """What a result says about each test image, in the order of the test set.

    `correct` is a bitmap, as numpy.packbits makes it: the bit of image i, the (i % 8)th of byte i // 8 from the most
    significant one on, says whether it is classified correctly. `predictions_sha256` is the hash of the predicted
    classes, which the file of weights has. `confusion[i][j]` counts the images of class i that are predicted as class
    j; of more than MOST_WHOLE classes it is sparse.
    """

    # In JSON the bitmap is base64.
    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(ser_json_bytes="base64", val_json_bytes="base64")

    correct: Annotated[bytes, Field(strict=True)]
    predictions_sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    confusion: Sequence[Sequence[Count]] | SparseConfusion
    calibration: Annotated[Sequence[CalibrationBin], Field(min_length=CALIBRATION_BINS, max_length=CALIBRATION_BINS)]

    def fits(self, classes: int, images: int) -> bool:
        """Whether it is of so many classes, and of so many images."""
        matrix, sparse = self.confusion, self.sparse
        is_square = isinstance(matrix, SparseConfusion) or all(len(row) == len(matrix) for row in matrix)
        is_whole = sum(sparse.totals) == images and len(self.correct) == -(-images // 8)
        return is_square and is_whole and sparse.fits(classes)

    @property
    def sparse(self) -> SparseConfusion:
        """The confusion matrix as a sparse one."""
        matrix = self.confusion
        return matrix if isinstance(matrix, SparseConfusion) else SparseConfusion.of(matrix)

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
        matrix = asdict(self.confusion) if isinstance(self.confusion, SparseConfusion) else self.confusion
        document = [self.correct.hex(), self.predictions_sha256, matrix, self.calibration]
        return hashlib.sha256(json.dumps(document).encode()).hexdigest()

    def different_images(self, other: ResultImages) -> int:
        """How many images one of the two classifies correctly and the other one doesn't."""
        return (int.from_bytes(self.correct) ^ int.from_bytes(other.correct)).bit_count()
