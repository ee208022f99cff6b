"""Results of SQL queries in each format."""

from __future__ import annotations

import io
import json
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from pyarrow import parquet
from rich.console import Console

from mlpq.errors import MlpqError
from mlpq.report import query_output, tables

MOMENT = datetime(2026, 3, 2, 9, 30, 15, 250_000, tzinfo=UTC)
ROWS: list[dict[str, Any]] = [
    {"name": "a|b\nc", "n": 12, "loss": 0.5, "ok": True, "at": MOMENT, "facts": {"cpu": "x"}, "hidden": "64,32"},
    {"name": None, "n": None, "loss": 1 / 3, "ok": False, "at": None, "facts": None, "hidden": "none"},
]
COLUMNS = list(ROWS[0])


def written(format_: str, rows: list[dict[str, Any]] = ROWS, columns: list[str] = COLUMNS) -> str:
    out = io.StringIO()
    query_output.write(columns, rows, format_, out)
    return out.getvalue()


def at_80_columns(monkeypatch: pytest.MonkeyPatch, rows: list[dict[str, Any]], columns: list[str]) -> list[str]:
    out = io.StringIO()
    monkeypatch.setattr(tables, "console", lambda file: Console(file=file, width=80))
    query_output.write(columns, rows, "table", out)
    return [line.rstrip() for line in out.getvalue().splitlines()]


def test_numbers_are_right_aligned_with_equally_many_decimals() -> None:
    rows = [{"lr": lr, "n": n} for lr, n in ((0.1, 5), (0.01, 10), (0.001, None))]
    lines = [line.rstrip() for line in written("table", rows, ["lr", "n"]).splitlines()]
    assert lines[0] == "   lr   n"
    assert lines[2:] == ["0.100   5", "0.010  10", "0.001"]


@pytest.mark.parametrize(
    ("values", "shown"),
    [
        ([1 / 3, 0.5], ["0.333333", "0.500000"]),
        ([0.1 + 0.2], ["0.3"]),
        ([1e-5, 0.1], ["1e-05", "0.1"]),
        ([1772443815.25], ["1772443815"]),
        ([1e300], ["1e+300"]),
        ([float("nan"), 2.5, None], ["nan", "2.5", ""]),
        ([3, 2.5], ["3", "2.5"]),
        ([True, MOMENT, [1, 2]], ["true", "2026-03-02 09:30:15", "[1, 2]"]),
    ],
)
def test_values_are_formatted_for_reading(values: list[Any], shown: list[str]) -> None:
    lines = written("md", [{"x": value} for value in values], ["x"]).splitlines()
    assert lines[2:] == [f"| {cell} |" for cell in shown]


def test_json_keeps_types_and_csv_leaves_null_empty() -> None:
    assert json.loads(written("json")) == [
        {**ROWS[0], "at": "2026-03-02T09:30:15.250000+00:00"},
        ROWS[1],
    ]
    assert written("csv") == (
        "name,n,loss,ok,at,facts,hidden\n"
        '"a|b\nc",12,0.5,true,2026-03-02T09:30:15.250000+00:00,"{""cpu"": ""x""}","64,32"\n'
        ",,0.3333333333333333,false,,,none\n"
    )
    assert json.loads(written("json", [{"x": float("inf")}, {"x": float("nan")}], ["x"])) == [{"x": None}, {"x": None}]


def test_markdown_keeps_each_row_on_one_line() -> None:
    assert written("md").splitlines()[2].startswith("| a\\|b<br>c | 12 | 0.500000 | true |")


@pytest.mark.parametrize("format_", ["table", "csv", "md"])
def test_an_empty_result_has_headings(format_: str) -> None:
    shown = written(format_, [], ["id", "lr"])
    assert "id" in shown
    assert "lr" in shown


def test_columns_that_are_too_wide_for_a_table_become_a_list(monkeypatch: pytest.MonkeyPatch) -> None:
    columns = [f"column_{number}" for number in range(30)]
    rows = [{name: f"{name} of {row}" for name in columns} for row in (1, 2)]
    lines = at_80_columns(monkeypatch, rows, columns)
    assert [line for line in lines if line.startswith("row")] == ["row 1", "row 2"]
    assert lines.count("column_7: column_7 of 1") == 1
    assert all(len(line) <= 80 for line in lines)
    assert "column_29:" in at_80_columns(monkeypatch, [], columns)


def test_long_text_wraps_and_is_not_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [{"id": "7" * 36, "hash": "ab" * 32, "n": 5}]
    lines = at_80_columns(monkeypatch, rows, ["id", "hash", "n"])
    assert all(len(line) <= 80 for line in lines)
    assert "".join(lines[2:]).count("7") == 36
    assert sum(line.count("a") + line.count("b") for line in lines[2:]) == 64


def test_parquet_keeps_types(tmp_path: Path) -> None:
    query_output.save(COLUMNS, ROWS, "parquet", tmp_path / "answer.parquet")
    read = parquet.read_table(tmp_path / "answer.parquet")
    assert [str(kind) for kind in read.schema.types] == [
        "string", "int64", "double", "bool", "timestamp[us, tz=UTC]", "string", "string",
    ]  # fmt: skip
    assert read.to_pylist() == [{**ROWS[0], "facts": '{"cpu": "x"}'}, ROWS[1]]
    query_output.save(["id", "lr"], [], "parquet", tmp_path / "empty.parquet")
    assert parquet.read_table(tmp_path / "empty.parquet").column_names == ["id", "lr"]


def test_a_column_of_mixed_types_is_rejected_without_a_file(tmp_path: Path) -> None:
    with pytest.raises(MlpqError, match="the column 'x' mixes types"):
        query_output.save(["x"], [{"x": 1}, {"x": "one"}], "parquet", tmp_path / "answer.parquet")
    assert list(tmp_path.iterdir()) == []


def test_missing_pyarrow_is_reported_with_the_command_that_installs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MlpqError, match=r"pip install 'mlpq\[parquet\]'"):
        query_output.save(COLUMNS, ROWS, "parquet", tmp_path / "answer.parquet")
    assert list(tmp_path.iterdir()) == []
