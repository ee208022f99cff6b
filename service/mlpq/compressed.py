"""Reads files of others that may be compressed, by gzip, bzip2, xz or zip, whatever they are called.

Nothing is decompressed beyond a given size, so that a small file can't fill the memory.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import stat
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from io import BufferedReader, RawIOBase
from pathlib import Path
from typing import Any, BinaryIO

from mlpq.errors import DataError, reason_of

GZIP, BZIP2, XZ, ZIP = b"\x1f\x8b", b"BZh", b"\xfd7zXZ\0", b"PK\x03\x04"
XZ_MEMORY = 2**28  # bytes; a header may ask for 4 GiB
CHUNK = 2**16
MAX_DIRECTORY = 2**20  # bytes of the list of a zip file's members
END_RECORD, ZIP64_LOCATOR = b"PK\x05\x06", b"PK\x06\x07"
DAMAGE = (EOFError, zlib.error, lzma.LZMAError, zipfile.BadZipFile, NotImplementedError, RuntimeError, ValueError)


@contextmanager
def opened(path: Path, at_most: int) -> Iterator[BufferedReader]:
    """The content of a regular file, decompressed; raises DataError, also while it is read, where the content has more
    than `at_most` bytes, or is damaged or truncated."""
    with ExitStack() as stack:
        try:
            file = stack.enter_context(_regular(path))
            magic = file.peek(8)[:8] if isinstance(file, BufferedReader) else b""
            content = _decompressed(file, magic, stack)
        except (OSError, *DAMAGE) as error:
            raise damaged(path, error) from error
        yield BufferedReader(_Bounded(content, path, at_most), CHUNK)


def read(path: Path, at_most: int) -> bytes:
    """The whole content, as `opened` gives it."""
    with opened(path, at_most) as file:
        return file.read()


@contextmanager
def opened_zip(path: Path) -> Iterator[zipfile.ZipFile]:
    """A zip file whose list of members is not too long to be read; raises DataError where it is damaged."""
    with ExitStack() as stack:
        try:
            archive = stack.enter_context(_archive(stack.enter_context(_regular(path))))
        except (OSError, *DAMAGE) as error:
            raise damaged(path, error) from error
        yield archive


def magic_of(path: Path, length: int = 8) -> bytes:
    """The first bytes of a regular file; raises DataError."""
    try:
        with _regular(path) as file:
            return file.read(length)
    except OSError as error:
        raise damaged(path, error) from error


def is_member(name: str) -> bool:
    """Whether that is a file of the user's in a zip file: no folder, and none that macOS adds."""
    return not name.endswith("/") and not name.startswith("__MACOSX/")


def damaged(path: Path, error: Exception) -> DataError:
    """Why the file can't be read."""
    if isinstance(error, OSError) and error.errno is not None:
        return DataError(f"{path} can't be read: {reason_of(error)}")
    return DataError(f"{path} can't be read, it is damaged or truncated: {str(error) or type(error).__name__}")


def _regular(path: Path) -> BufferedReader:
    """The open file. Never waits for a FIFO."""
    file = os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb")
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise OSError(-1, "not a regular file", str(path))
    return file


def _decompressed(file: BufferedReader, magic: bytes, stack: ExitStack) -> Any:
    if magic.startswith(GZIP):
        return stack.enter_context(gzip.GzipFile(fileobj=file))
    if magic.startswith(BZIP2):
        return stack.enter_context(bz2.BZ2File(file))
    if magic.startswith(XZ):
        return _Xz(file)
    if magic.startswith(ZIP):
        archive = stack.enter_context(_archive(file))
        members = [name for name in archive.namelist() if is_member(name)]
        if len(members) != 1:
            raise ValueError(f"it holds {len(members)} files, not one")
        return stack.enter_context(archive.open(members[0]))
    return file


def _archive(file: BufferedReader) -> zipfile.ZipFile:
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - CHUNK - 22))
    tail = file.read()
    end = tail.rfind(END_RECORD)
    directory = int.from_bytes(tail[end + 12 : end + 16], "little") if end >= 0 else 0
    if end >= 20 and tail[end - 20 :].startswith(ZIP64_LOCATOR):
        file.seek(min(int.from_bytes(tail[end - 12 : end - 4], "little"), size))
        directory = max(directory, int.from_bytes(file.read(48)[40:], "little"))
    if directory > MAX_DIRECTORY:
        raise ValueError(f"the list of its members has {directory:,} bytes; at most {MAX_DIRECTORY:,}")
    return zipfile.ZipFile(file)


class _Bounded(RawIOBase):
    """Another stream up to so many bytes; what goes wrong in it is a DataError."""

    def __init__(self, content: BinaryIO, path: Path, at_most: int) -> None:
        self._content, self._path, self._left, self._at_most = content, path, at_most, at_most

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        try:
            chunk = self._content.read(len(buffer))
        except (OSError, *DAMAGE) as error:
            raise damaged(self._path, error) from error
        self._left -= len(chunk)
        if self._left < 0:
            raise DataError(f"{self._path} has more than the {self._at_most:,} bytes that are read at most")
        buffer[: len(chunk)] = chunk
        return len(chunk)


class _Xz(RawIOBase):
    """As lzma.LZMAFile, with a limit to its memory, which that one has not."""

    def __init__(self, file: BufferedReader) -> None:
        self._file = file
        self._decompressor = lzma.LZMADecompressor(memlimit=XZ_MEMORY)

    def read(self, size: int = -1, /) -> bytes:
        while True:
            if self._decompressor.eof:
                rest = self._decompressor.unused_data.lstrip(b"\0") or self._file.read(CHUNK).lstrip(b"\0")
                if not rest:
                    return b""
                self._decompressor = lzma.LZMADecompressor(memlimit=XZ_MEMORY)
            else:
                rest = self._file.read(CHUNK) if self._decompressor.needs_input else b""
                if not rest and self._decompressor.needs_input:
                    raise EOFError("it ends before its end marker")
            if chunk := self._decompressor.decompress(rest, size):
                return chunk
