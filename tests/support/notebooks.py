"""Notebooks executed by real kernels."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import nbformat
from nbclient import NotebookClient
from nbformat.v4 import new_code_cell, new_notebook

from tests.support.installations import ROOT, Site

TUTORIAL = ROOT / "docs" / "tutorial" / "optimizers.ipynb"


def notebook_script() -> ModuleType:
    """scripts/notebooks.py, which `make notebooks` runs."""
    spec = importlib.util.spec_from_file_location("notebooks", ROOT / "scripts" / "notebooks.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def executed_notebook(site: Site, cells: list[str], allow_errors: bool = False) -> Any:
    """A notebook of cells that a kernel has executed in the site's folder, and settings of the site."""
    notebook = new_notebook(cells=[new_code_cell(cell) for cell in cells])
    resources = {"metadata": {"path": str(site.folder)}}
    client = NotebookClient(notebook, timeout=120, allow_errors=allow_errors, resources=resources)
    return client.execute(env=jupyter_environ(site.environ(), site.folder))


def write(notebook: Any, file: Path) -> None:
    file.write_text(nbformat.writes(notebook))


def jupyter_environ(environ: Mapping[str, str], folder: Path) -> dict[str, str]:
    """The environment of a program of Jupyter, which keeps its files in `folder`."""
    names = ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR")
    folders = {name: str(folder / name.lower()) for name in names}
    programs = str(Path(sys.executable).parent)
    return {**environ, **folders, "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}"}
