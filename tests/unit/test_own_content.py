"""The file of an own data set: named by its hash, the same on every machine, and refused where it is damaged."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file

from mlpq.errors import DataError
from mlpq.own_data.content import Content, read, write
from mlpq.own_data.files import path_of

FLOATS = Content(
    train_x=np.array([[0.5, -1], [2, 3], [4, 5]], np.float32),
    train_y=np.array([0, 1, 1]),
    test_x=np.array([[6, 7]], np.float32),
    test_y=np.array([0]),
    scale=1,
    about={"classes": ["no", "yes"], "features": ["a", "b"], "source": "Zürich.csv"},
)
PIXELS = replace(FLOATS, train_x=np.eye(3, dtype=np.uint8), test_x=np.ones((1, 3), np.uint8), scale=255)


@pytest.mark.parametrize("content", [FLOATS, PIXELS], ids=["floats", "pixels"])
def test_written_content_is_read_again(tmp_path: Path, content: Content) -> None:
    path = write(content, tmp_path)
    assert path == path_of(content.sha256, tmp_path)
    again = read(content.sha256, tmp_path)
    for name in ("train_x", "train_y", "test_x", "test_y"):
        np.testing.assert_array_equal(getattr(again, name), getattr(content, name), strict=True)
    assert (again.about, again.scale, again.sha256) == (content.about, content.scale, content.sha256)
    assert (again.features, again.classes) == (content.features, 2)
    assert path.stat().st_size == content.size


def test_hash_is_that_of_the_file_and_never_changes(tmp_path: Path) -> None:
    path = write(FLOATS, tmp_path)
    assert hashlib.sha256(path.read_bytes()).hexdigest() == FLOATS.sha256
    assert FLOATS.sha256 == "b88fbbdae1813549eca87a728f759136c04e79e839d77b001c4a022917353231"


def test_the_librarys_own_reader_reads_the_file(tmp_path: Path) -> None:
    arrays = load_file(write(PIXELS, tmp_path))
    np.testing.assert_array_equal(arrays["train_x"], PIXELS.train_x)
    np.testing.assert_array_equal(arrays["test_y"], PIXELS.test_y)


@pytest.mark.parametrize(
    "change",
    [
        {"about": {**FLOATS.about, "source": "other.csv"}},
        {"about": {**FLOATS.about, "classes": ["yes", "no"]}},
        {"train_x": FLOATS.train_x + 1},
        {"test_y": FLOATS.test_y + 1},
    ],
    ids=["source", "classes", "features", "labels"],
)
def test_hash_covers_the_arrays_and_what_was_done_to_them(change: dict[str, Any]) -> None:
    assert replace(FLOATS, **change).sha256 != FLOATS.sha256


def test_bytes_in_another_order_in_memory_have_the_same_hash() -> None:
    swapped = replace(FLOATS, train_x=np.asfortranarray(FLOATS.train_x).astype(np.float32))
    assert swapped.sha256 == FLOATS.sha256


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200)
@given(data=st.data())
def test_every_changed_byte_is_refused(tmp_path: Path, data: st.DataObject) -> None:
    path = write(FLOATS, tmp_path)
    content = bytearray(path.read_bytes())
    content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    path.write_bytes(content)
    with pytest.raises(DataError, match="add the data set again"):
        read(FLOATS.sha256, tmp_path)
    assert read(FLOATS.sha256, write(FLOATS, tmp_path).parent.parent).sha256 == FLOATS.sha256  # written again


@pytest.mark.parametrize("kept", [0, 5, 8, 100, -1])
def test_truncated_file_is_refused(tmp_path: Path, kept: int) -> None:
    path = write(FLOATS, tmp_path)
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(DataError, match="is damaged"):
        read(FLOATS.sha256, tmp_path)


def test_header_of_huge_arrays_allocates_nothing(tmp_path: Path) -> None:
    path = write(PIXELS, tmp_path)
    length = int.from_bytes(path.read_bytes()[:8], "little")
    header = json.loads(path.read_bytes()[8 : 8 + length])
    header["train_x"]["shape"] = [900_000, 2_000]
    header["train_y"]["shape"] = [900_000]
    header["test_x"]["shape"] = [1, 2_000]
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text)
    with pytest.raises(DataError, match="is damaged"):
        read(PIXELS.sha256, tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"train_x": np.zeros((3, 3), np.float32)}, "the same features"),
        ({"train_x": np.zeros((3, 2), np.float64)}, "all bytes or all floats"),
        ({"train_x": np.full((3, 2), np.inf, np.float32)}, "not finite"),
        ({"train_y": np.array([0, 1, 2])}, "has the class 2; there are 2"),
        ({"train_y": np.array([0, 1])}, "each row must have one class"),
        ({"scale": 255}, "the scale 255"),
        ({"about": {"classes": ["a", "a"]}}, "each another one"),
        ({"about": {"classes": ["a"]}}, "1 classes; 2 to 1,000"),
        ({"test_x": np.zeros((0, 2), np.float32), "test_y": np.zeros(0, np.int64)}, "0 test rows"),
    ],
)
def test_inconsistent_content_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        replace(FLOATS, **change)
