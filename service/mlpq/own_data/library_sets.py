"""Reads data sets of torchvision and scikit-learn by their names, in a process of its own: mlpq loads neither."""

from __future__ import annotations

import json
import re
import subprocess
import tempfile
from dataclasses import replace
from pathlib import Path

from mlpq.errors import DataError
from mlpq.own_data import npz_files
from mlpq.own_data.parts import Arrays, Source
from mlpq.settings import python_module, training_environ

NAME = re.compile(r"(torchvision|sklearn):[A-Za-z0-9_-]{1,64}")
ARRAYS, NAMES = "arrays.npz", "names.json"
EXPORTER = "mlpq_workers.trainer.library_data"


def is_name(source: str) -> bool:
    """Whether a source is such a name."""
    return NAME.fullmatch(source) is not None


def read(source: str, data_dir: Path) -> Source:
    """The data set; its files are below the data folder, where they are downloaded if they are missing."""
    with tempfile.TemporaryDirectory(prefix="mlpq-") as folder:
        command = python_module(EXPORTER, source, "--data-dir", str(data_dir), "--out", folder)
        done = subprocess.run(command, env=training_environ(), capture_output=True, text=True, errors="replace")
        if done.returncode:
            lines = done.stderr.strip().splitlines() or [f"{source} can't be read: exit status {done.returncode}"]
            raise DataError(lines[-1].removeprefix("mlpq: "))
        found = npz_files.read(Path(folder) / ARRAYS)
        names = json.loads((Path(folder) / NAMES).read_text())
    assert isinstance(found.train, Arrays)
    features = tuple(names["features"]) or None
    train = replace(found.train, names=features, where=f"{source}, training rows" if found.test else source)
    test = replace(found.test, where=f"{source}, test rows") if isinstance(found.test, Arrays) else None
    return Source(train, test, class_names={str(i): name for i, name in enumerate(names["classes"])})
