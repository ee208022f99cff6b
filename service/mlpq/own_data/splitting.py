"""Splits rows into training and test rows, by a seed, with equal fractions of each class."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mlpq.own_data.parts import Indices


def stratified(classes: NDArray[np.int64], fraction: float, seed: int) -> tuple[Indices, Indices]:
    """The training and the test rows, each in their order: of each class this fraction is for the test, rounded so that
    the sum is right. A class keeps at least one training row.

    A row's place is drawn by the raw numbers of PCG64, which never change, other than NumPy's permutations.
    """
    drawn = np.random.PCG64(seed).random_raw(len(classes))
    values, counts = np.unique(classes, return_counts=True)
    wanted = [int(count) * fraction for count in counts]
    sizes = [int(size) for size in wanted]
    remainders = sorted(range(len(values)), key=lambda i: (sizes[i] - wanted[i], i))
    for i in remainders[: round(len(classes) * fraction) - sum(sizes)]:
        sizes[i] += 1
    test = np.zeros(len(classes), bool)
    for value, count, size in zip(values, counts, sizes, strict=True):
        rows = np.flatnonzero(classes == value)
        order = np.argsort(drawn[rows], kind="stable")
        test[rows[order[: min(size, int(count) - 1)]]] = True
    return np.flatnonzero(~test), np.flatnonzero(test)
