"""Sources that look right and mean something else: refused, or named in a note, instead of read silently."""

from __future__ import annotations

import gzip
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray

from mlpq.errors import DataError
from mlpq.own_data.tables import TableOptions
from tests.support.malformed_sources import GOOD, X, Y, idx, idx_bytes, images, npz, parquet, raw, text
from tests.support.own_data import added

CLASS = TableOptions("y")


def refused(path: Path, words: str, source: str | None = None, **how: Any) -> None:
    with pytest.raises(DataError) as error:
        added(path if source is None else source, **{"test": "0.5", **how})
    assert words in str(error.value)


@pytest.mark.parametrize("number", ["1,5", "1.234,5", "1,234.5", "-1,5", "1 234,5", "1'234,5"])
def test_numbers_with_commas_are_no_text(tmp_path: Path, number: str) -> None:
    content = f"a;y\n;yes\n{number};no\n2,5;yes\n{number};no\n2,5;yes\n"
    refused(
        text(content)(tmp_path), f"has numbers with commas, as {number!r} in row 2: write them with a point",
        table=CLASS, missing="drop",
    )  # fmt: skip
    made = added(tmp_path / "t.csv", table=TableOptions("y", text=("a",)), missing="drop", test="0.5")
    assert made.content.about["features"] == ["a=2,5", f"a={number}"] or number < "2"


def test_text_with_commas_is_text(tmp_path: Path) -> None:
    content = 'a,y\n"1,5",no\n"2,5 or more",yes\n"1,5",no\n"2,5 or more",yes\n'
    assert added(text(content)(tmp_path), table=CLASS, test="0.5").content.features == 2


def test_columns_that_are_taken_as_text_are_named(tmp_path: Path) -> None:
    made = added(text(GOOD)(tmp_path), table=CLASS, test="0.5")
    assert "text, a feature for each value: 'b' (2)" in made.notes
    many = ",".join(f"t{i}" for i in range(12)) + ",y\n" + ("a," * 12 + "no\n" + "b," * 12 + "yes\n") * 2
    made = added(text(many)(tmp_path), table=CLASS, test="0.5")
    assert any(note.endswith("'t9' (2) and 2 more") for note in made.notes)


def test_source_that_is_its_own_test_file_is_noted(tmp_path: Path) -> None:
    path = text(GOOD)(tmp_path)
    (tmp_path / "link.csv").symlink_to(path)
    shutil.copy(path, tmp_path / "copy.csv")
    for test, is_same in ((path, True), (tmp_path / "link.csv", True), (tmp_path / "copy.csv", False)):
        notes = added(path, table=CLASS, test=str(test)).notes
        assert any("the test rows are the training rows" in note for note in notes) == is_same


def test_ignored_column_may_be_missing_from_the_test_file(tmp_path: Path) -> None:
    train = text("id,a,y\n1,1,no\n2,2,yes\n", "train.csv")(tmp_path)
    for content in ("a,y\n1,no\n", "id,a,y\n7,1,no\n"):
        test = text(content, "test.csv")(tmp_path)
        made = added(train, table=TableOptions("y", ignore=("id",)), test=str(test))
        assert made.content.about["features"] == ["a"]
    refused(train, "no column 'ix' for --ignore", table=TableOptions("y", ignore=("ix",)), test=str(test))


@pytest.mark.parametrize(
    "labels", [np.array([0, 1, np.nan, 1, 0, 1]), np.array(["0", "1", "", "1", "0", "1"])], ids=["nan", "empty text"]
)
def test_missing_labels_of_arrays_are_no_class(tmp_path: Path, labels: NDArray[Any]) -> None:
    path = npz(X=np.arange(12.0).reshape(6, 2), y=labels)(tmp_path)
    refused(path, "row 3 has no class")
    made = added(path, missing="drop", test="0.5").content
    assert (made.about["classes"], len(made.train_y) + len(made.test_y)) == (["0", "1"], 5)


def test_arrays_without_any_label_are_refused(tmp_path: Path) -> None:
    refused(npz(X=X, y=np.full(4, np.nan))(tmp_path), "each row lacks a value", missing="drop")


def test_infinite_labels_are_no_class(tmp_path: Path) -> None:
    refused(npz(X=X, y=np.where(Y == 1, np.inf, 0))(tmp_path), "the class inf; a class must be a whole number")


