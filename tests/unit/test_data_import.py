"""`mlpq data import`: the layouts and names that files have elsewhere, and files that are not what they seem."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import io
import lzma
import os
import resource
import subprocess
import sys
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from mlpq.errors import DataError
from mlpq.spec.datasets import DATASETS, FILES, Dataset, find, import_files, own_folder, read_bytes, verify

CONTENT = {name: f"the bytes of {name}".encode() * 50 for name in FILES}
PACKED = {name: gzip.compress(content, mtime=0) for name, content in CONTENT.items()}


def sums(files: dict[str, bytes]) -> dict[str, str]:
    return {name: hashlib.md5(content).hexdigest() for name, content in files.items()}


TOY = Dataset("toy", 4, 2, 3, 1, torchvision="Toy", gz_md5=sums(PACKED), md5=sums(CONTENT))
ONLY_PUBLISHED = replace(TOY, md5=None, by_gz=True)


def published(name: str) -> tuple[str, bytes]:
    return f"{name}.gz", PACKED[name]


def packed_anew(name: str) -> tuple[str, bytes]:
    return f"{name}.gz", gzip.compress(CONTENT[name], compresslevel=1, mtime=7)


def unpacked(name: str) -> tuple[str, bytes]:
    return name, CONTENT[name]


def unpacked_by_7zip(name: str) -> tuple[str, bytes]:
    return name.replace("-idx", ".idx"), CONTENT[name]


def unpacked_into_folders(name: str) -> tuple[str, bytes]:
    return f"{name}/{name.replace('-idx', '.idx')}", CONTENT[name]


def packed_by_bzip2(name: str) -> tuple[str, bytes]:
    return f"{name}.bz2", bz2.compress(CONTENT[name])


def packed_by_xz(name: str) -> tuple[str, bytes]:
    return f"{name}.xz", lzma.compress(CONTENT[name])


def packed_by_zip(name: str) -> tuple[str, bytes]:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, CONTENT[name])
    return f"{name.replace('-idx', '.idx')}.zip", file.getvalue()


def packed_without_suffix(name: str) -> tuple[str, bytes]:
    return name, gzip.compress(CONTENT[name], mtime=9)


FORMS = (
    published, packed_anew, unpacked, unpacked_by_7zip, unpacked_into_folders, packed_by_bzip2, packed_by_xz,
    packed_by_zip, packed_without_suffix,
)  # fmt: skip
LAYOUTS = (".", "raw", "Toy/raw", "toy")


def write(folder: Path, form: Callable[[str], tuple[str, bytes]]) -> Path:
    for name in FILES:
        path, content = form(name)
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)
    return folder


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_same_content_is_imported_in_any_form(
    tmp_path: Path, form: Callable[[str], tuple[str, bytes]], layout: str
) -> None:
    write(tmp_path / "from" / layout, form)
    folder = import_files(TOY, tmp_path / "from", tmp_path / "data")
    assert folder == find(TOY, tmp_path / "data") == own_folder(TOY, tmp_path / "data")
    assert {file.name.removesuffix(".gz") for file in folder.iterdir()} == set(FILES)
    assert {name: read_bytes(file) for name, file in verify(TOY, folder).items()} == CONTENT


def test_advice_of_an_import_is_not_the_command_that_was_typed(tmp_path: Path) -> None:
    source = tmp_path / "from"
    source.mkdir()
    with pytest.raises(DataError, match=r"from has no file of toy: name the folder with train-images"):
        import_files(TOY, source, tmp_path / "data")
    write(source, published)
    (source / f"{FILES[1]}.gz").write_bytes(b"damaged")
    with pytest.raises(DataError) as error:
        import_files(TOY, source, tmp_path / "data")
    assert str(error.value) == (
        f"{source / FILES[1]}.gz can't be read, it is damaged or truncated: Not a gzipped file (b'da'): replace it "
        "by a fresh copy, and import again"
    )
    (source / f"{FILES[1]}.gz").unlink()
    with pytest.raises(DataError, match=rf"{FILES[1]}.gz is missing in .*from: put it there"):
        import_files(TOY, source, tmp_path / "data")
    with pytest.raises(DataError, match="only the compressed file has a known checksum"):
        import_files(ONLY_PUBLISHED, write(tmp_path / "bare", unpacked), tmp_path / "data")
    assert not (tmp_path / "data").exists()


def test_compressed_bomb_is_rejected_without_expanding_it(tmp_path: Path) -> None:
    """In a process that may use less memory than the bomb's content."""
    source = write(tmp_path / "from", published)
    with gzip.open(source / f"{FILES[0]}.gz", "wb", compresslevel=9) as bomb:
        for _ in range(64):
            bomb.write(bytes(2**24))
    program = (
        "import sys; from pathlib import Path; from mlpq.spec.datasets import DATASETS, import_files\n"
        "from mlpq.errors import DataError\n"
        "try: import_files(DATASETS['mnist'], Path(sys.argv[1]), Path('data'))\n"
        "except DataError as error: sys.exit(str(error))"
    )
    limit = 3 * 2**28
    done = subprocess.run(
        [sys.executable, "-c", program, str(source)], capture_output=True, text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (limit, limit)),
    )  # fmt: skip
    assert "has more than 64 MiB" in done.stderr


def test_huge_file_is_rejected_without_reading_it(tmp_path: Path) -> None:
    for suffix in ("", ".gz"):
        source = write(tmp_path / f"from{suffix}", lambda name: (f"{name}{suffix}", CONTENT[name]))  # noqa: B023
        os.truncate(source / f"{FILES[0]}{suffix}", 2**36)  # sparse
        with pytest.raises(DataError, match="has more than 64 MiB"):
            import_files(TOY, source, tmp_path / "data")


def test_device_is_not_a_file_of_a_data_set(tmp_path: Path) -> None:
    source = write(tmp_path / "from", published)
    (source / f"{FILES[0]}.gz").unlink()
    (source / f"{FILES[0]}.gz").symlink_to("/dev/zero")
    with pytest.raises(DataError, match="is missing"):
        import_files(TOY, source, tmp_path / "data")


def test_checksums_that_identify_data_are_those_of_every_version() -> None:
    """Attempts in old databases have them."""
    assert {name: dataset.checksum for name, dataset in DATASETS.items()} == {
        "fashion-mnist": "8ba2ec591aab99babe73871f734be92e",
        "mnist": "3f70b2b2867baa6c4887e29d5472ba76",
        "kmnist": "3103701f06b3baa9ecf6c5b37147c9d2",
        "digits": "91a520e23240c8d13940bdacd589e08b",
    }
