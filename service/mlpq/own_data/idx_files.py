"""Reads folders with idx files, as MNIST has them, compressed or not, in any of the names they go by."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlpq import compressed
from mlpq.errors import DataError
from mlpq.own_data.content import MAX_BYTES, MAX_FEATURES, MAX_ROWS
from mlpq.own_data.parts import Arrays, Source, array_labels

TYPES = {8: "u1", 9: "i1", 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}
MAX_FILES = 1_000  # of a folder
MAX_DIMENSIONS = 4
TEST_NAMES = ("t10k", "test")
QMNIST_COLUMNS = 8  # of its labels; the first is the class
ENDINGS = ("", ".gz", ".bz2", ".xz", ".zip")


def find(folder: Path) -> dict[tuple[str, str], Path]:
    """The files by "train" or "test" and "images" or "labels", in the folder or in torchvision's layout below it.

    Of files that differ in their compression only, the least compressed is taken. Raises DataError where there are
    several of one kind.
    """
    found: dict[tuple[str, str], Path] = {}
    for place in (folder, folder / "raw", *_raw_folders(folder)):
        for file in _files(place):
            key = _kind(file)
            if key is None:
                continue
            if key in found and _bare(found[key].name) != _bare(file.name):
                raise DataError(
                    f"{folder} has several files with {key[0]} {key[1]}, {found[key].name} and {file.name}: put one "
                    "set of files into a folder of its own"
                )
            found.setdefault(key, file)
        if found:
            return found
    return found


def read(folder: Path) -> Source:
    """The images and labels of these files; raises DataError."""
    files = find(folder)
    parts = {}
    for which in ("train", "test"):
        present = [kind for kind in ("images", "labels") if (which, kind) in files]
        if len(present) == 1:
            other = "labels" if present[0] == "images" else "images"
            raise DataError(f"{folder} has {which} {present[0]} without {other}")
        if present:
            parts[which] = _part(files[which, "images"], files[which, "labels"])
    train = parts.get("train") or parts["test"]
    test = parts.get("test") if "train" in parts else None
    if test is not None and test.shape != train.shape:
        raise DataError(f"{folder}: test images have the shape {test.shape}, training images {train.shape}")
    return Source(train, test)


def _part(images: Path, labels: Path) -> Arrays:
    x, y = _array(images), _array(labels)
    if x.ndim < 2 or not x.size:
        raise DataError(f"{images} has the shape {x.shape}; images have rows and pixels")
    if len(x) != len(y):
        raise DataError(f"{images.name} has {len(x):,} rows, and {labels.name} {len(y):,}")
    if y.ndim == 2 and y.shape[1] == QMNIST_COLUMNS:
        y = y[:, 0]
    named = array_labels(y, labels.name)
    return Arrays(x.reshape(len(x), -1), named, images.name, x.shape[1:])


def _array(path: Path) -> NDArray[Any]:
    """The array in an idx file; raises DataError before it is read where its header says that it is too large."""
    with compressed.opened(path, 2 * MAX_BYTES) as file:
        magic = file.read(4)
        if not _is_magic(magic):
            raise DataError(f"{path} is no idx file, by its first bytes")
        header = file.read(4 * magic[3])
        shape = tuple(int.from_bytes(header[i : i + 4], "big") for i in range(0, len(header), 4))
        dtype = np.dtype(TYPES[magic[2]])
        if shape and (shape[0] > MAX_ROWS or math.prod(shape[1:]) > MAX_FEATURES):
            raise DataError(
                f"{path} says that it has the shape {shape}; at most {MAX_ROWS:,} rows and {MAX_FEATURES:,} features "
                "are possible"
            )
        size = math.prod(shape) * dtype.itemsize
        if size > MAX_BYTES:
            raise DataError(f"{path} says that it has {size:,} bytes; at most {MAX_BYTES:,} are stored")
        content = bytearray(file.read(size))
        if len(header) < 4 * magic[3] or len(content) < size:
            raise DataError(f"{path} is truncated: its header says {size:,} bytes, and it has {len(content):,}")
        if file.read(1):
            raise DataError(f"{path} has more than the {size:,} bytes that its header says")
    return np.frombuffer(content, dtype).reshape(shape)


def _raw_folders(folder: Path) -> list[Path]:
    """Folders of torchvision's layout, as MNIST/raw."""
    return sorted(each / "raw" for each in _entries(folder) if (each / "raw").is_dir())


def _files(folder: Path) -> list[Path]:
    """The files, also those that 7-Zip unpacks into a folder of their name; the least compressed first."""
    files = []
    for each in _entries(folder):
        files += [each] if each.is_file() else [file for file in _entries(each) if _bare(file.name) == _bare(each.name)]
    return sorted(files, key=lambda file: (_bare(file.name), _ending(file.name)))


def _entries(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    entries = sorted(folder.iterdir())
    return entries if len(entries) <= MAX_FILES else []


def _bare(name: str) -> str:
    """The name without what compressed it; 7-Zip unpacks train-images-idx3-ubyte as train-images.idx3-ubyte."""
    return name.lower().removesuffix(ENDINGS[_ending(name)]).replace(".idx", "-idx")


def _ending(name: str) -> int:
    return next((i for i, ending in enumerate(ENDINGS) if i and name.lower().endswith(ending)), 0)


def _kind(file: Path) -> tuple[str, str] | None:
    """Whether a file has training or test images or labels, by its name; None for any other file.

    Where the name does not say that it is an idx file, its content must.
    """
    bare = _bare(file.name)
    kind = next((kind for kind in ("images", "labels") if kind in bare), None)
    part = "train" if "train" in bare else "test" if any(each in bare for each in TEST_NAMES) else None
    if kind is None or part is None or file.name.startswith("."):
        return None
    return (part, kind) if "idx" in bare or "ubyte" in bare or _is_idx(file) else None


def _is_idx(file: Path) -> bool:
    try:
        with compressed.opened(file, 2 * MAX_BYTES) as content:
            return _is_magic(content.read(4))
    except DataError:
        return False


def _is_magic(magic: bytes) -> bool:
    """Whether an idx file begins with these four bytes."""
    return len(magic) == 4 and magic[:2] == b"\0\0" and magic[2] in TYPES and 1 <= magic[3] <= MAX_DIMENSIONS
