"""The data sets: their sizes, where their files are, and their checksums.

This module locates and verifies files; workers turn them into tensors. A spec names a data set of this registry, never
a path.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import shutil
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mlpq.errors import DataError, nearest, reason_of

FILES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)


@dataclass(frozen=True)
class Dataset:
    """`gz_md5` are checksums of the files as published, compressed; `md5` of their content, where it is known.

    `system_gz_md5` are those of the system's package, which compresses the same content differently.
    """

    name: str
    features: int
    classes: int
    train: int
    test: int
    torchvision: str | None = None
    gz_md5: Mapping[str, str] | None = None
    md5: Mapping[str, str] | None = None
    system_dirs: tuple[Path, ...] = ()
    system_gz_md5: Mapping[str, str] | None = None
    system_package: str | None = None

    @property
    def bundled(self) -> bool:
        """True for data that comes with a Python package: there is no file to locate."""
        return self.torchvision is None

    @property
    def checksum(self) -> str:
        """MD5 over the registered checksums: identifies the data that an attempt trained on."""
        sums = self.md5 or self.gz_md5 or {}
        return hashlib.md5("".join(sums[name] for name in sorted(sums)).encode()).hexdigest()


def _idx(*sums: str) -> dict[str, str]:
    return dict(zip(FILES, sums, strict=True))


DATASETS = {
    dataset.name: dataset
    for dataset in (
        Dataset(
            name="fashion-mnist",
            features=784,
            classes=10,
            train=60_000,
            test=10_000,
            torchvision="FashionMNIST",
            gz_md5=_idx(
                "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
                "25c81989df183df01b3e8a0aad5dffbe",
                "bef4ecab320f06d8554ea6380940ec79",
                "bb300cfdad3c16e7a12a480ee83cd310",
            ),
            md5=_idx(
                "f4a8712d7a061bf5bd6d2ca38dc4d50a",
                "9018921c3c673c538a1fc5bad174d6f9",
                "8181f5470baa50b63fa0f6fddb340f0a",
                "15d484375f8d13e6eb1aabb0c3f46965",
            ),
            system_dirs=(Path("/usr/share/datasets/fashion-mnist"),),
            system_gz_md5=_idx(
                "cf8536b0aa1a6ac5fa3f23001093305c",
                "10bea18fdb374794d4bb42e356e600c9",
                "f78720b4224f21cce2f2ccf2d7a94c9a",
                "0d30e22e447f3c33dab9ed536400ac01",
            ),
            system_package="dataset-fashion-mnist",
        ),
        Dataset(
            name="mnist",
            features=784,
            classes=10,
            train=60_000,
            test=10_000,
            torchvision="MNIST",
            gz_md5=_idx(
                "f68b3c2dcbeaaa9fbdd348bbdeb94873",
                "d53e105ee54ea40749a09fcbcd1e9432",
                "9fb629c4189551a2d022fa330f9573f3",
                "ec29112dd5afa0611ce80d1b7f02629c",
            ),
        ),
        Dataset(
            name="kmnist",
            features=784,
            classes=10,
            train=60_000,
            test=10_000,
            torchvision="KMNIST",
            gz_md5=_idx(
                "bdb82020997e1d708af4cf47b453dcf7",
                "e144d726b3acfaa3e44228e80efcd344",
                "5c965bf0a639b31b8f53240b1b52f4d7",
                "7320c461ea6c1c855c0b718fb2a4b134",
            ),
        ),
        Dataset(
            name="digits",
            features=64,
            classes=10,
            train=1_297,
            test=500,
            md5={"digits": "7696c07daa6d85010f8268703ab8b067"},
        ),
    )
}


def dataset_named(name: str) -> Dataset:
    """The data set of that name; raises DataError that suggests the closest name."""
    try:
        return DATASETS[name.lower()]
    except KeyError:
        raise DataError(f"unknown data set '{name}'{nearest(name, DATASETS)}") from None


def find(dataset: Dataset, data_dir: Path) -> Path | None:
    """The folder with the data set's files: in `data_dir`, else the system's; None where there is none.

    In `data_dir` they may be in torchvision's layout, in a folder of the data set's name, or directly. A folder with
    only some of the files counts as found: it is a damaged copy, and `verify` says so. Bundled data has no folder.
    """
    if dataset.bundled:
        return None
    for folder in (own_folder(dataset, data_dir), data_dir / dataset.name):
        if _holds_any(folder):
            return folder
    if _is_directly_in(dataset, data_dir):
        return data_dir
    return next((folder for folder in dataset.system_dirs if _holds_any(folder)), None)


def _is_directly_in(dataset: Dataset, data_dir: Path) -> bool:
    """Whether the files are in `data_dir` itself and their checksums are not another data set's: all data sets use the
    same file names."""
    others = (other for other in DATASETS.values() if other is not dataset and not other.bundled)
    return _holds_any(data_dir) and not any(_is_part_of(other, data_dir) for other in others)


def _is_part_of(dataset: Dataset, folder: Path) -> bool:
    for name in FILES:
        try:
            _verified(dataset, folder, name)
        except DataError:
            continue
        return True
    return False


def _holds_any(folder: Path) -> bool:
    return any(_file(folder, name) for name in FILES)


def own_folder(dataset: Dataset, data_dir: Path) -> Path:
    """Where `data fetch` and `data import` put the files: torchvision's layout."""
    return data_dir / str(dataset.torchvision) / "raw"


