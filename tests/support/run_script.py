"""Runs a script as its reader would: python run_script.py SCRIPT [ARGUMENTS].

But beside a CPU torch, torchvision can't be imported without help, which is no business of the script's.
"""

from __future__ import annotations

import runpy
import sys

from mlpq_workers.trainer.data import torchvision_datasets

if __name__ == "__main__":
    torchvision_datasets()
    del sys.argv[0]
    runpy.run_path(sys.argv[0], run_name="__main__")
