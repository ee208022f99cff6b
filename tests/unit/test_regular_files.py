"""Files in folders where others may write too."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from mlpq import regular_files


def make_fifo(path: Path) -> None:
    os.mkfifo(path)


def make_link(path: Path) -> None:
    (path.parent / "target").write_bytes(b"secret")
    path.symlink_to(path.parent / "target")


def make_zero(path: Path) -> None:
    path.symlink_to("/dev/zero")


def make_folder(path: Path) -> None:
    path.mkdir()


def make_large(path: Path) -> None:
    path.write_bytes(b"x" * 11)


@pytest.mark.parametrize("make", [make_fifo, make_link, make_zero, make_folder, make_large])
def test_only_regular_files_of_that_size_are_read(tmp_path: Path, make: object) -> None:
    """And nothing waits."""
    assert callable(make)
    make(tmp_path / "file")
    with pytest.raises(OSError, match=r"."):
        regular_files.read(tmp_path / "file", at_most=10)


def test_device_is_not_read() -> None:
    with pytest.raises(OSError, match="not a regular file"):
        regular_files.read(Path("/dev/zero"), at_most=10)


def test_file_is_read(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x" * 10)
    assert regular_files.read(tmp_path / "file", at_most=10) == b"x" * 10


def test_link_in_the_place_of_a_file_is_replaced_and_not_followed(tmp_path: Path) -> None:
    (tmp_path / "target").write_bytes(b"precious")
    (tmp_path / "file").symlink_to(tmp_path / "target")
    regular_files.write(tmp_path / "file", b"new")
    assert (tmp_path / "target").read_bytes() == b"precious"
    assert stat.S_ISREG((tmp_path / "file").lstat().st_mode)


def test_folder_that_is_a_link_is_not_written_to(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "job").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "attempt-1-epoch-1.safetensors").touch()
    with pytest.raises(OSError, match=r"."):
        regular_files.write(tmp_path / "job" / "file", b"new")
    regular_files.remove_matching(tmp_path / "job", "attempt-*")
    assert [path.name for path in (tmp_path / "elsewhere").iterdir()] == ["attempt-1-epoch-1.safetensors"]


def test_failed_write_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        regular_files.write(tmp_path / "file", b"new")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("recorded", ["/etc/passwd", "{folder}/../outside/x", "{folder}/link/x"])
def test_path_out_of_the_folder_is_refused(tmp_path: Path, recorded: str) -> None:
    folder = tmp_path / "artifacts"
    folder.mkdir()
    (tmp_path / "outside").mkdir()
    (folder / "link").symlink_to(tmp_path / "outside")
    with pytest.raises(OSError, match="outside the artifacts folder"):
        regular_files.check_inside(Path(recorded.format(folder=folder)), folder)
    regular_files.check_inside(folder / "job" / "attempt-1.safetensors", folder)
