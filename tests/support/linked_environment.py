"""A virtual environment with some of the installed distributions and what they require, without a package index."""

from __future__ import annotations

import re
import subprocess
import venv
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path


def linked_environment(folder: Path, names: list[str]) -> Path:
    """The Python of a new virtual environment in `folder` with these distributions, as links to the installed ones."""
    venv.create(folder, symlinks=True)
    python = folder / "bin" / "python"
    where = [str(python), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]
    target = Path(subprocess.run(where, capture_output=True, text=True, check=True).stdout.strip())
    for name in _closure(names):
        for file in distribution(name).files or ():
            top = file.parts[0]
            source = Path(str(distribution(name).locate_file(top)))
            if top not in ("..", "__pycache__") and not (target / top).exists():
                (target / top).symlink_to(source)
    return python


def without_mlpq(environ: Mapping[str, str]) -> dict[str, str]:
    """The environment of a program that finds neither mlpq nor its settings."""
    return {name: value for name, value in environ.items() if not name.startswith(("MLPQ_", "PYTHON"))}


def _closure(names: list[str]) -> list[str]:
    """The distributions and all that they require here, extras aside."""
    found: dict[str, None] = {}
    left = list(names)
    while left:
        name = left.pop()
        if name in found:
            continue
        try:
            required = distribution(name).requires or []
        except PackageNotFoundError:  # of another platform
            continue
        found[name] = None
        left += [
            each[0].lower() for line in required if "extra ==" not in line and (each := re.match(r"[\w.-]+", line))
        ]
    return list(found)
