"""Files that commands write."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mlpq.errors import MlpqError


def output_file(name: str, suffixes: Sequence[str] = ()) -> Path:
    """Where to write; raises MlpqError where that can't be, or the name has none of these suffixes."""
    path = Path(name)
    if suffixes and path.suffix not in suffixes:
        raise MlpqError(f"'{name}' does not say what to write: name it {' or '.join(f'NAME{end}' for end in suffixes)}")
    if not path.parent.is_dir():
        raise MlpqError(f"there is no folder {path.parent} to write {path.name} to: make it, or name another")
    if path.is_dir():
        raise MlpqError(f"{name} is a folder: name a file in it")
    return path


def write(path: Path, content: bytes) -> None:
    """Raises MlpqError where it can't be written."""
    try:
        path.write_bytes(content)
    except OSError as error:
        raise MlpqError(f"can't write {path}: {error.strerror}") from error
