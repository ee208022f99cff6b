"""The training process on a GPU that fails: it trains on the CPU, and gangs of several jobs only in part.

    python -m tests.support.failing_gpu SETTINGS

After the first job of a gang has been trained, the others end by the error that CUDA raises after an illegal address,
and with it every later job of the process, as CUDA's calls do.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch

from mlpq_workers.engine.gang import train_gang
from mlpq_workers.engine.training_state import EngineJob, Observer
from mlpq_workers.protocol import TrainingSettings
from mlpq_workers.trainer import __main__ as trainer
from mlpq_workers.trainer import torch_engines

ILLEGAL_ADDRESS = 700
failed = False


def train_in_part(jobs: Mapping[str, EngineJob], data: Any, device: str, observer: Observer, *rest: Any) -> None:
    global failed
    fit = 0 if failed else 1
    for name, job in list(jobs.items())[:fit]:
        train_gang({name: job}, data, device, observer, *rest)
    failed = failed or len(jobs) > 1
    error = torch.AcceleratorError("CUDA error: an illegal memory access was encountered")
    error.error_code = ILLEGAL_ADDRESS  # type: ignore[attr-defined]
    for name in list(jobs)[fit:]:
        observer.ended(name, error)


if __name__ == "__main__":
    torch_engines.train_gang = train_in_part  # type: ignore[assignment, attr-defined]
    trainer.main(replace(TrainingSettings.parse(sys.argv[1]), kernel="off"))
