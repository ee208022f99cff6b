"""Tables that `mlpq data add` reads, in files that other programs wrote."""

from __future__ import annotations

import csv
import gzip
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mlpq.errors import DataError
from mlpq.own_data.tables import TableOptions
from tests.support.own_data import added, kind, raw

RANDOM = np.random.default_rng(7)
FRAME = pd.DataFrame(
    {
        "length": RANDOM.normal(size=60),
        "count": RANDOM.integers(-5, 5, 60),
        "color": RANDOM.choice(["red", "grün", "blue, dark"], 60),
        "ripe": RANDOM.integers(0, 2, 60) == 1,
        "kind": RANDOM.choice(["apple", "pear"], 60),
    }
)


def write_with_csv_module(path: Path) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, quoting=csv.QUOTE_ALL)
        writer.writerow(FRAME.columns)
        writer.writerows(FRAME.itertuples(index=False))


TABLES: dict[str, Callable[[Path], object]] = {
    "pandas.csv": lambda path: FRAME.to_csv(path, index=False),
    "pandas.csv.gz": lambda path: FRAME.to_csv(path, index=False),
    "pandas.csv.bz2": lambda path: FRAME.to_csv(path, index=False),
    "pandas.csv.xz": lambda path: FRAME.to_csv(path, index=False),
    "pandas.csv.zip": lambda path: FRAME.to_csv(path, index=False),
    "semicolons.csv": lambda path: FRAME.to_csv(path, index=False, sep=";"),
    "tabs.tsv": lambda path: FRAME.to_csv(path, index=False, sep="\t"),
    "windows.csv": lambda path: FRAME.to_csv(path, index=False, lineterminator="\r\n", encoding="utf-8-sig"),
    "quoted.csv": write_with_csv_module,
    "compressed under another name": lambda path: path.write_bytes(gzip.compress(FRAME.to_csv(index=False).encode())),
    "pandas.parquet": lambda path: FRAME.to_parquet(path),
    "categories.parquet": lambda path: FRAME.astype({"color": "category", "kind": "category"}).to_parquet(path),
    "groups.parquet": lambda path: pq.write_table(
        pa.Table.from_pandas(FRAME), path, row_group_size=7, compression="zstd", use_dictionary=False
    ),
}


@pytest.mark.parametrize("name", TABLES)
def test_a_table_has_one_hash_in_each_format(tmp_path: Path, name: str) -> None:
    FRAME.to_csv(tmp_path / "plain.csv", index=False)
    TABLES[name](tmp_path / name)
    options: dict[str, Any] = {"table": kind(), "test": "0.25"}
    assert added(tmp_path / name, **options).content.sha256 == added(tmp_path / "plain.csv", **options).content.sha256


def test_numbers_stay_as_they_are_and_text_becomes_one_feature_per_value(tmp_path: Path) -> None:
    FRAME.to_csv(tmp_path / "t.csv", index=False)
    content = raw(tmp_path / "t.csv", table=kind(), test=str(tmp_path / "t.csv"))
    expected = pd.get_dummies(FRAME.drop(columns="kind"), columns=["color"], prefix_sep="=")
    columns = ["length", "count", "color=blue, dark", "color=grün", "color=red", "ripe"]
    np.testing.assert_array_equal(content.train_x, expected[columns].to_numpy(np.float32), strict=True)
    np.testing.assert_array_equal(content.test_x, content.train_x)
    assert content.about["features"] == columns
    assert content.about["classes"] == ["apple", "pear"]
    np.testing.assert_array_equal(content.train_y, (FRAME["kind"] == "pear").astype(np.int64), strict=True)


def test_doubles_are_read_exactly_as_they_were_written(tmp_path: Path) -> None:
    bits = RANDOM.integers(0, 2**63, 2000, dtype=np.uint64).view(np.float64)
    numbers = bits[np.isfinite(bits) & (np.abs(bits) < 1e38)]
    frame = pd.DataFrame({"a": numbers, "kind": np.arange(len(numbers)) % 2})
    frame.to_csv(tmp_path / "t.csv", index=False)
    content = raw(tmp_path / "t.csv", table=kind(), test=str(tmp_path / "t.csv"))
    np.testing.assert_array_equal(content.train_x[:, 0], numbers.astype(np.float32))


