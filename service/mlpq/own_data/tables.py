"""Tables of named columns: numbers stay as they are, text becomes one feature per value."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlpq.errors import DataError, nearest
from mlpq.own_data.content import MAX_BYTES, MAX_CLASSES, MAX_FEATURES, MAX_ROWS
from mlpq.own_data.parts import Indices, Labels, check_name, in_order, named_labels

MAX_CATEGORIES = 1_000  # of a column
MISSING = frozenset(
    (
        "", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN", "<NA>", "?", "N/A",
        "NA", "NULL", "NaN", "None", "n/a", "nan", "null",
    )
)  # fmt: skip
TRUTH = {"true": 1.0, "false": 0.0}
PANDAS_INDEX = "__index_level_"


@dataclass(frozen=True)
class TableOptions:
    """`target` is the column of the classes, `text` those whose numbers are names, `ignore` those to leave out, which a
    file `of_test` rows need not have."""

    target: str | None
    text: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()
    header: bool = True
    of_test: bool = False


@dataclass(frozen=True, eq=False)
class Column:
    """Either `numbers`, NaN where they are missing, or `codes` of `values`, -1 where they are missing."""

    numbers: NDArray[np.float64] | None = None
    codes: Indices | None = None
    values: tuple[str, ...] = ()

    def missing(self) -> NDArray[np.bool_]:
        """Which rows lack it."""
        if self.numbers is not None:
            return np.isnan(self.numbers)
        assert self.codes is not None
        return self.codes < 0


@dataclass(frozen=True, eq=False)
class Table:
    """Columns by their names, without that of the classes, which is `target`."""

    columns: Mapping[str, Column]
    labels: Labels
    where: str
    target: str

    @property
    def features(self) -> int:
        return len(self.columns)

    @property
    def pixels(self) -> None:
        return None

    def missing(self) -> NDArray[np.bool_]:
        found = np.zeros(len(self.labels.codes), bool)
        for column in self.columns.values():
            found |= column.missing()
        return found

    def first_missing(self, row: int) -> str:
        return next(f"'{name}'" for name, column in self.columns.items() if column.missing()[row])

    def encoding(self, rows: Indices) -> TableEncoding:
        categories: dict[str, list[str] | None] = {}
        for name, column in self.columns.items():
            if column.codes is None:
                categories[name] = None
            else:
                used = np.unique(column.codes[rows])
                categories[name] = in_order(column.values[code] for code in used[used >= 0])
                if not categories[name]:
                    raise DataError(
                        f"{self.where}: no training row has a value in '{name}': leave it out, --ignore '{name}'"
                    )
        return TableEncoding(categories)

    def about(self) -> dict[str, Any]:
        return {"target": self.target}


@dataclass(frozen=True)
class TableEncoding:
    """The categories of each column in the training rows; None where it has numbers."""

    categories: Mapping[str, list[str] | None]

    @property
    def names(self) -> list[str]:
        return [
            name if values is None else f"{name}={value}"
            for name, values in self.categories.items()
            for value in ([""] if values is None else values)
        ]

    @property
    def is_indicator(self) -> NDArray[np.bool_]:
        widths = [(values is not None, 1 if values is None else len(values)) for values in self.categories.values()]
        return np.repeat(*np.array(widths, np.int64).reshape(-1, 2).T).astype(bool)

    def about(self) -> dict[str, Any]:
        return {"categories": {name: values for name, values in self.categories.items() if values is not None}}

    def block(self, part: Table, rows: Indices) -> NDArray[np.float64]:
        features = np.zeros((len(rows), len(self.is_indicator)))
        place = 0
        for name, values in self.categories.items():
            column = part.columns[name]
            if values is None:
                features[:, place] = _numbers(part, name, column)[rows]
                place += 1
                continue
            codes = _codes(column, values)[rows]
            known = codes >= 0
            features[np.flatnonzero(known), place + codes[known]] = 1
            features[np.ix_(codes == -1, np.arange(place, place + len(values)))] = np.nan
            place += len(values)
        return features


def _numbers(part: Table, name: str, column: Column) -> NDArray[np.float64]:
    if column.numbers is not None:
        return column.numbers
    if column.missing().all():
        return np.full(len(column.missing()), np.nan)
    raise DataError(f"{part.where}: column '{name}' is text, but the training rows have numbers there")


def _codes(column: Column, values: Sequence[str]) -> Indices:
    """The index of each row's value among `values`: -1 where it is missing, -2 where it is another one."""
    index = {value: i for i, value in enumerate(values)}
    if column.codes is None:
        return np.full(len(column.missing()), -1)  # nothing but missing ones: `aligned` refuses numbers
    order = np.array([*(index.get(value, -2) for value in column.values), -1], np.int64)
    return order[column.codes]


def unknown_categories(encoding: TableEncoding, part: Table, rows: Indices) -> dict[str, int]:
    """How many of these rows of a part have in a column a value that no training row has, by column."""
    counts = {
        name: int(np.count_nonzero(_codes(part.columns[name], values)[rows] == -2))
        for name, values in encoding.categories.items()
        if values is not None
    }
    return {name: count for name, count in counts.items() if count}


