"""The format option, messages, and files that commands write."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click

from mlpq.errors import MlpqError, reason_of

Command = TypeVar("Command", bound=Callable[..., Any])

NO_JOBS = "no job yet: mlpq submit --preset textbook --wait runs the first ones"


def format_option(*formats: str) -> Callable[[Command], Command]:
    """The option --format of a command, as the parameter `format_`; the first of `formats` is its default."""
    return click.option("--format", "format_", type=click.Choice(formats), default=formats[0], show_default=True)


def warn(warning: str) -> None:
    """Print a warning on standard error; nothing where it is empty."""
    if warning:
        click.echo(f"mlpq: warning: {warning}", err=True)


def output_file(name: str, suffixes: Sequence[str] = ()) -> Path:
    """The file to write; raises MlpqError where it can't be created, or its suffix is none of `suffixes`."""
    path = Path(name)
    if suffixes and path.suffix not in suffixes:
        endings = " or ".join(f"NAME{suffix}" for suffix in suffixes)
        raise MlpqError(f"the suffix of '{name}' is not a supported format: name the file {endings}")
    if not path.parent.is_dir():
        raise MlpqError(f"the folder {path.parent} does not exist: create it, or choose another one for {path.name}")
    if path.is_dir():
        raise MlpqError(f"{name} is a folder: name a file in it")
    return path


def write(path: Path, content: bytes) -> None:
    """Write a file; raises MlpqError where that fails."""
    try:
        path.write_bytes(content)
    except OSError as error:
        raise MlpqError(f"can't write {path}: {reason_of(error)}") from error
