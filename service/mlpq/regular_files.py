"""Reads and writes files where others may write too: only regular ones, and never through a symbolic link."""

from __future__ import annotations

import os
import secrets
import stat
from pathlib import Path


def read(path: Path, at_most: int) -> bytes:
    """The content; raises OSError where that is no regular file of at most that many bytes. Never waits for a FIFO."""
    file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(file, "rb") as opened:
        found = os.fstat(file)
        if not stat.S_ISREG(found.st_mode):
            raise OSError(None, "not a regular file", str(path))
        if found.st_size > at_most:
            raise OSError(None, f"larger than the {at_most:,} bytes that it may have", str(path))
        return opened.read(at_most)


def check_inside(path: Path, folder: Path) -> None:
    """Raise OSError where a path, which somebody else wrote, leads out of the folder."""
    if not path.parent.resolve().is_relative_to(folder.resolve()):
        raise OSError(None, f"outside the artifacts folder {folder}", str(path))


def write(path: Path, content: bytes) -> None:
    """Write a file that is either complete or absent, also after a crash or a power failure; raises OSError.

    The folder is created; it must not be a symbolic link. The temporary file has a name that nobody can guess.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        temporary = f".{path.name}.{secrets.token_hex(8)}"
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            with os.fdopen(os.open(temporary, flags, 0o666, dir_fd=folder), "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path.name, src_dir_fd=folder, dst_dir_fd=folder)
        except BaseException:
            _remove(temporary, folder)
            raise
        os.fsync(folder)
    finally:
        os.close(folder)


def remove_matching(folder: Path, pattern: str) -> None:
    """Remove the files of a folder whose names match; nothing where the folder is a symbolic link or can't be read."""
    if folder.is_symlink():
        return
    for path in folder.glob(pattern):
        try:
            path.unlink()
        except OSError:
            continue


def make_private_folder(folder: Path) -> None:
    """Create the folder and its missing parents, which only this user may enter."""
    for each in reversed([folder, *folder.parents]):
        each.mkdir(mode=0o700, exist_ok=True)


def _remove(name: str, folder: int) -> None:
    try:
        os.unlink(name, dir_fd=folder)
    except OSError:
        return