def aligned(test: Table, train: Table) -> Table:
    """A table with the training table's columns in their order; raises DataError where one is missing, or more."""
    for name in train.columns:
        if name not in test.columns:
            raise DataError(f"{test.where} has no column '{name}', which {train.where} has")
    for name in test.columns:
        if name not in train.columns:
            raise DataError(f"{test.where} has the column '{name}', which {train.where} has not: remove it there")
    for name, column in test.columns.items():
        if (
            (column.codes is None) != (train.columns[name].codes is None)
            and not column.missing().all()
            and not train.columns[name].missing().all()
        ):
            kinds = ("numbers", "text") if column.codes is None else ("text", "numbers")
            raise DataError(
                f"column '{name}' has {kinds[0]} in {test.where} and {kinds[1]} in {train.where}; --text '{name}' "
                "takes both as text"
            )
    return Table({name: test.columns[name] for name in train.columns}, test.labels, test.where, test.target)


def used_columns(names: Sequence[str], options: TableOptions, where: str) -> list[str]:
    """The columns that are read, with the target; raises DataError where an option names none, or names are odd."""
    if len(names) > MAX_FEATURES + 1:
        raise DataError(f"{where} has {len(names):,} columns; at most {MAX_FEATURES:,} features are possible")
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise DataError(f"{where} has two columns '{check_name(name, where)}': rename one")
        seen.add(name)
    if options.target is None:
        raise DataError(f"name the column of {where} that is the class: --target COLUMN{nearest('', _few(names))}")
    to_ignore = () if options.of_test else options.ignore
    for option, chosen in (("--target", (options.target,)), ("--text", options.text), ("--ignore", to_ignore)):
        for name in chosen:
            if name not in seen:
                raise DataError(f"{where} has no column '{name}' for {option}{nearest(name, _few(names))}")
    if options.target in options.ignore:
        raise DataError(f"'{options.target}' can't be both --target and --ignore")
    used = [name for name in names if name not in options.ignore]
    for name in used:
        check_name(name, where)
        if name.startswith(PANDAS_INDEX):
            raise DataError(f"the column '{name}' of {where} is an index of pandas: leave it out, --ignore '{name}'")
    if len(used) < 2:
        raise DataError(f"{where} has no column but the class")
    return used


def check_growth(rows: int, columns: int, where: str) -> None:
    """Raise DataError while a table is read, as soon as it is too large."""
    if rows > MAX_ROWS:
        raise DataError(f"{where} has more than {MAX_ROWS:,} rows")
    if 4 * rows * (columns - 1) > MAX_BYTES:
        raise DataError(
            f"{where} is too large: its first {rows:,} rows take more than the {MAX_BYTES:,} bytes "
            f"({MAX_BYTES // 2**20} MiB) that mlpq stores"
        )


class TextColumn:
    """Collects the values of a column of text, in the order of their first row."""

    def __init__(self, name: str, where: str, is_target: bool) -> None:
        self._name, self._where, self._is_target = name, where, is_target
        self._code_of: dict[str, int] = {}
        self._codes: list[NDArray[np.int32]] = []

    def add(self, cells: Sequence[str | None]) -> None:
        """The next rows, None for missing values; raises DataError where there are too many values."""
        code_of = self._code_of
        for cell in set(cells):
            if cell is not None and cell not in code_of:
                code_of[check_name(cell, f"column '{self._name}' of {self._where}")] = len(code_of)
        if len(code_of) > (MAX_CLASSES if self._is_target else MAX_CATEGORIES):
            where = f"column '{self._name}' of {self._where}"
            if self._is_target:
                raise DataError(f"{where} has more than {MAX_CLASSES:,} classes; a quantity to predict is no class")
            raise DataError(
                f"{where} is text with more than {MAX_CATEGORIES:,} values: leave it out, --ignore '{self._name}'"
            )
        self._codes.append(np.array([-1 if cell is None else code_of[cell] for cell in cells], np.int32))

    def column(self) -> Column:
        """The column of all rows. Truth values are numbers."""
        codes = np.concatenate([*self._codes, np.empty(0, np.int32)]).astype(np.int64)
        return Column(codes=codes, values=tuple(self._code_of))


def as_numbers(column: Column) -> Column:
    """A column of "true" and "false" as numbers; any other as it is."""
    if not column.values or not all(value.lower() in TRUTH for value in column.values):
        return column
    order = np.array([*(TRUTH[value.lower()] for value in column.values), np.nan])
    return Column(numbers=order[column.codes])


def table(columns: Mapping[str, Column], options: TableOptions, where: str) -> Table:
    """The table of these columns, with the target's classes as labels."""
    assert options.target is not None
    target = columns[options.target]
    assert target.codes is not None
    if not len(target.codes):
        raise DataError(f"{where} has no rows")
    features = {
        name: column if name in options.text else as_numbers(column)
        for name, column in columns.items()
        if name != options.target
    }
    labels = named_labels(target.codes, target.values, f"column '{options.target}' of {where}")
    return Table(features, labels, where, options.target)


def _few(names: Sequence[str]) -> list[str]:
    return [name if len(name) <= 40 else f"{name[:40]}…" for name in names[:20]]
