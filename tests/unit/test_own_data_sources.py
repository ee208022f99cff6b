"""Arrays, images and libraries that `mlpq data add` reads, in files that other programs wrote."""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import shutil
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sklearn.datasets import load_breast_cancer, load_iris

from mlpq.errors import DataError
from mlpq.own_data.adding import Treatment, build
from mlpq.own_data.image_folders import ImageOptions
from mlpq.own_data.sources import ReadOptions
from mlpq.own_data.tables import TableOptions
from mlpq_workers.trainer.data import torchvision_datasets
from tests.support.own_data import added, kind, raw

RANDOM = np.random.default_rng(7)
X, Y = RANDOM.integers(0, 256, (12, 4, 3)).astype(np.uint8), np.arange(12) % 3


# --- arrays


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("order", ["C", "F"])
def test_keras_arrays_are_read(tmp_path: Path, save: Callable[..., None], order: Any) -> None:
    save(tmp_path / "k.npz", x_train=np.array(X, order=order), y_train=Y[:, None], x_test=X[:6], y_test=Y[:6])
    content = added(tmp_path / "k.npz").content
    np.testing.assert_array_equal(content.train_x, X.reshape(12, 12), strict=True)
    np.testing.assert_array_equal(content.train_y, Y)
    assert (len(content.test_y), content.scale, content.about["shape"]) == (6, 255, [4, 3])
    assert content.about["classes"] == ["0", "1", "2"]


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", ">f8", "i1", "i8", "u2", "?"])
def test_arrays_of_every_real_type_become_floats(tmp_path: Path, dtype: str) -> None:
    x = (X % 100).astype(dtype)
    np.savez(tmp_path / "k.npz", X=x, y=np.array(["b", "a", "c"])[Y])
    content = raw(tmp_path / "k.npz", test=str(tmp_path / "k.npz"))
    np.testing.assert_array_equal(content.train_x, x.reshape(12, 12).astype(np.float32), strict=True)
    assert content.about["classes"] == ["a", "b", "c"]
    assert content.train_y[:3].tolist() == [1, 0, 2]


def test_arrays_that_are_not_used_are_named(tmp_path: Path) -> None:
    np.savez(tmp_path / "medical.npz", train_images=X, train_labels=Y, test_images=X, test_labels=Y, val_images=X)
    assert "not used of medical.npz: val_images" in added(tmp_path / "medical.npz").notes


# --- idx files

STEMS = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")


def idx_files() -> dict[str, bytes]:
    """The four files by their names."""
    parts = {"train": (X, Y), "t10k": (X[:6], Y[:6])}
    found = {}
    for name in STEMS:
        array = parts[name.split("-")[0]]["labels" in name].astype(np.uint8)
        sizes = b"".join(size.to_bytes(4, "big") for size in array.shape)
        found[name] = bytes((0, 0, 8, array.ndim)) + sizes + array.tobytes()
    return found


def zipped(path: Path, content: bytes) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(path.stem, content)


