"""The devices of this machine: which there are, and how many processes train on one.

`python -m mlpq_workers.trainer.devices THREADS KERNEL` prints them as JSON, with the environment, for `mlpq doctor`.

torch is imported only where it is needed: its import takes seconds.
"""

from __future__ import annotations

import ctypes
import importlib.metadata
import importlib.util
import json
import os
import sys
from pathlib import Path

from mlpq.errors import MlpqError
from mlpq_workers.kernel.library import ARITHMETIC
from mlpq_workers.trainer.environment import cpu_name, gpu_name
from mlpq_workers.trainer.kernel_choice import available_kernel, has_torch, needs_torch


def may_have_gpu() -> bool:
    """Whether torch is worth importing to look for a GPU: there is a driver of NVIDIA or AMD, or this is a Mac."""
    if not has_torch():
        return False
    if sys.platform == "darwin" or Path("/dev/kfd").exists():
        return True
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    return True


def available() -> list[str]:
    """The kinds of device that can be used here, best first; the last is always "cpu"."""
    if not may_have_gpu():
        return ["cpu"]
    import torch

    found = ["cuda"] if torch.cuda.is_available() else []
    found += ["mps"] if torch.backends.mps.is_available() else []
    return [*found, "cpu"]


def choose(requested: str) -> str:
    """The kind of device to train on: the requested one, or the best there is for "auto". Raises MlpqError."""
    if requested == "cpu" or (requested == "auto" and not may_have_gpu()):
        return "cpu"
    needs_torch(f"--device {requested}")
    here = available()
    if requested == "auto":
        return here[0]
    if requested not in here:
        version = importlib.metadata.version("torch")
        raise MlpqError(
            f"no {requested} device on this machine: torch {version} sees {', '.join(here)}; use --device auto"
        )
    return requested


def world_size(device: str, requested: int | None) -> int:
    """How many processes train together: the requested number, or else one for each GPU. Raises MlpqError."""
    if requested is None:
        return most_ranks(device) if device == "cuda" else 1
    if requested > 1:
        needs_torch(f"world size {requested}")
    most = most_ranks(device)
    if requested > most:
        raise MlpqError(f"world size {requested} is too large: {device} on this machine allows {most}; see mlpq doctor")
    return requested


def most_ranks(device: str) -> int:
    """The largest world size on a device: the number of GPUs or of cores, where two work on any CPU with torch."""
    if device == "cuda":
        import torch

        return torch.cuda.device_count()
    return max(2, os.cpu_count() or 1) if device == "cpu" and has_torch() else 1


def device_name(device: str) -> str:
    """The name of the hardware, with the number of GPUs where there are several."""
    if device == "cpu":
        return cpu_name()
    count = most_ranks(device)
    return f"{count} x {gpu_name(device)}" if count > 1 else str(gpu_name(device))


def main(threads: int, kernel: str) -> None:
    """Print the devices of this machine, and the environment of an attempt on the best one."""
    from mlpq_workers.trainer.kernel_engine import KernelEngine

    here = [{"device": kind, "model": device_name(kind), "most_ranks": most_ranks(kind)} for kind in available()]
    best = available()[0]
    size = world_size(best, None)
    build, why = available_kernel(kernel)
    facts = None
    if best == "cpu" and build is not None:
        facts = KernelEngine(build, threads).facts
    elif has_torch():
        from mlpq_workers.trainer.torch_engines import TorchEngines

        facts = TorchEngines(best, max(1, threads // size), size).facts
    torch = importlib.metadata.version("torch") if has_torch() else None
    name = build.name if build else None
    found = {"kernel": name, "arithmetic": ARITHMETIC, "why_no_kernel": why, "torch": torch}
    print(json.dumps({"devices": here, "environment": facts, **found}))


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
