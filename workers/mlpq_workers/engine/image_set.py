"""A data set in memory, as it is read: NumPy arrays that each engine takes in its own way."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class ImageSet:
    """Features, uint8 or float32 [n, features], and class indices, int64 [n], of the training and of the test rows.

    A network sees the features divided by `scale`: pixels of images are then in [0, 1], and floats have the scale 1.
    `source` is the file, folder or package that they were read from.
    """

    train_x: NDArray[np.uint8] | NDArray[np.float32]
    train_y: NDArray[np.int64]
    test_x: NDArray[np.uint8] | NDArray[np.float32]
    test_y: NDArray[np.int64]
    scale: int
    source: str