def written(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def in_torchvisions_layout(folder: Path, name: str, content: bytes) -> None:
    """Both the file as it is downloaded and what it is unpacked to."""
    written(folder / "MNIST" / "raw" / name, content)
    written(folder / "MNIST" / "raw" / f"{name}.gz", gzip.compress(content))


WAYS: dict[str, Callable[[Path, str, bytes], object]] = {
    "plain": lambda folder, name, content: (folder / name).write_bytes(content),
    "gzip": lambda folder, name, content: (folder / f"{name}.gz").write_bytes(gzip.compress(content)),
    "bzip2": lambda folder, name, content: (folder / f"{name}.bz2").write_bytes(bz2.compress(content)),
    "xz": lambda folder, name, content: (folder / f"{name}.xz").write_bytes(lzma.compress(content)),
    "zip": lambda folder, name, content: zipped(folder / f"{name}.zip", content),
    "gzip without a suffix": lambda folder, name, content: (folder / name).write_bytes(gzip.compress(content)),
    "with a point": lambda folder, name, content: (folder / name.replace("-idx", ".idx")).write_bytes(content),
    "by content": lambda folder, name, content: (folder / f"{name.partition('-idx')[0]}.bin.gz").write_bytes(
        gzip.compress(content)
    ),
    "torchvision": in_torchvisions_layout,
    "emnist": lambda folder, name, content: (folder / f"emnist-letters-{name.replace('t10k', 'test')}.gz").write_bytes(
        gzip.compress(content)
    ),
    "7-Zip": lambda folder, name, content: written(folder / name / name.replace("-idx", ".idx"), content),
}


@pytest.mark.parametrize("way", WAYS)
def test_idx_files_are_read_under_each_name_and_compression(tmp_path: Path, way: str) -> None:
    for name, file in idx_files().items():
        WAYS[way](tmp_path, name, file)
    content = added(tmp_path).content
    np.testing.assert_array_equal(content.train_x, X.reshape(12, 12), strict=True)
    np.testing.assert_array_equal(content.test_y, Y[:6])
    assert (content.scale, content.about["shape"]) == (255, [4, 3])


@pytest.mark.slow
def test_debians_fashion_mnist_is_read_as_torchvision_reads_it(tmp_path: Path, fashion_mnist: Path) -> None:
    content = added(fashion_mnist).content
    folder = tmp_path / "FashionMNIST" / "raw"
    folder.mkdir(parents=True)
    for file in fashion_mnist.glob("*ubyte.gz"):
        (folder / file.name.removesuffix(".gz")).write_bytes(gzip.decompress(file.read_bytes()))
    expected = torchvision_datasets().FashionMNIST(tmp_path, train=False)
    np.testing.assert_array_equal(content.test_x, expected.data.numpy().reshape(10_000, 784), strict=True)
    np.testing.assert_array_equal(content.test_y, expected.targets.numpy())


# --- folders of images


def save_images(folder: Path, mode: str = "L", suffix: str = "png") -> None:
    for i in range(12):
        (folder / f"class {Y[i]}").mkdir(parents=True, exist_ok=True)
        pixels = RANDOM.integers(0, 256, (6, 5) if mode == "L" else (6, 5, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"class {Y[i]}" / f"{i}.{suffix}")


def test_folder_of_images_is_read_as_torchvision_reads_it(tmp_path: Path) -> None:
    save_images(tmp_path / "set", "RGB")
    content = raw(tmp_path / "set", test=str(tmp_path / "set"))
    expected = torchvision_datasets().ImageFolder(tmp_path / "set")
    for i, (image, label) in enumerate(expected):
        np.testing.assert_array_equal(content.train_x[i], np.asarray(image).reshape(-1), strict=True)
        assert content.train_y[i] == label
    assert content.about["classes"] == expected.classes
    assert content.about["shape"] == [6, 5, 3]


@pytest.mark.parametrize("suffix", ["png", "JPG", "jpeg"])
def test_folder_may_have_training_and_test_images(tmp_path: Path, suffix: str) -> None:
    for part in ("train", "test"):
        save_images(tmp_path / "set" / part, suffix=suffix)
    (tmp_path / "set" / "train" / "class 0" / "notes.txt").write_text("hello")
    (tmp_path / "set" / "train" / ".DS_Store").write_text("")
    made = added(tmp_path / "set")
    assert (made.content.train_x.shape, made.content.scale) == ((12, 30), 255)
    assert any("not PNG or JPEG in the folder of a class: 1, left out" in note for note in made.notes)


def test_images_are_resized_and_converted_to_gray(tmp_path: Path) -> None:
    save_images(tmp_path / "set", "RGB")
    Image.new("RGBA", (40, 30), (255, 0, 0, 128)).save(tmp_path / "set" / "class 0" / "a.png")
    Image.new("P", (9, 9)).save(tmp_path / "set" / "class 1" / "a.png")
    content = raw(tmp_path / "set", images=ImageOptions((3, 2), gray=True), test="0.5")
    assert content.about["shape"] == [2, 3]
    assert [76] * 6 in content.train_x.tolist() + content.test_x.tolist()  # red


# --- libraries


def test_sets_of_scikit_learn_are_read_by_name() -> None:
    content = raw("sklearn:breast_cancer", test="0.2")
    bunch = load_breast_cancer()
    assert content.about["classes"] == ["malignant", "benign"]
    assert content.about["features"] == list(bunch.feature_names)
    rows = np.concatenate([content.train_x, content.test_x])
    np.testing.assert_array_equal(np.sort(rows, axis=0), np.sort(bunch.data.astype(np.float32), axis=0))
    assert np.bincount(np.concatenate([content.train_y, content.test_y])).tolist() == [212, 357]
    assert raw("sklearn:iris", test="0.2").about["classes"] == list(load_iris().target_names)


def test_sets_of_torchvision_are_read_by_name(tmp_path: Path) -> None:
    folder = tmp_path / "QMNIST" / "raw"
    folder.mkdir(parents=True)
    for part, n in (("train", 12), ("test", 6)):
        images = bytes((0, 0, 8, 3)) + b"".join(size.to_bytes(4, "big") for size in (n, 4, 3)) + X[:n].tobytes()
        columns = np.zeros((n, 8), ">i4")
        columns[:, 0] = Y[:n]
        labels = bytes((0, 0, 12, 2)) + b"".join(size.to_bytes(4, "big") for size in (n, 8)) + columns.tobytes()
        (folder / f"qmnist-{part}-images-idx3-ubyte").write_bytes(images)
        (folder / f"qmnist-{part}-labels-idx2-int").write_bytes(labels)
        for name in ("images-idx3-ubyte", "labels-idx2-int"):
            shutil.copy(folder / f"qmnist-{part}-{name}", folder / f"qmnist-{part}-{name}.gz")
    reading = ReadOptions(TableOptions(None), ImageOptions())
    content = build("torchvision:QMNIST", reading, Treatment(), tmp_path).content
    np.testing.assert_array_equal(content.train_x, X.reshape(12, 12), strict=True)
    np.testing.assert_array_equal(content.test_y, Y[:6])
    assert added(folder).content.sha256 == content.sha256


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("torchvision:CIFAR11", "did you mean 'CIFAR10'"),
        ("sklearn:diabetes", "takes no data set 'diabetes'"),
        ("sklearn:os.system", "does not exist"),
    ],
)
def test_names_that_no_library_has_are_refused(name: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        added(name, test="0.2")


@pytest.mark.parametrize(
    ("name", "package"), [("torchvision:CIFAR10", "'mlpq\\[worker\\]'"), ("sklearn:wine", "scikit-learn")]
)
def test_a_library_that_is_missing_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, package: str
) -> None:
    (tmp_path / "sitecustomize.py").write_text("import sys\nsys.modules.update(torchvision=None, sklearn=None)\n")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), *sys.path]))
    with pytest.raises(DataError, match=f"needs .*: pip install {package}"):
        build(name, ReadOptions(TableOptions(None), ImageOptions()), Treatment("0.2"), tmp_path)


