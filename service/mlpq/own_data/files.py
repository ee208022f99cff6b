"""Where the files of own data sets are: each is named by its SHA-256, which is that of the content."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from mlpq.errors import DataError, reason_of

SUFFIX = ".safetensors"
MAX_LISTED = 1_000  # files of a worker that others are told of, the newest


def path_of(sha256: str, data_dir: Path) -> Path:
    """Where the file of that content is."""
    return data_dir / "own" / f"{sha256}{SUFFIX}"


def is_here(sha256: str, data_dir: Path) -> bool:
    """Whether there is a file of that content; its hash is checked where it is read."""
    return path_of(sha256, data_dir).is_file()


def verify(sha256: str, data_dir: Path) -> Path | None:
    """The file of that content, if it is here; raises DataError where it is damaged or can't be read."""
    path = path_of(sha256, data_dir)
    try:
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise DataError(f"{path} can't be read: {reason_of(error)}") from error
    if found != sha256:
        raise DataError(f"{path} is damaged: remove it, and add the data set again")
    return path


def stored(data_dir: Path) -> frozenset[str]:
    """The SHA-256 of the contents whose files are here, of many the newest; their hashes are checked when read."""
    found = []
    try:
        for path in path_of("", data_dir).parent.iterdir():
            if path.suffix == SUFFIX and re.fullmatch("[0-9a-f]{64}", path.stem) and path.is_file():
                found.append((path.stat().st_mtime, path.stem))
    except OSError:  # there is none yet, or one was removed meanwhile
        pass
    return frozenset(stem for _, stem in sorted(found)[-MAX_LISTED:])


def remove(sha256: str, data_dir: Path) -> bool:
    """Delete the file; False where there is none. Raises DataError."""
    path = path_of(sha256, data_dir)
    try:
        path.unlink()
    except FileNotFoundError:
        return False
    except OSError as error:
        raise DataError(f"can't remove {path}: {reason_of(error)}") from error
    return True
