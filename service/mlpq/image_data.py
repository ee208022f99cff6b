"""The test images of a data set and their classes, read without torch."""

from __future__ import annotations

import hashlib
import importlib.util
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mlpq.errors import DataError
from mlpq.spec.datasets import FILES, Dataset, find, read_bytes, verify

IDX_HEADERS = (16, 8)  # bytes before the pixels and before the labels
DIGITS_FILE = "datasets/data/digits.csv.gz"  # in scikit-learn; one row per image, its label in the last column
DIGITS_MAX = 16  # the largest pixel value of digits; that of the other data sets is 255


@dataclass(frozen=True)
class TestSet:
    """The pixels of the test images, [n, side, side] from 0 (background) to `white`, and their classes, [n]."""

    pixels: NDArray[np.uint8]
    labels: NDArray[np.uint8]
    white: int


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
    """The pixels of digits, [n, features], and their classes, [n], from scikit-learn's file; raises DataError.

    Importing scikit-learn would take a second.
    """
    package = importlib.util.find_spec("sklearn")
    if package is None or package.origin is None:
        raise DataError("digits is part of scikit-learn, which is not installed: pip install scikit-learn")
    try:
        rows = np.loadtxt(Path(package.origin).parent / DIGITS_FILE, dtype=np.uint8, delimiter=",", ndmin=2)
    except (OSError, ValueError) as error:
        raise DataError(f"can't read the digits of this scikit-learn: {error}") from error
    pixels, labels = rows[:, :-1], rows[:, -1]
    if hashlib.md5(pixels.tobytes() + labels.tobytes()).hexdigest() != (dataset.md5 or {})["digits"]:
        raise DataError("the digits of this scikit-learn don't have the registered checksum: reinstall scikit-learn")
    return pixels, labels
