"""A job as a notebook in plain PyTorch, without mlpq, for `mlpq export --notebook`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mlpq import formatting
from mlpq.records import JobRecord
from mlpq.report.script_export import notebook_cells

METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}


def notebook(
    job: JobRecord,
    ancestors: Sequence[JobRecord],
    environment: Mapping[str, Any] | None,
    data_dir: Path | None = None,
) -> str:
    """The text of a notebook that trains the job as its script does, cell by cell; the arguments are those of `script`.

    It looks for data in `data`, in `data_dir` and where the system's package puts it.
    """
    others = "" if not ancestors else " and the jobs that it continues from"
    about = [
        f"# {formatting.model(job.spec)}, {formatting.optimizer(job.spec)}",
        f"Job `{job.id}` of mlpq{others} in plain PyTorch. The notebook needs torch and NumPy only.",
    ]
    cells = [("markdown", "\n\n".join(about))]
    for title, code in notebook_cells(job, ancestors, environment, data_dir):
        if title:
            cells.append(("markdown", f"## {title}"))
        cells.append(("code", code.strip("\n")))
    found = [_cell(number, kind, text) for number, (kind, text) in enumerate(cells)]
    document = {"cells": found, "metadata": METADATA, "nbformat": 4, "nbformat_minor": 5}
    return json.dumps(document, indent=1, ensure_ascii=False) + "\n"


def _cell(number: int, kind: str, text: str) -> dict[str, Any]:
    cell: dict[str, Any] = {"cell_type": kind, "id": f"cell-{number}", "metadata": {}, "source": text.splitlines(True)}
    return cell if kind == "markdown" else {**cell, "execution_count": None, "outputs": []}