@pytest.mark.parametrize(("module", "library"), [("PIL", "Pillow"), ("pyarrow", "pyarrow")])
def test_a_library_that_only_one_format_needs_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: str, library: str
) -> None:
    save_images(tmp_path / "set")
    pd.DataFrame({"a": [1, 2], "kind": [0, 1]}).to_parquet(tmp_path / "t.parquet")
    for name in [name for name in sys.modules if name == module or name.startswith(f"{module}.")]:
        monkeypatch.setitem(sys.modules, name, None)
    source, table = (tmp_path / "set", None) if module == "PIL" else (tmp_path / "t.parquet", kind())
    with pytest.raises(DataError, match=rf"needs {library}: pip install 'mlpq\[data\]'"):
        added(source, table=table, test="0.5")


# --- options that don't apply


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"table": kind()}, "--target does not apply"),
        ({"images": ImageOptions(gray=True)}, "--gray does not apply: .* is an NPZ file"),
        ({"test": "0.5", "split_seed": 1}, "has test rows of its own"),
        ({"split_seed": 1}, "--split-seed applies"),
    ],
)
def test_options_that_do_not_apply_are_refused(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    np.savez(tmp_path / "k.npz", x_train=X, y_train=Y, x_test=X, y_test=Y)
    with pytest.raises(DataError, match=message):
        added(tmp_path / "k.npz", **options)
