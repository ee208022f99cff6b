"""A data set in memory, as it is read: NumPy arrays that each engine takes in its own way."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class ImageSet:
    """Pixels, uint8 [n, features], and class indices, int64 [n], of the training and of the test images.

    Pixels divided by `scale` are in [0, 1]. `source` is the folder or package that they were read from.
    """

    train_x: NDArray[np.uint8]
    train_y: NDArray[np.int64]
    test_x: NDArray[np.uint8]
    test_y: NDArray[np.int64]
    scale: int
    source: str
