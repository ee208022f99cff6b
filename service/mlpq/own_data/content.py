"""What an own data set is: its arrays and what was done to them, in a file that is named by its SHA-256.

The file is in safetensors' format: 8 bytes with the length of the header, little-endian; the header, JSON with each
array's dtype, shape and offsets and the metadata; then the values. It holds no pickle, and any reader of safetensors
reads it. Equal content has equal bytes, so that the SHA-256 of the file is that of the content.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from io import BufferedIOBase
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlpq.errors import DataError, reason_of
from mlpq.own_data.files import path_of
from mlpq.regular_files import opened, write_parts

MAX_ROWS = 1_000_000  # training and test rows together
MAX_FEATURES = 100_000
MAX_CLASSES = 1_000
MAX_BYTES = 2**30  # of the four arrays as they are stored
HEADER_BYTES = 16 * 2**20
LENGTH = 8  # bytes of the length of the header
ALIGNMENT = 8
FORMAT = "mlpq data 1"
DTYPES: dict[str, np.dtype[Any]] = {"F32": np.dtype("<f4"), "U8": np.dtype("u1"), "U16": np.dtype("<u2")}
ARRAYS = ("train_x", "test_x", "train_y", "test_y")

Features = NDArray[np.uint8] | NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Content:
    """Features, uint8 or float32 [n, features], and class indices, int64 [n], of the training and of the test rows.

    A network sees the features divided by `scale`: 1 to 255 where they are bytes, 1 where they are floats. `about` is
    JSON: `classes` are the names of the classes by their index; the rest says where the data are from and what was
    done to them.
    """

    train_x: Features
    train_y: NDArray[np.int64]
    test_x: Features
    test_y: NDArray[np.int64]
    scale: int
    about: Mapping[str, Any]

    def __post_init__(self) -> None:
        train, test = self.train_x.shape, self.test_x.shape
        if len(train) != 2 or len(test) != 2 or train[1] != test[1]:
            raise DataError("training and test rows must have the same features")
        check_size(train[0], test[0], train[1], self.train_x.dtype.itemsize)
        if self.train_x.dtype != self.test_x.dtype or self.train_x.dtype not in (np.uint8, np.float32):
            raise DataError("the features must be all bytes or all floats of 32 bits")
        if not 1 <= self.scale <= (255 if self.train_x.dtype == np.uint8 else 1):
            raise DataError(f"the scale {self.scale} does not fit the features")
        _check_classes(self.about.get("classes"))
        for x, y in ((self.train_x, self.train_y), (self.test_x, self.test_y)):
            if y.dtype != np.int64 or y.shape != x.shape[:1]:
                raise DataError("each row must have one class")
            if y.min() < 0 or y.max() >= self.classes:
                raise DataError(f"a row has the class {y.max()}; there are {self.classes}")
            if x.dtype == np.float32 and not all(np.isfinite(block).all() for block in _blocks(x)):
                raise DataError("a feature is not finite")
        if len(self._header) > HEADER_BYTES:
            raise DataError(
                f"the names and figures of the features take {len(self._header):,} bytes; at most {HEADER_BYTES:,}"
            )

    @property
    def features(self) -> int:
        """Number of features."""
        return int(self.train_x.shape[1])

    @property
    def classes(self) -> int:
        """Number of classes."""
        return len(self.about["classes"])

    @property
    def size(self) -> int:
        """Bytes of the file."""
        return sum(map(len, self._parts()))

    @cached_property
    def sha256(self) -> str:
        """SHA-256 of the file, 64 hexadecimal digits."""
        digest = hashlib.sha256()
        for part in self._parts():
            digest.update(part)
        return digest.hexdigest()

    @cached_property
    def _stored(self) -> dict[str, NDArray[Any]]:
        """The arrays as they are stored, those of wider elements first, so that each is aligned."""
        arrays = {name: getattr(self, name) for name in ARRAYS}
        stored = {
            name: np.ascontiguousarray(array, "<u2" if name.endswith("_y") else array.dtype.newbyteorder("<"))
            for name, array in arrays.items()
        }
        return dict(sorted(stored.items(), key=lambda item: (-item[1].itemsize, item[0])))

    @cached_property
    def _header(self) -> bytes:
        metadata = {"about": _canonical(self.about), "format": FORMAT, "scale": str(self.scale)}
        header: dict[str, Any] = {"__metadata__": metadata}
        offset = 0
        for name, array in self._stored.items():
            dtype = next(code for code, each in DTYPES.items() if each == array.dtype)
            end = offset + array.nbytes
            header[name] = {"dtype": dtype, "shape": list(array.shape), "data_offsets": [offset, end]}
            offset = end
        text = _canonical(header).encode()
        return text + b" " * (-len(text) % ALIGNMENT)

    def _parts(self) -> Iterator[bytes | memoryview]:
        yield len(self._header).to_bytes(LENGTH, "little") + self._header
        for array in self._stored.values():
            yield array.reshape(-1).view(np.uint8).data


def check_size(train: int, test: int, features: int, itemsize: int) -> None:
    """Raise DataError where a data set of this size is too large, or has no rows or features."""
    if not train or not test:
        raise DataError(f"there are {train:,} training and {test:,} test rows; each needs at least 1")
    if train + test > MAX_ROWS:
        raise DataError(f"{train + test:,} rows are too many: at most {MAX_ROWS:,}, training and test together")
    if not 1 <= features <= MAX_FEATURES:
        raise DataError(f"there are {features:,} features; 1 to {MAX_FEATURES:,} are possible")
    size = (train + test) * (features * itemsize + DTYPES["U16"].itemsize)
    if size > MAX_BYTES:
        raise DataError(
            f"{train + test:,} rows of {features:,} features take {size:,} bytes as mlpq stores them; at most "
            f"{MAX_BYTES:,} ({MAX_BYTES // 2**20} MiB)"
        )


def write(content: Content, data_dir: Path) -> Path:
    """Store the content below the data folder, unless it is there already; raises DataError."""
    path = path_of(content.sha256, data_dir)
    try:
        if not _is_stored(content.sha256, path):
            write_parts(path, content._parts())
    except OSError as error:
        raise DataError(
            f"can't write to {path.parent}: {reason_of(error)}; set MLPQ_DATA_DIR to a folder you own"
        ) from (error)
    return path


def read(sha256: str, data_dir: Path) -> Content:
    """The content of that hash; raises DataError where its file is missing, damaged, or another one."""
    path = path_of(sha256, data_dir)
    try:
        with opened(path, LENGTH + HEADER_BYTES + MAX_BYTES) as file:
            content = parse(file)
    except OSError as error:
        raise DataError(f"{path} can't be read: {reason_of(error)}") from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, DataError) as error:
        raise DataError(f"{path} is damaged: remove it, and add the data set again") from error
    if content.sha256 != sha256:
        raise DataError(f"{path} has another content than its name says: remove it, and add the data set again")
    return content


def parse(file: BufferedIOBase) -> Content:
    """The content in an open file; raises ValueError, KeyError, TypeError, AttributeError or DataError where it is
    damaged.

    Sizes are checked before anything of that size is read.
    """
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    length = int.from_bytes(file.read(LENGTH), "little")
    if length > HEADER_BYTES:
        raise ValueError("header")
    text = file.read(length)
    header = json.loads(text)
    metadata = header.pop("__metadata__")
    if header.keys() != set(ARRAYS) or metadata["format"] != FORMAT:
        raise ValueError("header")
    shapes = {name: tuple(map(_natural, header[name]["shape"])) for name in ARRAYS}
    (train, features), (test, _) = shapes["train_x"], shapes["test_x"]
    check_size(train, test, features, DTYPES[header["train_x"]["dtype"]].itemsize)
    if shapes["train_y"] != (train,) or shapes["test_y"] != (test,) or shapes["test_x"] != (test, features):
        raise ValueError("shapes")
    dtypes = {name: DTYPES[header[name]["dtype"]] for name in ARRAYS}
    if size != LENGTH + length + sum(dtypes[name].itemsize * math.prod(shapes[name]) for name in ARRAYS):
        raise ValueError("truncated")
    arrays = {}
    for name in sorted(ARRAYS, key=lambda name: (-dtypes[name].itemsize, name)):
        values = bytearray(dtypes[name].itemsize * math.prod(shapes[name]))
        file.readinto(values)
        arrays[name] = np.frombuffer(values, dtypes[name]).reshape(shapes[name])
    content = Content(
        train_x=arrays["train_x"],
        train_y=arrays["train_y"].astype(np.int64),
        test_x=arrays["test_x"],
        test_y=arrays["test_y"].astype(np.int64),
        scale=int(metadata["scale"]),
        about=json.loads(metadata["about"]),
    )
    if content._header != text:  # such as with spaces: the hash of the file would not be the content's
        raise ValueError("header")
    return content


def _is_stored(sha256: str, path: Path) -> bool:
    try:
        with opened(path, LENGTH + HEADER_BYTES + MAX_BYTES) as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == sha256
    except FileNotFoundError:
        return False


def _natural(number: object) -> int:
    if not isinstance(number, int) or number < 0:
        raise ValueError("shape")
    return number


def _check_classes(names: object) -> None:
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names) or len(set(names)) < len(names):
        raise DataError("the classes must have names, each another one")
    if not 2 <= len(names) <= MAX_CLASSES:
        raise DataError(f"there are {len(names):,} classes; 2 to {MAX_CLASSES:,} are possible")


def _blocks(array: Features) -> Iterator[Features]:
    """The rows in blocks of about 16 MiB."""
    rows = max(1, 2**22 // array.shape[1])
    for start in range(0, len(array), rows):
        yield array[start : start + rows]


def _canonical(document: object) -> str:
    return json.dumps(document, sort_keys=True, separators=(",", ":"), allow_nan=False)