def test_every_type_of_number_of_parquet_is_read(tmp_path: Path) -> None:
    types = [pa.int8(), pa.uint16(), pa.int64(), pa.uint64(), pa.float16(), pa.float32(), pa.float64()]
    columns = {str(each): pa.array([1, 2, 3, 4], pa.int8()).cast(each) for each in types}
    columns["decimal"] = pa.array([Decimal("1.10"), Decimal("2.20"), Decimal(3), Decimal(4)], pa.decimal128(5, 2))
    columns["a.b"] = pa.array([True, False, True, False])
    columns["kind"] = pa.array([1, 2, 1, 2])
    pq.write_table(pa.table(columns), tmp_path / "t.parquet")
    content = raw(tmp_path / "t.parquet", table=kind(), test=str(tmp_path / "t.parquet"))
    for column in content.train_x[:, :-2].T:
        np.testing.assert_array_equal(column, [1, 2, 3, 4])
    np.testing.assert_array_equal(content.train_x[:, -2], np.array([1.1, 2.2, 3, 4], np.float32))
    np.testing.assert_array_equal(content.train_x[:, -1], [1, 0, 1, 0])
    assert content.about["classes"] == ["1", "2"]


def test_classes_are_in_the_order_of_numbers_however_they_are_written(tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text("a,kind\n1,10\n2,9\n3,-1\n4,9.0\n")
    (tmp_path / "test.csv").write_text("kind,a\n10.0,1\n-1,2\n")
    content = raw(tmp_path / "train.csv", table=kind(), test=str(tmp_path / "test.csv"))
    assert content.about["classes"] == ["-1", "9", "10"]
    assert content.train_y.tolist() == [2, 1, 0, 1]
    assert content.test_y.tolist() == [2, 0]


def test_columns_can_be_taken_as_text_or_left_out(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("id,zip,kind\na,10115,x\nb,8001,y\nc,8001,x\nd,K1A,y\n")
    options = kind(text=("zip",), ignore=("id",))
    content = raw(tmp_path / "t.csv", table=options, test=str(tmp_path / "t.csv"))
    assert content.about["features"] == ["zip=10115", "zip=8001", "zip=K1A"]


def test_a_file_without_header_has_numbered_columns(tmp_path: Path) -> None:
    (tmp_path / "iris.data").write_text("5.1, 3.5, setosa\n6, 3, virginica\n\n5.0, 3.3, setosa\n6, 2, virginica\n\n")
    content = raw(tmp_path / "iris.data", table=TableOptions("3", header=False), test="0.5")
    assert content.about["features"] == ["1", "2"]
    assert content.about["classes"] == ["setosa", "virginica"]


def test_category_that_only_test_rows_have_is_counted(tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text("a,kind\nred,x\nblue,y\n")
    (tmp_path / "test.csv").write_text("a,kind\ngreen,x\nblue,y\n")
    made = added(tmp_path / "train.csv", table=kind(), test=str(tmp_path / "test.csv"))
    assert made.content.test_x.tolist() == [[0, 0], [1, 0]]
    assert made.content.about["unknown"] == {"a": 1}
    assert any("no training row has: 1" in note for note in made.notes)


@pytest.mark.parametrize(
    ("test", "message"),
    [
        ("b,kind\n1,x\n", "has no column 'a'"),
        ("a,b,kind\n1,2,x\n", "the column 'b', which train.csv has not"),
        ("a,kind\nred,x\n", "has text in test.csv and numbers in train.csv"),
        ("a,kind\n1,z\n", "has the class 'z', which no training row has"),
    ],
)
def test_test_file_with_other_columns_or_classes_is_refused(tmp_path: Path, test: str, message: str) -> None:
    (tmp_path / "train.csv").write_text("a,kind\n1,x\n2,y\n")
    (tmp_path / "test.csv").write_text(test)
    with pytest.raises(DataError, match=message):
        added(tmp_path / "train.csv", table=kind(), test=str(tmp_path / "test.csv"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (TableOptions(None), "--target COLUMN"),
        (TableOptions("knd"), "no column 'knd' for --target .did you mean 'kind'"),
        (kind(text=("weight",)), "for --text"),
        (kind(ignore=("weight",)), "for --ignore"),
        (kind(ignore=("kind",)), "both --target and --ignore"),
        (kind(ignore=("length", "count", "color", "ripe")), "no column but the class"),
    ],
)
def test_options_must_name_columns(tmp_path: Path, options: TableOptions, message: str) -> None:
    FRAME.to_csv(tmp_path / "t.csv", index=False)
    with pytest.raises(DataError, match=message):
        added(tmp_path / "t.csv", table=options, test="0.5")
