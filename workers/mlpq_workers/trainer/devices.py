"""The devices of this machine: which there are, how many processes train on one, and its preparation.

`python -m mlpq_workers.trainer.devices THREADS` prints them as JSON, with the environment, for `mlpq doctor`.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys

import torch

from mlpq.errors import MlpqError
from mlpq_workers.trainer.environment import cpu_name, environment, gpu_name


def available() -> list[str]:
    """The kinds of device that torch can use here, best first; the last is always "cpu"."""
    found = ["cuda"] if torch.cuda.is_available() else []
    found += ["mps"] if torch.backends.mps.is_available() else []
    return [*found, "cpu"]


def choose(requested: str) -> str:
    """The kind of device to train on: the requested one, or the best there is for "auto". Raises MlpqError."""
    here = available()
    if requested == "auto":
        return here[0]
    if requested not in here:
        raise MlpqError(
            f"no {requested} device on this machine: torch {torch.__version__} sees {', '.join(here)}; "
            "use --device auto"
        )
    return requested


def world_size(device: str, requested: int | None) -> int:
    """How many processes train together: the requested number, or else one for each GPU. Raises MlpqError."""
    most = most_ranks(device)
    if requested is None:
        return most if device == "cuda" else 1
    if requested > most:
        raise MlpqError(f"world size {requested} is too large: {device} on this machine allows {most}; see mlpq doctor")
    return requested


def most_ranks(device: str) -> int:
    """The largest world size on a device: the number of GPUs or of cores, where two work on any CPU."""
    if device == "cuda":
        return torch.cuda.device_count()
    return max(2, os.cpu_count() or 1) if device == "cpu" else 1


def device_name(device: str) -> str:
    """The name of the hardware, with the number of GPUs where there are several."""
    count = torch.cuda.device_count() if device == "cuda" else 1
    return f"{count} x {gpu_name(device)}" if count > 1 else gpu_name(device) or cpu_name()


def prepare(device: str, rank: int = 0) -> None:
    """Prepare this process for training: on CUDA, choose GPU `rank` and make kernels deterministic, as the source does.

    The source also seeds the GPU's generators. Nothing is drawn from them here (see mlpq_workers.engine.seeding).
    """
    # torch accepts this setting only once and before any parallel work; afterwards it keeps what it has.
    with contextlib.suppress(RuntimeError):
        torch.set_num_interop_threads(1)
    if device == "cuda":
        torch.cuda.set_device(rank)
        torch.use_deterministic_algorithms(True)
        torch.backends.cudnn.deterministic = True
        torch.backends.cudnn.benchmark = False
        torch.backends.cuda.matmul.allow_tf32 = False
        torch.backends.cudnn.allow_tf32 = False


def main(threads: int) -> None:
    """Print the devices of this machine, and the environment of an attempt on the best one."""
    here = [{"device": kind, "model": device_name(kind), "most_ranks": most_ranks(kind)} for kind in available()]
    best = available()[0]
    size = world_size(best, None)
    prepare(best)
    facts = environment(best, max(1, threads // size), size)
    print(json.dumps({"devices": here, "environment": facts}))


if __name__ == "__main__":
    main(int(sys.argv[1]))
