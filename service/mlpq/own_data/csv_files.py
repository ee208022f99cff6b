"""Reads CSV files, compressed or not, with the types of their columns decided by all of their cells."""

from __future__ import annotations

import csv
import itertools
import math
import re
from collections.abc import Iterator, Sequence
from io import BufferedReader, TextIOWrapper
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mlpq import compressed
from mlpq.errors import DataError
from mlpq.own_data.parts import INFINITE, NUMBER
from mlpq.own_data.tables import (
    MISSING,
    Column,
    Table,
    TableOptions,
    TextColumn,
    check_growth,
    table,
    used_columns,
)

MAX_BYTES = 8 * 2**30  # of the text, decompressed
MAX_LINE = 8 * 2**20  # characters
MAX_CELL = 100_000  # characters
CHUNK_CELLS = 200_000
SEPARATORS = ",;\t|"
PLAIN = re.compile(r"[0-9eE+\-. ,]*")  # what nothing but numbers is made of, joined by commas
WITH_COMMAS = re.compile(r"[+-]?[0-9][0-9.' \u00a0\u202f]*(?:,[0-9]+)+(?:\.[0-9]+)?")  # "1,5", "1.234,5", "1,234.5"


def read(path: Path, options: TableOptions) -> Table:
    """The table in a CSV file; raises DataError that names the line or the row and the column of what is wrong."""
    csv.field_size_limit(MAX_CELL)
    with compressed.opened(path, MAX_BYTES) as file:
        try:
            lines = _lines(file, path)
            first = next(lines, "")
            reader = csv.reader(itertools.chain([first], lines), delimiter=_separator(first), strict=True)
            return _read(reader, options, path.name)
        except csv.Error as error:
            raise DataError(f"{path} line {reader.line_num} is not valid CSV: {error}") from error
        except UnicodeDecodeError as error:
            raise DataError(f"{path} is not text in UTF-8: save it as CSV in UTF-8") from error


