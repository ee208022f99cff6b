"""Files that users name."""

from __future__ import annotations

from os import PathLike
from pathlib import Path

from mlpq.errors import MlpqError, reason_of


def write(file: str | PathLike[str], content: bytes) -> Path:
    """Write a file and return its path; raises MlpqError where that fails."""
    path = Path(file)
    try:
        path.write_bytes(content)
    except OSError as error:
        raise MlpqError(f"can't write {path}: {reason_of(error)}") from error
    return path
