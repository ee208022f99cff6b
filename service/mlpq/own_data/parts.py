"""What the readers of sources return: rows with labels, before they are split, encoded and scaled."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from mlpq.errors import DataError
from mlpq.own_data.content import MAX_CLASSES

MAX_NAME = 200  # characters of the name of a class, a column or a category
BLOCK_VALUES = 2**20  # about as many values are in memory as doubles at once
WHOLE = re.compile(r"[+-]?[0-9]{1,18}")
INFINITE = re.compile(r"[+-]?inf(inity)?", re.IGNORECASE)
NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")

Indices = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Labels:
    """The class of each row: its index into `names`, -1 where it is missing."""

    codes: Indices
    names: tuple[str, ...]

    def take(self, rows: Indices) -> Labels:
        """The labels of these rows."""
        return Labels(self.codes[rows], self.names)

    def used(self) -> list[str]:
        """The names of the classes that rows have, in order."""
        codes = np.unique(self.codes)
        return in_order(self.names[code] for code in codes[codes >= 0])


class Encoding(Protocol):
    """How the rows of a source become features. It is fitted on training rows."""

    @property
    def names(self) -> list[str] | None:
        """The features' names; None where they have none."""

    @property
    def is_indicator(self) -> NDArray[np.bool_]:
        """Which features are 1 for rows of a category and 0 for others: these are not scaled."""

    def about(self) -> dict[str, Any]:
        """What was fitted."""

    def block(self, part: Any, rows: Indices) -> NDArray[np.float64]:
        """Features of these rows of a part, [rows, features], NaN where they are missing."""


class Part(Protocol):
    """The training or the test rows of a source, or all of them."""

    @property
    def where(self) -> str:
        """What messages call it."""

    @property
    def labels(self) -> Labels: ...

    @property
    def features(self) -> int:
        """The least number of features that it can have when it is encoded."""

    @property
    def pixels(self) -> NDArray[np.uint8] | None:
        """All features, where these are bytes."""

    def missing(self) -> NDArray[np.bool_]:
        """Which rows lack a feature."""

    def first_missing(self, row: int) -> str:
        """What the row lacks, as a message calls it."""

    def encoding(self, rows: Indices) -> Encoding:
        """Fitted on these rows."""

    def about(self) -> dict[str, Any]:
        """What else is known of its features."""


@dataclass(frozen=True)
class Source:
    """What a source holds: training rows, or all rows where it has no test rows of its own.

    `class_names` are other names of the classes, by their names in the labels.
    """

    train: Part
    test: Part | None = None
    notes: tuple[str, ...] = ()
    class_names: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Arrays:
    """Rows of numbers, [n, features], of any real type; `shape` is that of a row before it was flattened."""

    x: NDArray[Any]
    labels: Labels
    where: str
    shape: tuple[int, ...] = ()
    names: tuple[str, ...] | None = None

    @property
    def features(self) -> int:
        return int(self.x.shape[1])

    @property
    def pixels(self) -> NDArray[np.uint8] | None:
        return self.x if self.x.dtype == np.uint8 else None

    def missing(self) -> NDArray[np.bool_]:
        """Which rows lack a feature; raises DataError where one is infinite."""
        found = np.zeros(len(self.x), bool)
        if self.x.dtype.kind != "f":
            return found
        for start, block in blocks(self.x):
            infinite = np.argwhere(np.isinf(block))
            if len(infinite):
                row, feature = map(int, infinite[0])
                raise DataError(f"{self.where}: row {start + row + 1} is infinite in {self._feature(feature)}")
            found[start : start + len(block)] = np.isnan(block).any(axis=1)
        return found

    def first_missing(self, row: int) -> str:
        return self._feature(int(np.flatnonzero(np.isnan(self.x[row]))[0]))

    def encoding(self, rows: Indices) -> ArrayEncoding:
        return ArrayEncoding(self.features, self.names)

    def about(self) -> dict[str, Any]:
        return {"shape": list(self.shape)} if len(self.shape) > 1 else {}

    def _feature(self, number: int) -> str:
        return f"'{self.names[number]}'" if self.names else f"feature {number + 1}"


