"""Packages as an installer leaves them in a folder, which a Python with that folder in its path has."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from pathlib import Path

PLUGIN = "mlpq-test-plugin==1.0"  # tests/plugin, which make setup installs


def write_package(folder: Path, name: str, version: str, optimizers: Mapping[str, str], **modules: str) -> Path:
    """Write a package with these optimizers ("module:OBJECT" by name) and the sources of its modules, by their names.

    "a__b" is the module a.b.
    """
    metadata = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    points = "".join(f"{optimizer} = {value}\n" for optimizer, value in optimizers.items())
    (metadata / "entry_points.txt").write_text(f"[mlpq.optimizers]\n{points}")
    for module, source in modules.items():
        path = folder.joinpath(*module.split("__")).with_suffix(".py")
        path.parent.mkdir(exist_ok=True)
        path.write_text(textwrap.dedent(source))
    return folder
