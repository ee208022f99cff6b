"""Data files: located, verified by checksum, and imported completely or not at all."""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from mlpq.errors import DataError
from mlpq.spec.datasets import (
    DATASETS,
    FILES,
    Dataset,
    dataset_named,
    find,
    how_to_get,
    import_files,
    own_folder,
    read_bytes,
    verify,
)

CONTENT = {name: f"the bytes of {name}".encode() * 50 for name in FILES}


def md5(content: bytes) -> str:
    return hashlib.md5(content).hexdigest()


def compressed(name: str) -> bytes:
    return gzip.compress(CONTENT[name], mtime=0)


TOY = Dataset(
    name="toy", features=4, classes=2, train=3, test=1, torchvision="Toy",
    gz_md5={name: md5(compressed(name)) for name in FILES}, md5={name: md5(CONTENT[name]) for name in FILES},
)  # fmt: skip


def write_compressed(folder: Path) -> Path:
    folder.mkdir(parents=True)
    for name in FILES:
        (folder / f"{name}.gz").write_bytes(compressed(name))
    return folder


def write_bare(folder: Path) -> Path:
    folder.mkdir(parents=True)
    for name in FILES:
        (folder / name).write_bytes(CONTENT[name])
    return folder


def test_sizes_are_those_of_the_published_data_sets() -> None:
    for name in ("fashion-mnist", "mnist", "kmnist"):
        dataset = DATASETS[name]
        assert (dataset.features, dataset.classes, dataset.train, dataset.test) == (784, 10, 60_000, 10_000)
    digits = DATASETS["digits"]
    assert (digits.features, digits.classes, digits.train + digits.test, digits.bundled) == (64, 10, 1797, True)


def test_every_data_set_has_its_own_checksum() -> None:
    assert len({dataset.checksum for dataset in DATASETS.values()}) == len(DATASETS)


def test_unknown_name_suggests_the_closest() -> None:
    with pytest.raises(DataError, match=r"unknown data set 'fashion_mnist' \(did you mean 'fashion-mnist'\?\)"):
        dataset_named("fashion_mnist")


@pytest.mark.parametrize("write", [write_compressed, write_bare])
def test_right_files_pass_compressed_or_not(tmp_path: Path, write: Callable[[Path], Path]) -> None:
    folder = write(tmp_path / "files")
    files = verify(TOY, folder)
    assert list(files) == list(FILES)
    assert {name: read_bytes(file) for name, file in files.items()} == CONTENT


def test_recompressed_files_are_verified_by_their_content(tmp_path: Path) -> None:
    folder = write_compressed(tmp_path / "files")
    for name in FILES:
        (folder / f"{name}.gz").write_bytes(gzip.compress(CONTENT[name], compresslevel=1, mtime=7))
    assert len(verify(TOY, folder)) == 4


def test_without_a_checksum_of_the_content_only_the_published_file_passes(tmp_path: Path) -> None:
    known = replace(TOY, md5=None)
    folder = write_compressed(tmp_path / "files")
    assert len(verify(known, folder)) == 4
    (folder / f"{FILES[0]}.gz").write_bytes(gzip.compress(CONTENT[FILES[0]], compresslevel=1, mtime=7))
    with pytest.raises(DataError, match="wrong checksum"):
        verify(known, folder)
    with pytest.raises(DataError, match="only the compressed file has a known checksum"):
        verify(known, write_bare(tmp_path / "bare"))


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("suffix", [".gz", ""])
@pytest.mark.parametrize("harm", ["flip", "cut", "empty", "remove", "lengthen"])
def test_damaged_file_is_named(tmp_path: Path, name: str, suffix: str, harm: str) -> None:
    folder = write_compressed(tmp_path / "files") if suffix else write_bare(tmp_path / "files")
    file = folder / f"{name}{suffix}"
    content = bytearray(file.read_bytes())
    if harm == "flip":
        content[len(content) // 2] ^= 1
    elif harm == "cut":
        del content[-7:]
    elif harm == "empty":
        content.clear()
    elif harm == "lengthen":
        content += b"more"
    file.write_bytes(content)
    if harm == "remove":
        file.unlink()
    with pytest.raises(DataError) as error:
        verify(TOY, folder)
    assert name in str(error.value)
    assert "\n" not in str(error.value)


def test_data_folder_takes_precedence_over_the_systems(tmp_path: Path) -> None:
    system, data_dir = tmp_path / "system", tmp_path / "data"
    dataset = replace(TOY, system_dirs=(system,))
    assert find(dataset, data_dir) is None
    write_compressed(system)
    assert find(dataset, data_dir) == system
    own = write_bare(data_dir / "Toy" / "raw")
    assert find(dataset, data_dir) == own == own_folder(dataset, data_dir)


def test_incomplete_data_set_is_found_and_reported_as_damaged(tmp_path: Path) -> None:
    folder = own_folder(TOY, tmp_path)
    folder.mkdir(parents=True)
    (folder / FILES[2]).write_bytes(CONTENT[FILES[2]])
    assert find(TOY, tmp_path) == folder
    with pytest.raises(DataError, match=f"{FILES[0]}.gz is missing"):
        verify(TOY, folder)


@pytest.mark.parametrize("write", [write_compressed, write_bare])
def test_imported_files_are_found_and_verified(tmp_path: Path, write: Callable[[Path], Path]) -> None:
    source = write(tmp_path / "from")
    folder = import_files(TOY, source, tmp_path / "data")
    assert folder == find(TOY, tmp_path / "data")
    assert len(verify(TOY, folder)) == 4
    assert len(list(folder.iterdir())) == 4


def test_import_replaces_a_damaged_compressed_copy(tmp_path: Path) -> None:
    folder = write_compressed(own_folder(TOY, tmp_path / "data"))
    (folder / f"{FILES[0]}.gz").write_bytes(b"damaged")
    import_files(TOY, write_bare(tmp_path / "from"), tmp_path / "data")
    assert len(verify(TOY, folder)) == 4


def test_nothing_is_imported_unless_all_four_files_are_right(tmp_path: Path) -> None:
    source = write_compressed(tmp_path / "from")
    (source / f"{FILES[3]}.gz").unlink()
    with pytest.raises(DataError, match="is missing"):
        import_files(TOY, source, tmp_path / "data")
    assert not (tmp_path / "data").exists()


def test_data_folder_that_is_a_file_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("a file")
    with pytest.raises(DataError, match="set MLPQ_DATA_DIR to a folder you own"):
        import_files(TOY, write_compressed(tmp_path / "from"), tmp_path / "data")


def test_how_to_get_says_what_to_type() -> None:
    assert how_to_get(DATASETS["fashion-mnist"]).endswith("or apt install dataset-fashion-mnist")
    assert how_to_get(DATASETS["mnist"]) == "mlpq data fetch mnist, or mlpq data import mnist DIR"


def test_debians_files_equal_the_published_ones() -> None:
    dataset = DATASETS["fashion-mnist"]
    (folder,) = dataset.system_dirs
    if not folder.is_dir():
        pytest.fail("Fashion-MNIST is missing: apt install dataset-fashion-mnist")
    assert set(verify(dataset, folder)) == set(FILES)


def test_file_that_is_named_gz_must_be_compressed(tmp_path: Path) -> None:
    file = tmp_path / f"{FILES[0]}.gz"
    file.write_bytes(b"not compressed")
    with pytest.raises(DataError, match="damaged or truncated"):
        read_bytes(file)
