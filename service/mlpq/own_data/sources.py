"""Recognizes what a source is by its content, and reads it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from mlpq import compressed
from mlpq.errors import DataError, reason_of
from mlpq.own_data import csv_files, idx_files, image_folders, library_sets, npz_files, parquet_files
from mlpq.own_data.image_folders import ImageOptions
from mlpq.own_data.parts import Source
from mlpq.own_data.tables import TableOptions

OTHERS = {
    b"\x93NUMPY": "one NumPy array: save all arrays in one file by numpy.savez",
    b"\x89HDF": "an HDF5 file: convert it to NPZ or Parquet",
    b"\x80\x02": "a pickle, which mlpq never loads: convert it to NPZ or Parquet",
    b"\x80\x03": "a pickle, which mlpq never loads: convert it to NPZ or Parquet",
    b"\x80\x04": "a pickle, which mlpq never loads: convert it to NPZ or Parquet",
    b"\x80\x05": "a pickle, which mlpq never loads: convert it to NPZ or Parquet",
    b"\x28\xb5\x2f\xfd": "compressed by zstd: decompress it",
    b"\x89PNG": "one image: name the folder that has a folder of images for each class",
    b"\xff\xd8\xff": "one image: name the folder that has a folder of images for each class",
    **{bytes((0, 0, kind)): "one idx file: name the folder with all four" for kind in idx_files.TYPES},
}


class Kind(Enum):
    """What a source is, as messages call it."""

    CSV = "a CSV file"
    PARQUET = "a Parquet file"
    NPZ = "an NPZ file"
    IDX = "a folder of idx files"
    IMAGES = "a folder of images"
    LIBRARY = "a data set of a library"


@dataclass(frozen=True)
class ReadOptions:
    """How sources are read."""

    table: TableOptions
    images: ImageOptions


def read(source: str, options: ReadOptions, data_dir: Path) -> Source:
    """What the source holds; raises DataError, also for an option that a source of its kind doesn't have."""
    kind = kind_of(source)
    _check_options(kind, options, source)
    path = _path(source)
    if kind is Kind.LIBRARY:
        return library_sets.read(source, data_dir)
    if kind is Kind.NPZ:
        return npz_files.read(path)
    if kind is Kind.IDX:
        return idx_files.read(path)
    if kind is Kind.IMAGES:
        return image_folders.read(path, options.images)
    return Source((parquet_files if kind is Kind.PARQUET else csv_files).read(path, options.table))


def is_same(source: str, other: str) -> bool:
    """Whether two sources are one file or folder; raises DataError."""
    first, second = _path(source), _path(other)
    return first.exists() and second.exists() and first.samefile(second)


def kind_of(source: str) -> Kind:
    """What a source is; raises DataError for anything else."""
    path = _path(source)
    if path.is_dir():
        if idx_files.find(path):
            return Kind.IDX
        if image_folders.is_folder_of_images(path):
            return Kind.IMAGES
        raise DataError(f"{source} has neither idx files nor a folder of PNG or JPEG images for each class")
    if library_sets.is_name(source) and not path.exists():
        return Kind.LIBRARY
    if not path.exists():
        raise DataError(f"{source} {'is a URL: download it first' if '://' in source else 'does not exist'}")
    magic = compressed.magic_of(path)
    if magic.startswith(parquet_files.MAGIC):
        return Kind.PARQUET
    if magic.startswith((compressed.ZIP, b"PK\x05\x06")):
        return _kind_of_zip(path)
    for start, what in OTHERS.items():
        if magic.startswith(start):
            raise DataError(f"{source} is {what}")
    if not magic:
        raise DataError(f"{source} is empty")
    return Kind.CSV


def _path(source: str) -> Path:
    """The path of a source; raises DataError for one that no file can have."""
    if not source.strip():
        raise DataError("the source is empty: name a file, a folder, or a data set as sklearn:wine")
    try:
        path = Path(source).expanduser()
        path.exists()
    except (OSError, ValueError, RuntimeError) as error:  # too long, a null character, the home of nobody
        reason = reason_of(error) if isinstance(error, OSError) else str(error)
        raise DataError(f"{source[:60]} is no path: {reason}") from error
    return path


def _kind_of_zip(path: Path) -> Kind:
    with compressed.opened_zip(path) as archive:
        names = archive.namelist()
    if any(name.startswith("xl/") for name in names):
        raise DataError(f"{path} is an Excel workbook: save it as CSV")
    if not names or any(name.endswith(".npy") for name in names):
        return Kind.NPZ
    files = [name for name in names if compressed.is_member(name)]
    if len(files) != 1:
        raise DataError(
            f"{path} holds {len(files)} files, none of them an array: unpack it, and name one of them or their folder"
        )
    return Kind.CSV


def _check_options(kind: Kind, options: ReadOptions, source: str) -> None:
    table, images = options.table, options.images
    is_table = kind in (Kind.CSV, Kind.PARQUET)
    given = {
        "--target": (table.target is not None, is_table),
        "--text": (bool(table.text), is_table),
        "--ignore": (bool(table.ignore), is_table),
        "--no-header": (not table.header, kind is Kind.CSV),
        "--size": (images.size is not None, kind is Kind.IMAGES),
        "--gray": (images.gray, kind is Kind.IMAGES),
    }
    for option, (is_given, is_possible) in given.items():
        if is_given and not is_possible:
            raise DataError(f"{option} does not apply: {source} is {kind.value}")
