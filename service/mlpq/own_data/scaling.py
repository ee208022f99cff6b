"""Scales features by figures of the training rows, with the same bits on every machine.

Sums are taken in doubles in a fixed order, and each operation rounds once: no function of a mathematical library, whose
last bits differ, and no sum whose order depends on the processor.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlpq.errors import DataError
from mlpq.own_data.parts import Encoding, Indices, Part, block_rows

SCALES = ("unit", "standardize", "none")
LARGEST_BYTE = 255

Doubles = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Scaling:
    """Each feature x becomes (x - subtract) / divide, and where it is missing it was `mean` before."""

    subtract: Doubles
    divide: Doubles
    mean: Doubles

    def apply(self, part: Part, encoding: Encoding, rows: Indices) -> NDArray[np.float32]:
        """The scaled features of these rows, [rows, features]; raises DataError where one is too large."""
        scaled = np.empty((len(rows), len(self.subtract)), np.float32)
        place = 0
        for block in _blocks(part, encoding, rows):
            filled = np.where(np.isnan(block), self.mean, block)
            with np.errstate(over="ignore", invalid="ignore"):
                scaled[place : place + len(block)] = (filled - self.subtract) / self.divide
            if not np.isfinite(scaled[place : place + len(block)]).all():
                row, feature = map(int, np.argwhere(~np.isfinite(scaled[place : place + len(block)]))[0])
                number, name = int(rows[place + row]) + 1, feature_name(encoding, feature)
                raise DataError(f"{part.where}: row {number} has a value in {name} that is too large for 32 bits")
            place += len(block)
        return scaled


def fitted(how: str, part: Part, encoding: Encoding, rows: Indices) -> Scaling:
    """The scaling by these training rows. Features that are constant there become 0, indicators stay as they are."""
    least, most, mean = _extremes_and_mean(part, encoding, rows)
    zeros, ones = np.zeros_like(mean), np.ones_like(mean)
    if how == "none":
        return Scaling(zeros, ones, mean)
    with np.errstate(over="ignore", invalid="ignore"):  # what is not finite is refused where it is applied
        subtract, divide = (least, most - least) if how == "unit" else (mean, _deviation(part, encoding, rows, mean))
    is_constant = (least == most) | (divide == 0)
    subtract = np.where(is_constant, least, subtract)
    divide = np.where(is_constant, 1.0, divide)
    as_they_are = encoding.is_indicator
    return Scaling(np.where(as_they_are, zeros, subtract), np.where(as_they_are, ones, divide), mean)


def _extremes_and_mean(part: Part, encoding: Encoding, rows: Indices) -> tuple[Doubles, Doubles, Doubles]:
    """The least and the largest value and the mean of each feature, of the rows that have it."""
    least = most = count = None
    for block in _blocks(part, encoding, rows):
        present = ~np.isnan(block)
        low = np.where(present, block, np.inf).min(axis=0)
        high = np.where(present, block, -np.inf).max(axis=0)
        least = low if least is None else np.minimum(least, low)
        most = high if most is None else np.maximum(most, high)
        count = present.sum(axis=0) if count is None else count + present.sum(axis=0)
    assert least is not None
    assert most is not None
    assert count is not None
    if not count.all():
        feature = int(np.flatnonzero(count == 0)[0])
        raise DataError(f"{part.where}: no training row has a value in {feature_name(encoding, feature)}: leave it out")
    total = _total(part, encoding, rows, lambda block: np.where(np.isnan(block), 0.0, block))
    return least, most, total / count


def _deviation(part: Part, encoding: Encoding, rows: Indices, mean: Doubles) -> Doubles:
    """The standard deviation of each feature over all rows (divided by n), where missing ones are the mean."""

    def squares(block: Doubles) -> Doubles:
        distance = np.where(np.isnan(block), mean, block) - mean
        return distance * distance

    deviation: Doubles = np.sqrt(_total(part, encoding, rows, squares) / len(rows))
    return deviation


def _total(part: Part, encoding: Encoding, rows: Indices, function: Callable[[Doubles], Doubles]) -> Doubles:
    """The sum over rows: in each block the halves are added until one row is left, then the blocks in their order."""
    total: Doubles | None = None
    with np.errstate(over="ignore", invalid="ignore"):
        for block in _blocks(part, encoding, rows):
            halved = function(block)
            while len(halved) > 1:
                half = (len(halved) + 1) // 2
                added = halved[:half].copy()
                added[: len(halved) - half] += halved[half:]
                halved = added
            total = halved[0] if total is None else total + halved[0]
    assert total is not None
    return total


def feature_name(encoding: Encoding, feature: int) -> str:
    """What a message calls a feature."""
    return f"'{encoding.names[feature]}'" if encoding.names else f"feature {feature + 1}"


def _blocks(part: Part, encoding: Encoding, rows: Indices) -> Iterator[Doubles]:
    """The features of these rows, block by block; 0 is never negative."""
    step = block_rows(len(encoding.is_indicator))
    for start in range(0, len(rows), step):
        yield encoding.block(part, rows[start : start + step]) + 0.0


def about(how: str, scaling: Scaling | None) -> dict[str, Any]:
    """What was done, with the figures."""
    if how == "none":
        return {"how": how}
    if scaling is None:
        return {"how": how, "divide": LARGEST_BYTE}
    return {"how": how, "subtract": scaling.subtract.tolist(), "divide": scaling.divide.tolist()}
