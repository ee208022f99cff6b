"""What a fresh clone holds, with the changes that are not committed."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from tests.support.installations import ROOT


def clone(folder: Path) -> Path:
    """Copy the files that git tracks into `folder`, which is made."""
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in tracked.strip("\0").split("\0"):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    return folder
