"""The data sets: their sizes, where their files are, and their checksums.

This module locates and verifies files; workers turn them into tensors. A spec names a data set of this registry, never
a path.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mlpq import compressed
from mlpq.errors import DataError, nearest, reason_of

MAX_BYTES = 64 * 2**20  # of a file or its content; the largest has 47,040,016
REPLACE = ": remove it"  # begins the advice in messages about a bad file

FILES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)


@dataclass(frozen=True)
class Dataset:
    """`gz_md5` are checksums of the files as published, compressed; `md5` of their content, where it is known.

    `system_gz_md5` are those of the system's package, which compresses the same content differently. `by_gz`: the
    identifying checksum is over `gz_md5`, as when those of the content were not known. `class_names` are empty where
    the classes are digits. `sha256` is that of an own data set's content. `url` ends before the names of the files,
    which are compressed there; in `system_dirs` they may be besides mlpq's data folder.
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
    by_gz: bool = False
    class_names: tuple[str, ...] = ()
    sha256: str | None = None
    url: str | None = None

    @property
    def bundled(self) -> bool:
        """True for data that comes with a Python package: there is no file to locate."""
        return self.torchvision is None and self.sha256 is None

    def class_name(self, number: int) -> str:
        """ "Ankle boot", or "7" where the classes are digits."""
        return self.class_names[number] if self.class_names else str(number)

    @property
    def unit(self) -> str:
        """What a row of it is called: "image", or "row" of an own data set."""
        return "image" if self.sha256 is None else "row"

    @property
    def checksum(self) -> str:
        """Identifies the data that an attempt trained on: the content's SHA-256, or MD5 over registered checksums."""
        if self.sha256 is not None:
            return self.sha256
        sums = (self.gz_md5 if self.by_gz else self.md5) or {}
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
            url="http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
            class_names=(
                "T-shirt/top",
                "Trouser",
                "Pullover",
                "Dress",
                "Coat",
                "Sandal",
                "Shirt",
                "Sneaker",
                "Bag",
                "Ankle boot",
            ),
        ),
        Dataset(
            name="mnist",
            features=784,
            classes=10,
            train=60_000,
            test=10_000,
            torchvision="MNIST",
            url="https://ossci-datasets.s3.amazonaws.com/mnist/",
            gz_md5=_idx(
                "f68b3c2dcbeaaa9fbdd348bbdeb94873",
                "d53e105ee54ea40749a09fcbcd1e9432",
                "9fb629c4189551a2d022fa330f9573f3",
                "ec29112dd5afa0611ce80d1b7f02629c",
            ),
            md5=_idx(
                "6bbc9ace898e44ae57da46a324031adb",
                "a25bea736e30d166cdddb491f175f624",
                "2646ac647ad5339dbf082846283269ea",
                "27ae3e4e09519cfbb04c329615203637",
            ),
            by_gz=True,
        ),
        Dataset(
            name="kmnist",
            features=784,
            classes=10,
            train=60_000,
            test=10_000,
            torchvision="KMNIST",
            url="http://codh.rois.ac.jp/kmnist/dataset/kmnist/",
            gz_md5=_idx(
                "bdb82020997e1d708af4cf47b453dcf7",
                "e144d726b3acfaa3e44228e80efcd344",
                "5c965bf0a639b31b8f53240b1b52f4d7",
                "7320c461ea6c1c855c0b718fb2a4b134",
            ),
            by_gz=True,
            class_names=("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo"),
        ),
        Dataset(
            name="digits",
            features=64,
            classes=10,
            train=1_297,
            test=500,
            md5={"digits": "7696c07daa6d85010f8268703ab8b067"},
            system_dirs=(Path(__file__).resolve().parents[1] / "data",),
            url="https://raw.githubusercontent.com/scikit-learn/scikit-learn/1.9.1/sklearn/datasets/data/",
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
    for folder in _folders_below(dataset, data_dir):
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


def _folders_below(dataset: Dataset, root: Path) -> tuple[Path, ...]:
    """Where the files may be below a folder: in torchvision's layout, or in a folder of the data set's name."""
    return (own_folder(dataset, root), root / dataset.name)


def verify(dataset: Dataset, folder: Path) -> dict[str, Path]:
    """The four files of the data set in `folder`, with verified checksums; raises DataError that names the bad one."""
    return {name: _verified(dataset, folder, name) for name in FILES}


def _verify_source(dataset: Dataset, source: Path) -> dict[str, Path]:
    """As `verify`, for a folder of the user's: also in torchvision's layout below it, with advice for an import."""
    candidates = (source, source / "raw", *_folders_below(dataset, source))
    folder = next((each for each in candidates if _holds_any(each)), None)
    if folder is None:
        raise DataError(
            f"{source} has no file of {dataset.name}: name the folder with {', '.join(FILES)}, with or without .gz"
        )
    for name in FILES:
        if _file(folder, name) is None:
            raise DataError(f"{name}.gz is missing in {folder}: put it there, and import again")
    try:
        return verify(dataset, folder)
    except DataError as error:
        reason = str(error).partition(REPLACE)[0]
        raise DataError(f"{reason}: replace it by a fresh copy, and import again") from error


def import_files(dataset: Dataset, source: Path, data_dir: Path) -> Path:
    """Copy the files from `source` into `data_dir`; writes nothing unless all four checksums are right."""
    files = _verify_source(dataset, source)
    target = own_folder(dataset, data_dir)
    try:
        target.mkdir(parents=True, exist_ok=True)
        for name, file in files.items():
            zipped, bare = target / f"{name}.gz", target / name
            wanted, other = (zipped, bare) if _is_zipped(file) else (bare, zipped)
            temporary = target / f".{name}.{os.getpid()}"
            try:
                temporary.write_bytes(_read(file) if wanted is zipped else read_bytes(file))
                os.replace(temporary, wanted)
            finally:
                temporary.unlink(missing_ok=True)
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
    """The content of an idx file, whatever compressed it; raises DataError where it is truncated or too large."""
    raw = _read(file)
    if raw.startswith((compressed.BZIP2, compressed.XZ, compressed.ZIP)):
        return compressed.read(file, MAX_BYTES)
    if not raw.startswith(compressed.GZIP) and file.suffix != ".gz":
        return raw
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(raw)) as stream:
            content = stream.read(MAX_BYTES + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{file} can't be read, it is damaged or truncated: {error}") from error
    return _checked_size(file, content)


def _is_zipped(file: Path) -> bool:
    """Whether gzip compressed it, as its name or its content says."""
    return file.suffix == ".gz" or compressed.magic_of(file).startswith(compressed.GZIP)


def _read(file: Path) -> bytes:
    try:
        with file.open("rb") as stream:
            return _checked_size(file, stream.read(MAX_BYTES + 1))
    except OSError as error:
        raise DataError(f"{file} can't be read: {reason_of(error)}") from error


def _checked_size(file: Path, content: bytes) -> bytes:
    """The content; raises DataError for more than any file has, of which no more was read or decompressed."""
    if len(content) > MAX_BYTES:
        raise DataError(f"{file} has more than {MAX_BYTES // 2**20} MiB, it is not a file of a data set{REPLACE}")
    return content


def _file(folder: Path, name: str) -> Path | None:
    """The file of that name in a folder, compressed or not; 7-Zip unpacks train-images-… as train-images.…."""
    dotted = name.replace("-idx", ".idx")
    candidates = [folder / f"{name}.gz", folder / name, folder / dotted, folder / f"{dotted}.gz"]
    candidates += [folder / name / name, folder / name / dotted]
    candidates += [folder / f"{each}{ending}" for ending in (".bz2", ".xz", ".zip") for each in (name, dotted)]
    return next((file for file in candidates if file.is_file()), None)


def _verified(dataset: Dataset, folder: Path, name: str) -> Path:
    file = _file(folder, name)
    if file is None:
        raise DataError(f"{folder / name}.gz is missing; get the complete data set: {how_to_get(dataset)}")
    known = {(sums or {}).get(name) for sums in (dataset.gz_md5, dataset.system_gz_md5)}
    md5 = (dataset.md5 or {}).get(name)
    is_zipped = _is_zipped(file)
    if not is_zipped and md5 is None:
        raise DataError(
            f"{file} can't be verified, only the compressed file has a known checksum: put {name}.gz beside it"
        )
    is_published = is_zipped and hashlib.md5(_read(file)).hexdigest() in known
    # Any other is verified by its content: the same content may have been compressed differently.
    if is_published or (md5 is not None and hashlib.md5(read_bytes(file)).hexdigest() == md5):
        return file
    problem = "it is damaged or truncated" if md5 else "it is damaged, or not the file that was published"
    raise DataError(f"{file} has the wrong checksum, {problem}{REPLACE}, then {how_to_get(dataset)}")
