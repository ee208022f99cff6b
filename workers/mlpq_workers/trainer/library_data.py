"""Data sets of torchvision and scikit-learn, for `mlpq data add`.

`python -m mlpq_workers.trainer.library_data NAME --data-dir DIR --out FOLDER` writes `arrays.npz` with x_train and so
on, and `names.json` with the names of classes and features.
"""

from __future__ import annotations

import importlib
import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray

from mlpq.errors import DataError, MlpqError, nearest
from mlpq.own_data.library_sets import ARRAYS, NAMES
from mlpq_workers.trainer.data import DOWNLOAD_TIMEOUT, silenced, timeout, torchvision_datasets

# How the training and the test rows of a class of torchvision are asked for.
TRAIN_FLAG = ({"train": True}, {"train": False})
SPLIT = ({"split": "train"}, {"split": "test"})
EMNIST = ("balanced", "byclass", "bymerge", "digits", "letters", "mnist")
TORCHVISION: dict[str, tuple[dict[str, Any], ...]] = {
    **dict.fromkeys(("CIFAR10", "CIFAR100", "FashionMNIST", "KMNIST", "MNIST", "USPS"), TRAIN_FLAG),
    "QMNIST": ({"what": "train"}, {"what": "test"}),
    **dict.fromkeys(("STL10", "SVHN"), SPLIT),
    **{f"EMNIST-{split}": tuple({"split": split, **flag} for flag in TRAIN_FLAG) for split in EMNIST},
}
CHANNELS_FIRST = ("STL10", "SVHN")  # [n, channels, height, width]; others have the channels last
SKLEARN = {
    "breast_cancer": "load_breast_cancer",
    "covtype": "fetch_covtype",
    "digits": "load_digits",
    "iris": "load_iris",
    "olivetti_faces": "fetch_olivetti_faces",
    "wine": "load_wine",
}
NUMBERED = re.compile(r"\d+ - ")  # names such as "0 - zero"

Arrays = dict[str, NDArray[Any]]


def read(source: str, data_dir: Path) -> tuple[Arrays, list[str], list[str]]:
    """Arrays by the names that Keras gives them, and the names of classes and features; raises DataError."""
    library, _, name = source.partition(":")
    known: dict[str, Any] = TORCHVISION if library == "torchvision" else SKLEARN
    if name not in known:
        raise DataError(f"mlpq takes no data set '{name}' of {library}{nearest(name, known)}")
    try:
        with silenced(), timeout(DOWNLOAD_TIMEOUT):
            return _of_torchvision(name, data_dir) if library == "torchvision" else _of_sklearn(name, data_dir)
    except ModuleNotFoundError as error:
        missing = str(error.name).partition(".")[0]
        package = {"torch": "'mlpq[worker]'", "torchvision": "'mlpq[worker]'", "sklearn": "scikit-learn"}
        raise DataError(f"{source} needs {missing}: pip install {package.get(missing, missing)}") from error
    except Exception as error:  # urllib, ssl, tarfile, pickle and the libraries each raise their own kinds
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(f"{source} is not on this machine and can't be downloaded, or is damaged: {reason}") from error


def _of_torchvision(name: str, data_dir: Path) -> tuple[Arrays, list[str], list[str]]:
    kind = getattr(torchvision_datasets(), name.partition("-")[0])
    arrays: Arrays = {}
    data_dir.mkdir(parents=True, exist_ok=True)
    for which, arguments in zip(("train", "test"), TORCHVISION[name], strict=True):
        found = kind(root=str(data_dir), download=True, **arguments)
        x = np.asarray(found.data)
        y = np.asarray(found.targets if hasattr(found, "targets") else found.labels)
        arrays[f"x_{which}"] = np.moveaxis(x, 1, -1) if name in CHANNELS_FIRST else x
        arrays[f"y_{which}"] = y[:, 0] if y.ndim == 2 else y  # QMNIST has more than the class
        names = _class_names(getattr(found, "classes", ()))
    return arrays, names, []


def _class_names(names: Sequence[str]) -> list[str]:
    """The names of the classes by their numbers; none where they are only the numbers, in other words."""
    return [] if any(NUMBERED.match(name) for name in names) else list(map(str, names))


def _of_sklearn(name: str, data_dir: Path) -> tuple[Arrays, list[str], list[str]]:
    module = importlib.import_module("sklearn.datasets")
    function = SKLEARN[name]
    arguments = {"data_home": str(data_dir / "sklearn")} if function.startswith("fetch_") else {}
    found = getattr(module, function)(**arguments)
    arrays = {"X": np.asarray(found.data), "y": np.asarray(found.target)}
    classes = [str(each) for each in found.get("target_names", ())] if found.target.min() == 0 else []
    features = [str(each) for each in found.get("feature_names", ())]
    is_named = len(features) == arrays["X"].shape[1]
    number = len(np.unique(arrays["y"]))
    return arrays, classes if len(classes) == number else [], features if is_named else []


@click.command()
@click.argument("source")
@click.option("--data-dir", type=click.Path(path_type=Path), required=True, help="Folder for downloads.")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), required=True, help="Folder for the arrays.")
def main(source: str, data_dir: Path, out: Path) -> None:
    """Write the arrays and the names of data set SOURCE."""
    try:
        arrays, classes, features = read(source, data_dir)
        np.savez(out / ARRAYS, allow_pickle=False, **arrays)
        (out / NAMES).write_text(json.dumps({"classes": classes, "features": features}))
    except (MlpqError, OSError) as error:
        click.echo(f"mlpq: {error}", err=True)
        sys.exit(2)


if __name__ == "__main__":
    main()
