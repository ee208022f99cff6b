"""Reads NPZ files: Keras's x_train, y_train, x_test and y_test, or X and y. No pickle is loaded."""

from __future__ import annotations

import io
import math
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from mlpq import compressed
from mlpq.errors import DataError
from mlpq.own_data.content import MAX_BYTES, MAX_FEATURES, MAX_ROWS
from mlpq.own_data.parts import Arrays, Source, array_labels

MAX_HEADER = 10_000  # bytes
LAYOUTS = (
    ("x_train", "y_train", "x_test", "y_test"),
    ("train_images", "train_labels", "test_images", "test_labels"),
    ("x", "y", "x_test", "y_test"),
)


def read(path: Path) -> Source:
    """The arrays in an NPZ file; raises DataError before an array is read whose header says that it is too large."""
    with compressed.opened_zip(path) as archive:
        members = _members(archive, path)
        names = next((each for each in LAYOUTS if set(each[:2]) <= members.keys()), None)
        if names is None:
            found = ", ".join(sorted(each.filename.removesuffix(".npy") for each in members.values())[:10])
            raise DataError(f"{path} has the arrays {found or 'none'}; it needs x_train and y_train, or X and y")
        train = _part(archive, members, names[:2], path)
        pair = [name in members for name in names[2:]]
        if any(pair) and not all(pair):
            raise DataError(f"{path} has only one of {names[2]} and {names[3]}")
        test = _part(archive, members, names[2:], path) if all(pair) else None
    if test is not None and test.shape != train.shape:
        raise DataError(f"{path}: test rows have the shape {test.shape}, training rows {train.shape}")
    unused = sorted(members.keys() - set(names))
    notes = (f"not used of {path.name}: {', '.join(unused[:10])}",) if unused else ()
    return Source(train, test, notes)


def _members(archive: zipfile.ZipFile, path: Path) -> dict[str, zipfile.ZipInfo]:
    """The arrays by their names in lower case; raises DataError where two have one name."""
    found: dict[str, zipfile.ZipInfo] = {}
    for each in archive.infolist():
        if each.filename.endswith(".npy") and found.setdefault(_key(each.filename), each) is not each:
            raise DataError(f"{path} has two arrays '{_key(each.filename)}': save it with one of them")
    return found


def _key(name: str) -> str:
    return name.removesuffix(".npy").lower()


def _part(archive: zipfile.ZipFile, members: dict[str, zipfile.ZipInfo], names: tuple[str, ...], path: Path) -> Arrays:
    x_name, y_name = names
    x = _array(archive, members[x_name], path)
    where = f"{path.name}, {members[x_name].filename.removesuffix('.npy')}"
    if x.ndim < 2 or not x.size:
        raise DataError(f"{where} has the shape {x.shape}; it needs rows and features")
    if x.dtype.kind not in "biuf":
        raise DataError(f"{where} has the type {x.dtype}; features must be real numbers")
    y = _array(archive, members[y_name], path)
    labels = array_labels(y, f"{path.name}, {members[y_name].filename.removesuffix('.npy')}")
    if len(labels.codes) != len(x):
        raise DataError(f"{path}: {x_name} has {len(x):,} rows, and {y_name} {len(labels.codes):,}")
    return Arrays(x.reshape(len(x), -1), labels, where, x.shape[1:])


def _array(archive: zipfile.ZipFile, member: zipfile.ZipInfo, path: Path) -> NDArray[Any]:
    name = f"{path}, {member.filename}"
    try:
        with archive.open(member) as file:
            shape, is_fortran, dtype = _header(file)
            _check(name, shape, dtype)
            size = math.prod(shape) * dtype.itemsize
            if file.tell() + size != member.file_size:
                raise ValueError(f"its header says {size:,} bytes, and it has {member.file_size - file.tell():,}")
            content = _exactly(file, size)
    except (OSError, *compressed.DAMAGE) as error:
        raise compressed.damaged(Path(name), error) from error
    return np.frombuffer(content, dtype).reshape(shape, order="F" if is_fortran else "C")


def _header(file: Any) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Shape, whether it is in Fortran's order, and dtype; raises ValueError."""
    version = npy.read_magic(file)
    reader = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}.get(version)
    if reader is None:
        raise ValueError(f"its format has the version {version}")
    return reader(file, max_header_size=MAX_HEADER)


def _check(name: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
    if dtype.hasobject:
        raise DataError(f"{name} holds pickled Python objects, which mlpq never loads: save it as numbers")
    if dtype.names is not None or dtype.subdtype is not None or dtype.kind not in "biufUS":
        raise DataError(f"{name} has the type {dtype}; arrays must have real numbers, labels also text")
    if any(size < 0 for size in shape):
        raise ValueError("its header has a negative size")
    rows, features = (shape or (0,))[0], math.prod(shape[1:])
    if rows > MAX_ROWS or features > MAX_FEATURES:
        raise DataError(
            f"{name} has the shape {shape}; at most {MAX_ROWS:,} rows and {MAX_FEATURES:,} features are possible"
        )
    stored = math.prod(shape) * (1 if dtype == np.uint8 else min(dtype.itemsize, 4))
    if stored > MAX_BYTES or math.prod(shape) * dtype.itemsize > 2 * MAX_BYTES:
        raise DataError(
            f"{name} has the shape {shape} of {dtype}, which is too large: at most {MAX_BYTES:,} bytes "
            f"({MAX_BYTES // 2**20} MiB) are stored"
        )


def _exactly(file: Any, size: int) -> bytearray:
    """So many bytes, no more of which are reserved than there are."""
    content = io.BytesIO()
    while content.tell() < size:
        chunk = file.read(min(size - content.tell(), 2**24))
        if not chunk:
            raise ValueError("it is truncated")
        content.write(chunk)
    file.read(1)  # at its end zipfile checks the checksum
    return bytearray(content.getbuffer())
