"""A fresh clone, with uncommitted changes."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from tests.support.installations import ROOT


def clone(folder: Path, root: Path = ROOT) -> Path:
    """Copy the files below `root` that git tracks, or would add, into `folder`."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    names = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True).stdout
    for name in names.strip("\0").split("\0"):
        if (root / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(root / name, folder / name)
    return folder
