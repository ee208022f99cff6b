"""Limits of data: the largest table, image and file is accepted, and the next is refused by what names the limit.

Every number is written out here, so that a limit in the code can't change without one here.
"""

from __future__ import annotations

import hashlib
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from mlpq import compressed, image_data
from mlpq.errors import DataError
from mlpq.own_data import csv_files, image_folders
from mlpq.own_data.content import Content, check_size
from mlpq.own_data.image_folders import ImageOptions
from mlpq.own_data.parts import Arrays, array_labels, check_name
from mlpq.own_data.tables import TableOptions, TextColumn, check_growth, used_columns
from mlpq.spec.datasets import DATASETS, FILES, Dataset
from mlpq_workers.trainer import data as trainer_data
from tests.support.malformed_sources import png

MILLION = 1_000_000
GIBIBYTE = 2**30


def words(count: int) -> list[str]:
    return [f"w{number}" for number in range(count)]


def table(cells: str, folder: Path) -> None:
    path = folder / "t.csv"
    path.write_text(f"a,y\n{cells},no\n2,yes\n")
    csv_files.read(path, TableOptions("y"))


def column(values: int, is_target: bool) -> None:
    TextColumn("a", "t.csv", is_target).add(words(values))


def content(classes: int) -> None:
    x, y = np.zeros((1, 2), np.uint8), np.zeros(1, np.int64)
    Content(x, y, x, y, 255, {"classes": words(classes)})


# By what is limited: a call with a size, the largest size that is accepted, and the message about the next.
LIMITS: dict[str, tuple[Callable[[int], object], int, str]] = {
    "rows": (lambda rows: check_size(rows - 1, 1, 1, 1), MILLION, "1,000,001 rows are too many: at most 1,000,000"),
    "features": (lambda features: check_size(1, 1, features, 1), 100_000, "there are 100,001 features; 1 to 100,000"),
    # A row of 2,682 floats and its class take 10,730 bytes; 100,069 rows have 1,073,740,370 bytes.
    "bytes": (lambda rows: check_size(rows - 1, 1, 2682, 4), 100_069, "take 1,073,751,100 bytes as mlpq stores them"),
    "classes of a content": (content, 1000, "there are 1,001 classes; 2 to 1,000 are possible"),
    "rows of a growing table": (lambda rows: check_growth(rows, 2, "t"), MILLION, "t has more than 1,000,000 rows"),
    "bytes of a growing table": (
        lambda rows: check_growth(rows, 1025, "t"), GIBIBYTE // 4096,
        r"its first 262,145 rows take more than the 1,073,741,824 bytes \(1024 MiB\) that mlpq stores",
    ),
    "columns": (
        lambda columns: used_columns(words(columns), TableOptions("w0"), "t"), 100_001,
        "t has 100,002 columns; at most 100,000 features are possible",
    ),
    "classes of an array": (
        lambda classes: array_labels(np.arange(classes), "y"), 1000, "y has more than 1,000 classes, which are too",
    ),
    "classes of a column": (lambda values: column(values, True), 1000, "column 'a' of t.csv has more than 1,000 cl"),
    "texts of a column": (lambda values: column(values, False), 1000, "is text with more than 1,000 values: leave it"),
    "characters of a name": (lambda length: check_name("x" * length, "t"), 200, "has a value of 201 characters"),
}  # fmt: skip


@pytest.mark.parametrize("what", LIMITS)
def test_largest_own_data_are_accepted_and_the_next_are_refused(what: str) -> None:
    call, most, message = LIMITS[what]
    call(most)
    with pytest.raises(DataError, match=message):
        call(most + 1)


def test_fewest_classes_and_features_are_two_and_one() -> None:
    content(2)
    with pytest.raises(DataError, match="there are 1 classes; 2 to 1,000 are possible"):
        content(1)
    with pytest.raises(DataError, match="there are 0 features; 1 to 100,000 are possible"):
        check_size(1, 1, 0, 1)
    for train, test in ((0, 1), (1, 0)):
        with pytest.raises(DataError, match=f"{train} training and {test} test rows; each needs at least 1"):
            check_size(train, test, 1, 1)


def test_cell_of_a_csv_file_has_a_hundred_thousand_characters_at_most(tmp_path: Path) -> None:
    table("1".zfill(100_000), tmp_path)
    with pytest.raises(DataError, match=r"line 2 is not valid CSV: field larger than field limit \(100000\)"):
        table("1".zfill(100_001), tmp_path)


def test_content_of_a_file_is_read_up_to_the_limit(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"x" * 1000)
    assert len(compressed.read(file, 1000)) == 1000
    with pytest.raises(DataError, match="has more than the 999 bytes that are read at most"):
        compressed.read(file, 999)


def folder_of(image: bytes, folder: Path) -> Path:
    """A folder of one class with one image."""
    (folder / "set" / "cat").mkdir(parents=True, exist_ok=True)
    (folder / "set" / "cat" / "0.png").write_bytes(image)
    return folder / "set"


