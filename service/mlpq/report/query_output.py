"""The result of a SQL query as a table, JSON, CSV, Markdown, LaTeX or Parquet: any columns, only the query knows."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import IO, Any

from rich.console import Console

from mlpq.errors import MlpqError, reason_of
from mlpq.report import tables
from mlpq.report.markup import MARKUPS

QueryRow = Mapping[str, Any]  # None, bool, int, float, str, aware datetime, list or mapping, by column

DIGITS = 6  # significant ones of a float, in tables


def write(columns: Sequence[str], rows: Sequence[QueryRow], format_: str, file: IO[str] | None = None) -> None:
    """Write a result as text in any format but parquet, by default to standard output."""
    if format_ == "table":
        _print_table(tables.console(file=file), columns, rows)
    elif format_ == "json":
        print(tables.to_json([{name: row[name] for name in columns} for row in rows]), file=file)
    elif format_ == "csv":
        print(tables.csv_text(columns, [[row[name] for name in columns] for row in rows]), file=file)
    else:
        print(MARKUPS[format_].table(_headings(columns, rows), _lines(columns, rows)), file=file)


def save(columns: Sequence[str], rows: Sequence[QueryRow], format_: str, path: Path) -> None:
    """Write a result to a file; raises MlpqError where that fails, and does not touch the file without pyarrow."""
    table = _arrow_table(columns, rows) if format_ == "parquet" else None
    try:
        if table is None:
            with path.open("w", encoding="utf-8", newline="") as text:
                write(columns, rows, format_, text)
        else:
            from pyarrow import parquet

            with path.open("wb") as file:
                parquet.write_table(table, file)
    except OSError as error:
        raise MlpqError(f"can't write {path}: {reason_of(error)}") from error


def _print_table(out: Console, columns: Sequence[str], rows: Sequence[QueryRow]) -> None:
    """One line per row; where the columns are too wide to be side by side, one line per value."""
    table = tables.plain_table(*_headings(columns, rows))
    table.row_name, table.is_complete = "row", True
    for line in _lines(columns, rows):
        table.add_row(*line)
    out.print(table)
    if not rows:
        out.print("no rows")


def _headings(columns: Sequence[str], rows: Sequence[QueryRow]) -> list[str]:
    """The names with ">" before those of figures; a name that itself begins so gets a space."""
    return [">" * _is_number(rows, name) + " " * name.startswith(">") + name for name in columns]


def _lines(columns: Sequence[str], rows: Sequence[QueryRow]) -> list[list[str]]:
    cells = [_cells([row[name] for row in rows]) for name in columns]
    return [list(line) for line in zip(*cells, strict=True)]


def _cells(values: Sequence[Any]) -> list[str]:
    """A column as text: all its floats with as many decimals as the one that needs the most."""
    decimals = max((_decimals(value) for value in values if isinstance(value, float)), default=0)
    return [_cell(value, decimals) for value in values]


def _decimals(value: float) -> float:
    """How many decimals show DIGITS digits; infinity for numbers that are written with an exponent."""
    shown = f"{value:.{DIGITS}g}"
    if "e-" in shown or abs(value) >= 1e15:
        return math.inf
    return 0 if "e+" in shown else len(shown.partition(".")[2])


def _cell(value: Any, decimals: float) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.{DIGITS}g}" if math.isinf(decimals) else f"{value:.{decimals:.0f}f}"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M:%S}"
    return json.dumps(value) if isinstance(value, (dict, list)) else str(value)


def _is_number(rows: Sequence[QueryRow], name: str) -> bool:
    values = [row[name] for row in rows if row[name] is not None]
    return bool(values) and all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in values)


def _arrow_table(columns: Sequence[str], rows: Sequence[QueryRow]) -> Any:
    try:
        import pyarrow
    except ImportError as error:
        raise MlpqError("parquet needs pyarrow: pip install 'mlpq[parquet]'") from error
    arrays = []
    for name in columns:
        values = [_cell(row[name], 0) if isinstance(row[name], (dict, list)) else row[name] for row in rows]
        try:
            arrays.append(pyarrow.array(values))
        except (pyarrow.ArrowException, OverflowError) as error:
            raise MlpqError(
                f"the column '{name}' mixes types, which parquet can't store: use CAST ({error})"
            ) from error
    return pyarrow.table(arrays, names=list(columns))
