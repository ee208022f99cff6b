"""The test images of a data set and their classes, read without torch."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files as package_files
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlpq.errors import DataError
from mlpq.spec.datasets import FILES, Dataset, find, read_bytes, verify

IDX_HEADERS = (16, 8)  # bytes before the pixels and before the labels
# That of scikit-learn, of which mlpq needs nothing else; one row per image, its label in the last column.
DIGITS_FILE = "data/digits.csv.gz"
DIGITS_MAX = 16  # the largest pixel value of digits; that of the other data sets is 255


@dataclass(frozen=True)
class FeatureRows:
    """Features of rows that are no images, [n, features], and their names; they were `divide`d after a subtraction."""

    names: Sequence[str]
    values: NDArray[np.float32] | NDArray[np.uint8]
    subtract: NDArray[np.float64] | float = 0.0
    divide: NDArray[np.float64] | float = 1.0

    def row(self, number: int) -> list[float]:
        """The features of a row as they were in the source, up to rounding."""
        found: list[float] = (self.values[number] * self.divide + self.subtract).tolist()
        return found


@dataclass(frozen=True)
class TestSet:
    """The test rows: their classes, [n], and what they look like.

    `pixels` are those of images, [n, height, width] or with three colors, from 0 to `white`; `rows` are the features of
    others. One of the two is None.
    """

    pixels: NDArray[np.uint8] | None
    labels: NDArray[Any]
    white: int
    rows: FeatureRows | None = None


def read_test_set(dataset: Dataset, data_dir: Path) -> TestSet:
    """The test set on this machine; raises DataError where it is not here or damaged. Downloads nothing."""
    side = math.isqrt(dataset.features)
    if dataset.bundled:
        pixels, labels = read_digits(dataset)
        return TestSet(pixels[dataset.train :].reshape(-1, side, side), labels[dataset.train :], DIGITS_MAX)
    folder = find(dataset, data_dir)
    if folder is None:
        raise DataError(f"{dataset.name} is not on this machine")
    files = verify(dataset, folder)
    pixels, labels = (
        np.frombuffer(read_bytes(files[name]), np.uint8, offset=header)
        for name, header in zip(FILES[2:], IDX_HEADERS, strict=True)
    )
    return TestSet(pixels.reshape(-1, side, side), labels, white=255)


def read_digits(dataset: Dataset) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """The pixels of digits, [n, features], and their classes, [n]; raises DataError."""
    try:
        rows = np.loadtxt(str(package_files("mlpq") / DIGITS_FILE), dtype=np.uint8, delimiter=",", ndmin=2)
    except (OSError, ValueError) as error:
        raise DataError(f"can't read the digits that came with mlpq ({error}): install mlpq again") from error
    pixels, labels = rows[:, :-1], rows[:, -1]
    if hashlib.md5(pixels.tobytes() + labels.tobytes()).hexdigest() != (dataset.md5 or {})["digits"]:
        raise DataError("the digits that came with mlpq were changed, by their checksum: install mlpq again")
    return pixels, labels