def test_image_has_67_108_864_pixels_at_most(tmp_path: Path) -> None:
    """They are counted by the header; none follow here."""
    for height, message in ((8192, "is damaged or truncated"), (8193, "8,192 x 8,193 pixels; at most 67,108,864 are")):
        with pytest.raises(DataError, match=message):
            image_folders.read(folder_of(png(8192, height, b""), tmp_path), ImageOptions(size=(1, 1)))


def test_image_file_has_64_mib_at_most(tmp_path: Path) -> None:
    folder = folder_of(b"", tmp_path)
    for size, message in ((67_108_864, "is not a PNG or JPEG file, or damaged"), (67_108_865, "has more than 64 MiB")):
        os.truncate(folder / "cat" / "0.png", size)
        with pytest.raises(DataError, match=message):
            image_folders.read(folder, ImageOptions())


def test_images_have_a_hundred_thousand_pixels_at_most(tmp_path: Path) -> None:
    folder = folder_of(png(1, 1, b"\0\0"), tmp_path)
    train = image_folders.read(folder, ImageOptions(size=(400, 250))).train
    assert isinstance(train, Arrays)
    assert train.x.shape == (1, 100_000)
    with pytest.raises(DataError, match="11 x 9,091 pixels are 100,001 features; at most 100,000 are possible"):
        image_folders.read(folder, ImageOptions(size=(11, 9091)))


def test_images_have_a_thousand_classes_at_most(tmp_path: Path) -> None:
    for number in range(1000):
        (tmp_path / f"{number}").mkdir()
    with pytest.raises(DataError, match="has no PNG or JPEG files"):
        image_folders.read(tmp_path, ImageOptions())
    (tmp_path / "1000").mkdir()
    with pytest.raises(DataError, match="has 1,001 folders; at most 1,000 classes are possible"):
        image_folders.read(tmp_path, ImageOptions())


# --- built-in data sets


def with_labels(folder: Path, *labels: int) -> None:
    """Store and load the four files of a data set of two images and three classes."""
    idx = {
        name: bytes((0, 0, 8, dimensions, 0, 0, 0, 2)) + b"\0\0\0\1" * (dimensions - 1)
        for name, dimensions in zip(FILES, (3, 1, 3, 1), strict=True)
    }
    files = {name: head + bytes(labels if "labels" in name else (1, 2)) for name, head in idx.items()}
    md5 = {name: hashlib.md5(file).hexdigest() for name, file in files.items()}
    toy = Dataset("toy", features=1, classes=3, train=2, test=2, torchvision="Toy", gz_md5=md5, md5=md5)
    raw = folder / "Toy" / "raw"
    raw.mkdir(parents=True, exist_ok=True)
    for name, file in files.items():
        (raw / name).write_bytes(file)
    assert trainer_data.load(toy, folder).test_y.tolist() == list(labels)


def test_label_beyond_the_classes_is_refused(tmp_path: Path) -> None:
    with_labels(tmp_path, 0, 2)
    with pytest.raises(DataError, match=r"train-labels-idx1-ubyte contains the label 3; the data set has 3 classes$"):
        with_labels(tmp_path, 3, 0)


def test_digits_are_the_rows_with_the_known_checksum_and_no_others(monkeypatch: pytest.MonkeyPatch) -> None:
    pixels, labels = image_data.read_digits(DATASETS["digits"])
    found = hashlib.md5(pixels.tobytes() + labels.tobytes()).hexdigest()
    assert found == "7696c07daa6d85010f8268703ab8b067"
    read = np.loadtxt

    def changed(*args: Any, **options: Any) -> Any:
        rows = read(*args, **options)
        rows[-1, 20] ^= 1
        return rows

    monkeypatch.setattr(np, "loadtxt", changed)
    with pytest.raises(DataError, match="the digits that came with mlpq were changed, by their checksum"):
        image_data.read_digits(DATASETS["digits"])


@pytest.fixture(params=[None, 7.5])
def timeout_before(request: pytest.FixtureRequest) -> Iterator[float | None]:
    """The time-out of sockets of this process."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(request.param)
    yield request.param
    socket.setdefaulttimeout(before)


@pytest.mark.parametrize("fails", [False, True])
def test_download_times_out_after_30_seconds_without_data_and_restores_the_time_out(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, timeout_before: float | None, fails: bool
) -> None:
    """A stalled mirror would block a worker; the time-out is of the whole process, which waits for much else."""
    within: list[float | None] = []

    def download(root: str, download: bool) -> None:
        within.append(socket.getdefaulttimeout())
        if fails:
            raise TimeoutError("timed out")

    monkeypatch.setattr(trainer_data, "torchvision_datasets", lambda: SimpleNamespace(KMNIST=download))
    with pytest.raises(DataError, match=r"can't be downloaded \(timed out\)" if fails else "has no file of kmnist"):
        trainer_data.locate(DATASETS["kmnist"], tmp_path)
    assert (within, socket.getdefaulttimeout()) == ([30.0], timeout_before)
