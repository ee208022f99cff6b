"""Libraries that only some sources need."""

from __future__ import annotations

import importlib
from types import ModuleType

from mlpq.errors import DataError


def optional_module(name: str, purpose: str) -> ModuleType:
    """The module; raises DataError that says what to install."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        library = {"PIL": "Pillow"}.get(name.partition(".")[0], name.partition(".")[0])
        raise DataError(f"reading {purpose} needs {library}: pip install 'mlpq[data]'") from error