def test_arrays_of_one_name_are_refused(tmp_path: Path) -> None:
    refused(npz(X=X, x=X + 1, y=Y)(tmp_path), "has two arrays 'x'")
    refused(npz(X=X, y=Y, Y=1 - Y)(tmp_path), "has two arrays 'y'")


def test_folders_beside_train_and_test_are_named(tmp_path: Path) -> None:
    path = images()(tmp_path)
    for part in ("train", "test", "val"):
        shutil.copytree(path, tmp_path / "parts" / part)
    assert "read of parts/: train and test, not val" in added(tmp_path / "parts").notes
    assert added(path, test="0.5").notes[0].startswith("test rows")


def test_images_in_other_places_are_named(tmp_path: Path) -> None:
    path = images()(tmp_path)
    shutil.copytree(path / "cat", path / "dog" / "more")
    shutil.copy(path / "cat" / "0.png", path / "stray.png")
    shutil.copytree(path, path / "__MACOSX")
    notes = added(path, test="0.5").notes
    assert "files of set/ that are not PNG or JPEG in the folder of a class: 1, left out" in notes
    assert "folders below those of the classes: 1, left out" in notes


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("", "the source is empty"),
        ("x" * 5000, "is no path: File name too long"),
        ("~nobody-has-this-name/t.csv", "is no path: Could not determine home directory"),
        ("https://example.org/t.csv", "is a URL: download it first"),
    ],
)
def test_sources_that_are_no_paths_are_refused(tmp_path: Path, source: str, words: str) -> None:
    refused(Path("t.csv"), words, table=CLASS, source=source)
    if source:
        with pytest.raises(DataError, match=words):
            added(text(GOOD)(tmp_path), table=CLASS, test=source)


@pytest.mark.parametrize("inner", [gzip.compress(GOOD.encode()), b"PAR1" + bytes(20)], ids=["gzip", "parquet"])
def test_what_is_compressed_twice_is_to_be_decompressed(tmp_path: Path, inner: bytes) -> None:
    refused(raw(gzip.compress(inner), "t.gz")(tmp_path), "decompress it first", table=CLASS)


@pytest.mark.parametrize("kind", [8, 13])
def test_single_idx_file_is_no_source(tmp_path: Path, kind: int) -> None:
    refused(raw(idx_bytes((1,), bytes(4), kind), "images")(tmp_path), "one idx file: name the folder")


def test_bytes_that_are_no_text_stay_different_classes(tmp_path: Path) -> None:
    made = added(npz(X=X, y=np.array([b"\xfe", b"\xff"])[Y])(tmp_path), test="0.5")
    assert made.content.about["classes"] == ["\\xfe", "\\xff"]


# --- columns of Parquet files

COLUMNS = {"a": [1.0, 2.0] * 2, "y": ["n", "y"] * 2}


def test_column_is_not_confused_with_a_field_of_another(tmp_path: Path) -> None:
    path = parquet({"s": [{"a": 7}] * 4, "s.a": [1.0, 2.0] * 2, "y": ["n", "y"] * 2})(tmp_path)
    made = added(path, table=TableOptions("y", ignore=("s",)), test="0.5").content
    assert made.about["features"] == ["s.a"]


def test_column_without_any_value_is_named(tmp_path: Path) -> None:
    path = parquet({**COLUMNS, "b": pa.nulls(4)})(tmp_path)
    refused(path, "row 1 has no value in 'b'", table=CLASS)
    refused(path, "no training row has a value in 'b': leave it out, --ignore 'b'", table=CLASS, missing="mean")


def test_every_type_of_text_of_parquet_is_read(tmp_path: Path) -> None:
    for kind in (pa.string(), pa.large_string(), pa.string_view()):
        made = added(parquet({**COLUMNS, "y": pa.array(["n", "y"] * 2, kind)})(tmp_path), table=CLASS, test="0.5")
        assert made.content.about["classes"] == ["n", "y"]


def test_classes_of_other_types_are_to_be_converted(tmp_path: Path) -> None:
    refused(parquet({**COLUMNS, "y": pa.array([1, 2] * 2, pa.date32())})(tmp_path), "text: convert it", table=CLASS)
    refused(parquet({**COLUMNS, "y": [1.0, np.inf] * 2})(tmp_path), "has the class inf", table=CLASS)


def test_archive_of_idx_files_is_to_be_unpacked(tmp_path: Path) -> None:
    folder = idx()(tmp_path)
    path = Path(shutil.make_archive(str(tmp_path / "all"), "zip", folder))
    refused(path, "holds 4 files, none of them an array: unpack it", test="0.5")