@dataclass(frozen=True)
class ArrayEncoding:
    """Features as they are."""

    features: int
    feature_names: tuple[str, ...] | None

    @property
    def names(self) -> list[str] | None:
        return list(self.feature_names) if self.feature_names else None

    @property
    def is_indicator(self) -> NDArray[np.bool_]:
        return np.zeros(self.features, bool)

    def about(self) -> dict[str, Any]:
        return {}

    def block(self, part: Arrays, rows: Indices) -> NDArray[np.float64]:
        return part.x[rows].astype(np.float64)


def blocks(x: NDArray[Any]) -> Iterator[tuple[int, NDArray[Any]]]:
    """The rows in blocks, each with the number of its first row."""
    step = block_rows(x.shape[1])
    for start in range(0, len(x), step):
        yield start, x[start : start + step]


def block_rows(features: int) -> int:
    """Rows in a block. A fixed function: sums are taken block by block, and must have the same bits everywhere."""
    return max(1, BLOCK_VALUES // max(1, features))


def array_labels(y: NDArray[Any], where: str) -> Labels:
    """The labels in an array [n] or [n, 1] of whole numbers or text, NaN and empty ones missing; raises DataError."""
    if y.ndim == 2 and y.shape[1] == 1:
        y = y[:, 0]
    if y.ndim != 1:
        advice = ": convert one-hot labels by argmax" if y.ndim == 2 else ""
        raise DataError(f"{where} has labels of shape {y.shape}; each row needs one class{advice}")
    if y.dtype.kind not in "biufUS":
        raise DataError(f"{where} has labels of type {y.dtype}; they must be whole numbers or text")
    present = _present(y)
    values, found = np.unique(y[present], return_inverse=True)
    if len(values) > MAX_CLASSES:
        raise too_many_classes(where)
    names = [
        each.decode("utf-8", "backslashreplace") if isinstance(each, bytes) else str(each) for each in values.tolist()
    ]
    named = named_labels(found.astype(np.int64), names, where)
    codes = np.full(len(y), -1)
    codes[present] = named.codes
    return Labels(codes, named.names)


def _present(y: NDArray[Any]) -> NDArray[np.bool_]:
    """Which labels are neither NaN nor empty text."""
    found = np.ones(len(y), np.bool_)
    if y.dtype.kind == "f":
        found &= ~np.isnan(y)
    elif y.dtype.kind in "US":
        found &= np.char.str_len(y) > 0
    return found


def named_labels(codes: Indices, values: Sequence[str], where: str) -> Labels:
    """The labels of these codes; raises DataError. Numbers that are whole have one name, however they are written."""
    if all(NUMBER.fullmatch(value) or INFINITE.fullmatch(value) for value in values):
        for value in values:
            if not abs(float(value)) < 2**53 or float(value) != int(float(value)):
                raise DataError(f"{where} has the class {value}; a class must be a whole number or text")
        values = [str(int(value) if WHOLE.fullmatch(value) else int(float(value))) for value in values]
    for value in values:
        check_name(value, where)
    names = in_order(values)
    index = {name: i for i, name in enumerate(names)}
    order = np.array([*(index[value] for value in values), -1], np.int64)  # the last for missing ones, which are -1
    return Labels(order[codes], tuple(names))


def too_many_classes(where: str) -> DataError:
    """The message where the labels are no classes."""
    return DataError(
        f"{where} has more than {MAX_CLASSES:,} classes, which are too many; a quantity to predict is no class"
    )


def in_order(names: Any) -> list[str]:
    """Distinct names in their order: whole numbers by size, text by code points."""
    distinct = set(names)
    if all(WHOLE.fullmatch(name) for name in distinct):
        return sorted(distinct, key=lambda name: (int(name), name))
    return sorted(distinct)


def check_name(name: str, where: str) -> str:
    """The name; raises DataError where it is too long."""
    if len(name) > MAX_NAME:
        raise DataError(f"{where} has a value of {len(name):,} characters, '{name[:20]}…'; at most {MAX_NAME}")
    return name