def _read(reader: Iterator[list[str]], options: TableOptions, where: str) -> Table:
    rows: Iterator[list[str]] = (row for row in reader if row)  # without empty lines
    header = next(rows, None)
    if header is None:
        raise DataError(f"{where} is empty")
    if options.header:
        names = [name.strip() or f"column {i + 1}" for i, name in enumerate(header)]
        if all(NUMBER.fullmatch(name.strip()) for name in header):
            raise DataError(f"the first line of {where} has numbers, not names of columns: add names, or --no-header")
    else:
        names = [str(i + 1) for i in range(len(header))]
        rows = itertools.chain([header], rows)
    used = used_columns(names, options, where)
    for i, name in enumerate(header):
        if options.header and not name.strip() and names[i] in used:
            raise DataError(
                f"column {i + 1} of {where} has no name, as an index that pandas writes: name it, or leave it out, "
                f"--ignore 'column {i + 1}'"
            )
    collectors = {
        name: CellColumn(name, where, name == options.target, name == options.target or name in options.text)
        for name in used
    }
    places = [names.index(name) for name in used]
    step, total = max(1, CHUNK_CELLS // len(names)), 0
    while chunk := list(itertools.islice(rows, step)):
        for number, row in enumerate(chunk, total + 1):
            if len(row) != len(names):
                raise DataError(f"row {number} of {where} has {len(row):,} cells; the first line has {len(names):,}")
        total += len(chunk)
        check_growth(total, len(used), where)
        cells = list(zip(*chunk, strict=True))
        for collector, place in zip(collectors.values(), places, strict=True):
            collector.add(cells[place])
    return table({name: collector.column() for name, collector in collectors.items()}, options, where)


class CellColumn:
    """Collects the cells of a column: numbers, or text where no cell is a number."""

    def __init__(self, name: str, where: str, is_target: bool, is_text: bool) -> None:
        self._where, self._is_target = f"column '{name}' of {where}", is_target
        self._name, self._file, self._rows = name, where, 0
        self._numbers: list[NDArray[np.float64]] = []
        self._text = TextColumn(name, where, is_target) if is_text else None
        self._forced = is_text
        self._number_row = 0  # the first row with a number

    def add(self, cells: Sequence[str]) -> None:
        """The next rows."""
        if self._text is None:
            self._add_numbers(cells)
        else:
            self._add_text(cells)
        self._rows += len(cells)

    def column(self) -> Column:
        """The column of all rows."""
        if self._text is not None:
            return self._text.column()
        return Column(numbers=np.concatenate([*self._numbers, np.empty(0)]))

    def _add_numbers(self, cells: Sequence[str]) -> None:
        numbers = _plain_numbers(cells)
        if numbers is None:
            parsed: list[float] = []
            for cell in cells:
                number = self._parsed(cell, self._rows + len(parsed) + 1)
                if number is None:
                    self._turn_into_text(cells, self._rows + len(parsed) + 1, cell, parsed)
                    return
                parsed.append(number)
            numbers = np.array(parsed)
        if not self._number_row and not np.isnan(numbers).all():
            self._number_row = self._rows + int(np.flatnonzero(~np.isnan(numbers))[0]) + 1
        self._numbers.append(numbers)

    def _turn_into_text(self, cells: Sequence[str], row: int, cell: str, before: Sequence[float]) -> None:
        """The first text is in this row, before which there may only be missing values."""
        number = next((self._rows + i + 1 for i, each in enumerate(before) if not math.isnan(each)), 0)
        if first := self._number_row or number:
            raise self._mixed(row, cell, first)
        texts = {each.strip() for each in cells} - MISSING
        if all(WITH_COMMAS.fullmatch(each) for each in texts):
            raise DataError(
                f"{self._where} has numbers with commas, as {cell[:40]!r} in row {row}: write them with a point, or "
                f"take them as text, --text '{self._name}'"
            )
        self._text = TextColumn(self._name, self._file, self._is_target)
        self._text.add([None] * self._rows)
        self._add_text(cells)

    def _add_text(self, cells: Sequence[str]) -> None:
        """Distinct cells are looked at once."""
        assert self._text is not None
        canonical: dict[str, str | None] = {}
        for cell in dict.fromkeys(cells):
            stripped = cell.strip()
            canonical[cell] = None if stripped in MISSING else stripped
            if not self._forced and NUMBER.fullmatch(stripped):
                row = self._rows + cells.index(cell) + 1
                raise DataError(
                    f"{self._where} has text and numbers: {cell!r} in row {row}, and text before: correct it, or take "
                    f"all as text, --text '{self._name}'"
                )
        self._text.add([canonical[cell] for cell in cells])

    def _parsed(self, cell: str, row: int) -> float | None:
        """The number in a cell, NaN where it is missing, None where it is text."""
        stripped = cell.strip()
        if stripped in MISSING:
            return math.nan
        number = float(stripped) if NUMBER.fullmatch(stripped) else None
        if (number is not None and math.isinf(number)) or INFINITE.fullmatch(stripped):
            raise DataError(f"{self._where} has {cell[:40]!r} in row {row}, which is not a finite number")
        return number

    def _mixed(self, row: int, cell: str, number: int) -> DataError:
        return DataError(
            f"{self._where} has numbers and text: {cell[:40]!r} in row {row}, and a number in row {number}: correct "
            f"it, or take all as text, --text '{self._name}'"
        )


def _plain_numbers(cells: Sequence[str]) -> NDArray[np.float64] | None:
    """The numbers in cells that hold nothing else; None where any may be something else."""
    if not PLAIN.fullmatch(",".join(cells)):
        return None
    try:
        numbers = np.array(list(map(float, cells)))
    except ValueError:
        return None
    return numbers if np.isfinite(numbers).all() else None


def _lines(file: BufferedReader, path: Path) -> Iterator[str]:
    """The lines of the text, none of which is read beyond MAX_LINE; raises DataError."""
    start = file.peek(4)[:4]
    if start.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise DataError(f"{path} is text in UTF-16: save it as CSV in UTF-8")
    if start.startswith((compressed.GZIP, compressed.BZIP2, compressed.XZ[:4], compressed.ZIP, b"PAR1")):
        raise DataError(
            f"{path} is compressed, and holds a Parquet file or another compressed one: decompress it first"
        )
    text = TextIOWrapper(file, encoding="utf-8-sig", newline="")
    number = 0
    while line := text.readline(MAX_LINE + 1):
        number += 1
        if len(line) > MAX_LINE:
            raise DataError(f"{path} line {number} has more than {MAX_LINE:,} characters; it is no CSV file")
        if "\0" in line:
            raise DataError(f"{path} line {number} has null characters; it is no CSV file")
        yield line


def _separator(header: str) -> str:
    """The sign between columns: the most frequent one in the first line outside of quotes."""
    bare = re.sub(r'"[^"]*"', "", header)
    return max(SEPARATORS, key=bare.count)
