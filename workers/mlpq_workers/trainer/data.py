"""Data sets as tensors in memory.

`python -m mlpq_workers.trainer.data fetch NAME --data-dir DIR` finds or downloads the files of one.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import importlib.util
import io
import socket
import sys
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import ModuleType

import click
import numpy as np
import torch
from torch import Tensor

from mlpq.errors import DataError, MlpqError
from mlpq.spec.datasets import (
    FILES,
    Dataset,
    dataset_named,
    find,
    how_to_bring,
    import_files,
    own_folder,
    read_bytes,
    verify,
)
from mlpq_workers.engine.data import Data

BUNDLED = "bundled with scikit-learn"
UNSIGNED_BYTE = 8  # the code of the element type in an idx header
DIGITS_FILE = "datasets/data/digits.csv.gz"  # of scikit-learn; a row for each image, its label at the end
DIGITS_MAX = 16  # the brightest pixel of digits; the other sets have 255
DOWNLOAD_TIMEOUT = 30.0  # seconds of silence; torchvision sets none, and a stalled mirror would hold a worker for good


def load(name: str, data_dir: Path) -> Data:
    """The data set as CPU tensors, downloaded below `data_dir` where it is nowhere; raises DataError with one line.

    Divided by `scale`, pixels have the values that torchvision's ToTensor and a Flatten give. Nothing is cached here.
    """
    dataset = dataset_named(name)
    if dataset.bundled:
        return _load_digits(dataset)
    folder = locate(dataset, data_dir)
    files = verify(dataset, folder)
    train_images, train_labels, test_images, test_labels = (files[file] for file in FILES)
    return Data(
        train_x=_images(train_images, dataset.train, dataset.features),
        train_y=_labels(train_labels, dataset.train, dataset.classes),
        test_x=_images(test_images, dataset.test, dataset.features),
        test_y=_labels(test_labels, dataset.test, dataset.classes),
        scale=255,
        source=str(folder),
    )


def locate(dataset: Dataset, data_dir: Path) -> Path:
    """The folder of the data set's files, which torchvision downloads if they are nowhere; raises DataError."""
    return find(dataset, data_dir) or _download(dataset, data_dir)


def parse_idx(content: bytes, shape: tuple[int, ...], file: Path) -> Tensor:
    """The bytes of an idx file as uint8 of `shape`; raises DataError where its header says anything else."""
    header = bytes((0, 0, UNSIGNED_BYTE, len(shape))) + b"".join(size.to_bytes(4, "big") for size in shape)
    expected = len(header) + torch.Size(shape).numel()
    if content[: len(header)] != header or len(content) != expected:
        raise DataError(
            f"{file} is not an idx file of {'x'.join(map(str, shape))} bytes: remove it, then fetch it anew"
        )
    return torch.frombuffer(bytearray(content), dtype=torch.uint8, offset=len(header)).reshape(shape)


def _images(file: Path, n: int, features: int) -> Tensor:
    side = round(features**0.5)
    return parse_idx(read_bytes(file), (n, side, side), file).reshape(n, features)


def _labels(file: Path, n: int, classes: int) -> Tensor:
    labels = parse_idx(read_bytes(file), (n,), file).to(torch.int64)
    if int(labels.max()) >= classes:
        raise DataError(f"{file} holds the label {int(labels.max())}, and there are only {classes} classes")
    return labels


def _load_digits(dataset: Dataset) -> Data:
    # Only its file is read: importing scikit-learn takes a second, which every training process would wait for.
    package = importlib.util.find_spec("sklearn")
    if package is None or package.origin is None:
        raise DataError("digits comes with scikit-learn, which is not installed: pip install scikit-learn")
    try:
        rows = np.loadtxt(Path(package.origin).parent / DIGITS_FILE, dtype=np.uint8, delimiter=",", ndmin=2)
    except (OSError, ValueError) as error:
        raise DataError(f"the digits of this scikit-learn can't be read: {error}") from error
    pixels, labels = rows[:, :-1], rows[:, -1]
    if hashlib.md5(pixels.tobytes() + labels.tobytes()).hexdigest() != (dataset.md5 or {})["digits"]:
        raise DataError("the digits of this scikit-learn are not the registered ones: reinstall scikit-learn")
    x = torch.from_numpy(pixels)
    y = torch.from_numpy(labels).to(torch.int64)
    n = dataset.train
    return Data(x[:n], y[:n], x[n:], y[n:], DIGITS_MAX, BUNDLED)


def _download(dataset: Dataset, data_dir: Path) -> Path:
    """Download by torchvision to a temporary folder, so that a broken download never looks like the data set."""
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=data_dir, prefix=".download-") as temporary:
            with _hushed(), _timeout(DOWNLOAD_TIMEOUT):
                getattr(torchvision_datasets(), str(dataset.torchvision))(root=temporary, download=True)
            return import_files(dataset, own_folder(dataset, Path(temporary)), data_dir)
    except MlpqError:
        raise
    except Exception as error:  # urllib, ssl, gzip and torchvision itself each raise their own
        reason = " ".join(str(error).split())
        raise DataError(
            f"{dataset.name} is not on this machine and can't be downloaded ({reason}); bring its files with: "
            f"{how_to_bring(dataset)}"
        ) from error


@cache
def torchvision_datasets() -> ModuleType:
    """torchvision.datasets, which is slow to import and needs help beside a CPU torch."""
    try:
        return importlib.import_module("torchvision.datasets")
    except RuntimeError:
        # Its wheel is built for CUDA. Beside a CPU torch its operators can't be loaded, yet it registers fakes for
        # these two, so they have to exist. Tried only after a failure: with a matching torchvision they do exist.
        for operator in ("nms", "qnms"):
            _library().define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        return importlib.import_module("torchvision.datasets")


@cache
def _library() -> torch.library.Library:
    """Cached because the operators vanish with the object."""
    return torch.library.Library("torchvision", "DEF")


@contextlib.contextmanager
def _hushed() -> Iterator[None]:
    """Swallow what torchvision prints: progress bars, and a list of mirrors that failed."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        yield


@contextlib.contextmanager
def _timeout(seconds: float) -> Iterator[None]:
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


@click.group()
def main() -> None:
    """Data sets of the training side."""


@main.command()
@click.argument("name")
@click.option("--data-dir", type=click.Path(path_type=Path), required=True, help="Where downloads are put.")
def fetch(name: str, data_dir: Path) -> None:
    """Find or download the files of data set NAME, verify them, and print where they are."""
    try:
        dataset = dataset_named(name)
        if dataset.bundled:
            source = _load_digits(dataset).source
        else:
            folder = locate(dataset, data_dir)
            verify(dataset, folder)
            source = str(folder)
    except MlpqError as error:
        click.echo(f"mlpq: {error}", err=True)
        sys.exit(2)
    click.echo(f"{name}: {source}")


if __name__ == "__main__":
    main()
