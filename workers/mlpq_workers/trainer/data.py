"""Data sets as arrays in memory.

`python -m mlpq_workers.trainer.data fetch NAME --data-dir DIR` finds the files of a data set, or downloads them.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import math
import socket
import sys
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray

from mlpq.errors import DataError, MlpqError
from mlpq.image_data import DIGITS_MAX, read_digits
from mlpq.own_data.content import read
from mlpq.own_data.files import is_here, path_of
from mlpq.spec.datasets import (
    FILES,
    Dataset,
    dataset_named,
    find,
    how_to_import,
    import_files,
    own_folder,
    read_bytes,
    verify,
)
from mlpq_workers.engine.image_set import ImageSet

BUNDLED = "bundled with mlpq"
UNSIGNED_BYTE = 8  # the code of this element type in an idx header
DOWNLOAD_TIMEOUT = 30.0  # seconds without data; torchvision sets none, so a stalled mirror would block a worker


def load(dataset: Dataset, data_dir: Path) -> ImageSet:
    """The data set, a built-in one downloaded below `data_dir` where it is not found; raises DataError with one line.

    Divided by `scale`, pixels have the values that torchvision's ToTensor followed by Flatten gives. Nothing is cached.
    """
    if dataset.bundled:
        return _load_digits(dataset)
    if dataset.sha256 is not None:
        return _load_own(dataset, dataset.sha256, data_dir)
    folder = locate(dataset, data_dir)
    files = verify(dataset, folder)
    train_images, train_labels, test_images, test_labels = (files[file] for file in FILES)
    return ImageSet(
        train_x=_images(train_images, dataset.train, dataset.features),
        train_y=_labels(train_labels, dataset.train, dataset.classes),
        test_x=_images(test_images, dataset.test, dataset.features),
        test_y=_labels(test_labels, dataset.test, dataset.classes),
        scale=255,
        source=str(folder),
    )


def locate(dataset: Dataset, data_dir: Path) -> Path:
    """The folder of the data set's files, which torchvision downloads if none is found; raises DataError."""
    return find(dataset, data_dir) or _download(dataset, data_dir)


def parse_idx(content: bytes, shape: tuple[int, ...], file: Path) -> NDArray[np.uint8]:
    """The content of an idx file as an array of `shape`; raises DataError where its header differs."""
    header = bytes((0, 0, UNSIGNED_BYTE, len(shape))) + b"".join(size.to_bytes(4, "big") for size in shape)
    expected = len(header) + math.prod(shape)
    if content[: len(header)] != header or len(content) != expected:
        raise DataError(
            f"{file} is not an idx file of {'x'.join(map(str, shape))} bytes: remove it, then fetch it again"
        )
    # Writable: torch warns of memory that it must not write to.
    return np.frombuffer(bytearray(content), np.uint8, offset=len(header)).reshape(shape)


def _images(file: Path, n: int, features: int) -> NDArray[np.uint8]:
    side = round(features**0.5)
    return parse_idx(read_bytes(file), (n, side, side), file).reshape(n, features)


def _labels(file: Path, n: int, classes: int) -> NDArray[np.int64]:
    labels = parse_idx(read_bytes(file), (n,), file).astype(np.int64)
    if int(labels.max()) >= classes:
        raise DataError(f"{file} contains the label {int(labels.max())}; the data set has {classes} classes")
    return labels


def _load_digits(dataset: Dataset) -> ImageSet:
    x, labels = read_digits(dataset)
    y, n = labels.astype(np.int64), dataset.train
    return ImageSet(x[:n], y[:n], x[n:], y[n:], DIGITS_MAX, BUNDLED)


def _load_own(dataset: Dataset, sha256: str, data_dir: Path) -> ImageSet:
    path = path_of(sha256, data_dir)
    if not is_here(sha256, data_dir):
        raise DataError(f"the data set {dataset.name} is not on this machine: mlpq data pull it, or copy it to {path}")
    content = read(sha256, data_dir)
    sizes = (content.features, content.classes, len(content.train_x), len(content.test_x))
    if sizes != (dataset.features, dataset.classes, dataset.train, dataset.test):
        raise DataError(f"{path} has other sizes than the job's spec says: submit the job again")
    return ImageSet(content.train_x, content.train_y, content.test_x, content.test_y, content.scale, str(path))


def _download(dataset: Dataset, data_dir: Path) -> Path:
    """Download by torchvision, to a temporary folder first: an incomplete download is never taken for the data set."""
    if importlib.util.find_spec("torchvision") is None:
        raise DataError(
            f"{dataset.name} is not on this machine, and downloading it needs torchvision: pip install 'mlpq[worker]', "
            f"or import its files: {how_to_import(dataset)}"
        )
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=data_dir, prefix=".download-") as temporary:
            with silenced(), timeout(DOWNLOAD_TIMEOUT):
                getattr(torchvision_datasets(), str(dataset.torchvision))(root=temporary, download=True)
            return import_files(dataset, own_folder(dataset, Path(temporary)), data_dir)
    except MlpqError:
        raise
    except Exception as error:  # urllib, ssl, gzip and torchvision each raise their own kinds
        reason = " ".join(str(error).split())
        raise DataError(
            f"{dataset.name} is not on this machine and can't be downloaded ({reason}); import its files: "
            f"{how_to_import(dataset)}"
        ) from error


@cache
def torchvision_datasets() -> ModuleType:
    """torchvision.datasets, which is slow to import, and fails to import next to a CPU build of torch without help."""
    try:
        return importlib.import_module("torchvision.datasets")
    except RuntimeError:
        # Its wheel is built for CUDA. Next to a CPU torch its operators can't be loaded, but it registers fake kernels
        # for these two, so they must exist. Only after a failure, since a matching torchvision defines them itself.
        for operator in ("nms", "qnms"):
            _library().define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        return importlib.import_module("torchvision.datasets")


@cache
def _library() -> Any:
    """Cached, because the operators are removed with the object."""
    import torch

    return torch.library.Library("torchvision", "DEF")


@contextlib.contextmanager
def silenced() -> Iterator[None]:
    """Discard what torchvision prints: progress bars, and mirrors that failed."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        yield


@contextlib.contextmanager
def timeout(seconds: float) -> Iterator[None]:
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


@click.group()
def main() -> None:
    """Data sets of this machine."""


@main.command()
@click.argument("name")
@click.option("--data-dir", type=click.Path(path_type=Path), required=True, help="Folder for downloads.")
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