def verify(dataset: Dataset, folder: Path) -> dict[str, Path]:
    """The four files of the data set in `folder`, with verified checksums; raises DataError that names the bad one."""
    return {name: _verified(dataset, folder, name) for name in FILES}


def import_files(dataset: Dataset, source: Path, data_dir: Path) -> Path:
    """Copy the files from `source` into `data_dir`; writes nothing unless all four checksums are right."""
    files = verify(dataset, source)
    target = own_folder(dataset, data_dir)
    try:
        target.mkdir(parents=True, exist_ok=True)
        for name, file in files.items():
            temporary = target / f".{file.name}.{os.getpid()}"
            shutil.copyfile(file, temporary)
            os.replace(temporary, target / file.name)
            other = target / (name if file.suffix == ".gz" else f"{name}.gz")
            other.unlink(missing_ok=True)
    except OSError as error:
        raise DataError(
            f"can't write to {target}: {reason_of(error)}; set MLPQ_DATA_DIR to a folder you own"
        ) from error
    return target


def how_to_get(dataset: Dataset) -> str:
    """What to type when the files are not on this machine."""
    return f"mlpq data fetch {dataset.name}, or {how_to_import(dataset)}"


def how_to_import(dataset: Dataset) -> str:
    """What to type when they can't be downloaded."""
    package = f", or apt install {dataset.system_package}" if dataset.system_package else ""
    return f"mlpq data import {dataset.name} DIR{package}"


def read_bytes(file: Path) -> bytes:
    """The content of an idx file, compressed or not; raises DataError where it is truncated."""
    try:
        raw = file.read_bytes()
        return gzip.decompress(raw) if file.suffix == ".gz" else raw
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{file} can't be read, it is damaged or truncated: {error}") from error


def _file(folder: Path, name: str) -> Path | None:
    for candidate in (folder / f"{name}.gz", folder / name):
        if candidate.is_file():
            return candidate
    return None


def _verified(dataset: Dataset, folder: Path, name: str) -> Path:
    file = _file(folder, name)
    if file is None:
        raise DataError(f"{folder / name}.gz is missing; get the complete data set: {how_to_get(dataset)}")
    known = {(sums or {}).get(name) for sums in (dataset.gz_md5, dataset.system_gz_md5)}
    md5 = (dataset.md5 or {}).get(name)
    if file.suffix != ".gz" and md5 is None:
        raise DataError(
            f"{file} can't be verified, only the compressed file has a known checksum: put {name}.gz beside it"
        )
    try:
        compressed_right = file.suffix == ".gz" and hashlib.md5(file.read_bytes()).hexdigest() in known
    except OSError as error:
        raise DataError(f"{file} can't be read: {reason_of(error)}") from error
    # Any other .gz is verified by its content: the same content may have been compressed differently.
    if compressed_right or (md5 is not None and hashlib.md5(read_bytes(file)).hexdigest() == md5):
        return file
    raise DataError(f"{file} has the wrong checksum, it is damaged or truncated: remove it, then {how_to_get(dataset)}")
