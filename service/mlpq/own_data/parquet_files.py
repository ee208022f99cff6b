"""Reads Parquet files, by pyarrow, which is optional."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlpq.errors import DataError
from mlpq.own_data.content import MAX_ROWS
from mlpq.own_data.optional import optional_module
from mlpq.own_data.parts import MAX_NAME
from mlpq.own_data.tables import MISSING, Column, Table, TableOptions, TextColumn, check_growth, table, used_columns

MAGIC = b"PAR1"
MAX_BYTES = 8 * 2**30  # of the columns, decompressed, as the file says
TEXTS = ("string", "large_string", "string_view", "null")  # types of text, and of columns without any value
GROUP_CELLS = 2**22  # about as many are read at once


def read(path: Path, options: TableOptions) -> Table:
    """The table in a Parquet file; raises DataError."""
    arrow = optional_module("pyarrow", path.name)
    parquet = optional_module("pyarrow.parquet", path.name)
    try:
        # Dictionaries stay as they are: a long text that each row repeats must not be copied for each.
        names = [field.name for field in parquet.read_schema(path) if _is_text(arrow, field.type)]
        with parquet.ParquetFile(path, read_dictionary=names, page_checksum_verification=True) as file:
            return _read(arrow, file, options, path.name)
    except (arrow.ArrowException, OSError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise DataError(f"{path} can't be read, it is damaged or truncated: {reason}") from error


def _read(arrow: ModuleType, file: Any, options: TableOptions, where: str) -> Table:
    metadata, schema = file.metadata, file.schema_arrow
    groups = [metadata.row_group(i) for i in range(metadata.num_row_groups)]
    rows = max(metadata.num_rows, sum(group.num_rows for group in groups))
    if rows > MAX_ROWS:
        raise DataError(f"{where} has {rows:,} rows; at most {MAX_ROWS:,}")
    size = sum(max(group.total_byte_size, 0) for group in groups)
    if size > MAX_BYTES:
        raise DataError(f"{where} has {size:,} bytes of columns; at most {MAX_BYTES:,}")
    used = used_columns(schema.names, options, where)
    check_growth(rows, len(used), where)
    types = dict(zip(schema.names, schema.types, strict=True))
    readers = {name: _Reader(arrow, types[name], name, options, where) for name in used}
    for number, group in enumerate(groups):
        step = max(1, GROUP_CELLS // max(1, group.num_rows))
        for first in range(0, len(used), step):
            some = used[first : first + step]
            read = file.read_row_group(number, columns=some, use_threads=False)
            if read.num_rows != group.num_rows:
                raise ValueError(f"a row group has {read.num_rows:,} rows, and says {group.num_rows:,}")
            for name in some:  # of a column "a.b" it also reads the field b of a structure "a"
                for chunk in read.column(name).chunks:
                    readers[name].add(chunk)
    return table({name: reader.column() for name, reader in readers.items()}, options, where)


class _Reader:
    """Collects a column."""

    def __init__(self, arrow: ModuleType, kind: Any, name: str, options: TableOptions, where: str) -> None:
        self._arrow, self._where = arrow, f"column '{name}' of {where}"
        self._compute = optional_module("pyarrow.compute", where)
        types, is_target = arrow.types, name == options.target
        self._is_decimal = types.is_decimal(kind)
        is_number = self._is_decimal or any(
            check(kind) for check in (types.is_integer, types.is_floating, types.is_boolean)
        )
        if not is_number and not _is_text(arrow, kind):
            advice = "convert it" if is_target else f"leave it out, --ignore '{name}'"
            raise DataError(f"{self._where} has the type {kind}; columns must have numbers or text: {advice}")
        self._as_text = (
            TextColumn(name, where, is_target) if is_target or name in options.text or not is_number else None
        )
        self._numbers: list[NDArray[np.float64]] = []
        self._rows = 0

    def add(self, cells: Any) -> None:
        """The next rows."""
        if self._as_text is not None:
            self._as_text.add(self._texts(cells))
        else:
            numbers = self._floats(cells)
            infinite = np.flatnonzero(np.isinf(numbers))
            if len(infinite):
                raise DataError(f"{self._where} is infinite in row {self._rows + int(infinite[0]) + 1}")
            self._numbers.append(numbers)
        self._rows += len(cells)

    def column(self) -> Column:
        """The column of all rows."""
        if self._as_text is not None:
            return self._as_text.column()
        return Column(numbers=np.concatenate([*self._numbers, np.empty(0)]))

    def _floats(self, cells: Any) -> NDArray[np.float64]:
        if self._is_decimal:  # Python rounds correctly
            return np.array([np.nan if cell is None else float(cell) for cell in cells.to_pylist()], np.float64)
        if self._arrow.types.is_boolean(cells.type):
            cells = cells.cast(self._arrow.uint8())
        numbers: NDArray[np.float64] = cells.cast(self._arrow.float64(), safe=False).to_numpy(zero_copy_only=False)
        return numbers

    def _texts(self, cells: Any) -> list[str | None]:
        """Texts without spaces at their ends, None where they are missing; numbers as they are written."""
        if self._arrow.types.is_null(cells.type):
            return [None] * len(cells)
        if not self._arrow.types.is_dictionary(cells.type):
            cells = cells.dictionary_encode()
        values = cells.dictionary
        if _is_text(self._arrow, values.type) and len(values):
            longest = self._compute.max(self._compute.binary_length(values)).as_py() or 0
            if longest > 4 * MAX_NAME:  # in bytes, before it is copied; its characters are counted where it is
                raise DataError(f"{self._where} has a value of {longest:,} bytes; at most {MAX_NAME} characters")
        texts = [_text(value) for value in values.to_pylist()]
        return [None if code is None else texts[code] for code in cells.indices.to_pylist()]


def _is_text(arrow: ModuleType, kind: Any) -> bool:
    if arrow.types.is_dictionary(kind):
        kind = kind.value_type
    return str(kind) in TEXTS


def _text(value: object) -> str | None:
    """The value as a file of text has it, None where it is missing there."""
    text = "" if value is None else str(value).strip()
    return None if text in MISSING else text
