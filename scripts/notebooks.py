"""Execute the notebooks of the docs with Fashion-MNIST, and store them with their outputs: `make notebooks`.

    .venv/bin/python scripts/notebooks.py [NOTEBOOK …]

Each runs in an empty home, so that its outputs depend on nothing but itself.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted((ROOT / "docs" / "tutorial").glob("*.ipynb"))
CELL_SECONDS = 1800


def executed(file: Path, home: Path, parameters: Mapping[str, object]) -> Any:
    """The notebook after its execution in `home`; the cell that is tagged so assigns these parameters too.

    Raises nbclient's CellExecutionError.
    """
    notebook = nbformat.read(file, as_version=4)
    for cell in notebook.cells:
        if "parameters" in cell.metadata.get("tags", ()):
            cell.source = "\n".join([cell.source, *(f"{name} = {value!r}" for name, value in parameters.items())])
    environ = {**os.environ, "MLPQ_HOME": str(home)}
    client = NotebookClient(
        notebook,
        timeout=CELL_SECONDS,
        resources={"metadata": {"path": str(home)}},
        record_timing=False,
        coalesce_streams=True,  # a slow cell's text comes in parts
    )
    return client.execute(env=environ)


def main(names: list[str]) -> None:
    for file in map(Path, names) if names else NOTEBOOKS:
        began = time.monotonic()
        with tempfile.TemporaryDirectory() as home:
            notebook = executed(file, Path(home), {})
        notebook.metadata = {name: notebook.metadata[name] for name in ("kernelspec",)}
        file.write_text(nbformat.writes(notebook, indent=1) + "\n")
        print(f"{file}: {file.stat().st_size / 1000:.0f} kB in {time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main(sys.argv[1:])
