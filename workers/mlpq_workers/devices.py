"""What there is to train on, and what an attempt ran on."""

from __future__ import annotations

import contextlib
import hashlib
import os
import platform
import re
import subprocess
from functools import cache
from pathlib import Path

import torch

import mlpq
from mlpq.errors import MlpqError

GIT_TIMEOUT = 30  # seconds; a checkout on a dead network drive must not hold the worker


def available() -> dict[str, dict[str, object]]:
    """The kinds of device that torch can use here, each with its facts; "cpu" is always among them."""
    found: dict[str, dict[str, object]] = {"cpu": {"model": cpu_model(), "cores": os.cpu_count()}}
    if torch.cuda.is_available():
        count = torch.cuda.device_count()
        found["cuda"] = {"count": count, "names": [torch.cuda.get_device_name(i) for i in range(count)]}
    if torch.backends.mps.is_available():
        found["mps"] = {"model": platform.machine()}
    return found


def choose(requested: str) -> str:
    """The device to train on: the one asked for, or for "auto" CUDA, else MPS, else the CPU; raises MlpqError."""
    here = available()
    if requested == "auto":
        return next(device for device in ("cuda", "mps", "cpu") if device in here)
    if requested not in here:
        raise MlpqError(
            f"there is no {requested} device here: torch {torch.__version__} sees {', '.join(here)}; use --device auto"
        )
    return requested


def prepare(device: str) -> None:
    """Set this process up for training: on CUDA the source's deterministic cuDNN.

    The source seeds the GPU's generators too; nothing is drawn from them here (see model.py), so that is left out.
    """
    # torch takes this number once, before any parallel work; a process that is past that keeps what it has.
    with contextlib.suppress(RuntimeError):
        torch.set_num_interop_threads(1)
    if device == "cuda":
        torch.backends.cudnn.deterministic = True
        torch.backends.cudnn.benchmark = False


def environment(device: str, threads: int) -> dict[str, object]:
    """Everything outside the spec that the bits of a result may depend on; what the database keeps for an attempt.

    But for the checksum of the data, which the claim adds: it belongs to the job.
    """
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "blas": blas(),
        "cpu": cpu_model(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "gpu": gpu_model(device),
        "os": platform.platform(),
        "threads": threads,
        "device": device,
        "world_size": 1,
        "code_version": code_version(),
    }


def blas() -> str:
    """The library behind matrix products, as "MKL 2024.2", or torch's short name for it."""
    config = torch.__config__.show()
    if mkl := re.search(r"Math Kernel Library Version ([\d.]+)", config):
        return f"MKL {mkl[1]}"
    named = re.search(r"BLAS_INFO=(\w+)", config)
    return named[1] if named else "unknown"


@cache
def cpu_model() -> str:
    """The processor's name, as "AMD EPYC", or at least its architecture."""
    with contextlib.suppress(OSError):
        if model := re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE):
            return model[1].strip()
    return platform.processor() or platform.machine()


def gpu_model(device: str) -> str | None:
    """The name of the accelerator behind `device`; None for the CPU."""
    if device == "cuda":
        return torch.cuda.get_device_name()
    return f"Apple {platform.machine()}" if device == "mps" else None


@cache
def code_version() -> str:
    """mlpq's version, and where it runs from its own git checkout the commit and a hash of uncommitted changes.

    Asked once for each process: what runs is the code that was imported.
    """
    checkout = checkout_version(Path(mlpq.__file__).resolve().parent)
    return f"{mlpq.__version__}+{checkout}" if checkout else mlpq.__version__


def checkout_version(package: Path) -> str | None:
    """ "1a2b3c4d5e6f" or "1a2b3c4d5e6f.changed.89abcdef" for a package at service/mlpq of a git checkout, else None.

    A repository that merely lies above a virtual environment says nothing about the package.
    """
    try:
        top = Path(_git(package, "rev-parse", "--show-toplevel").decode().strip())
        if top.resolve() / "service" / "mlpq" != package.resolve():
            return None
        commit = _git(top, "rev-parse", "--verify", "HEAD").decode()[:12]
        if not _git(top, "status", "--porcelain"):
            return commit
        return f"{commit}.changed.{_changes_hash(top)}"
    except (OSError, subprocess.SubprocessError):
        return None


def _changes_hash(top: Path) -> str:
    """Eight digits of a SHA-256 over the difference from HEAD and the untracked files that git does not ignore."""
    digest = hashlib.sha256(_git(top, "diff", "HEAD", "--binary"))
    for name in filter(None, _git(top, "ls-files", "--others", "--exclude-standard", "-z").split(b"\0")):
        file = top / name.decode(errors="surrogateescape")
        digest.update(name + b"\0")
        if file.is_file():
            digest.update(hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()[:8]


def _git(folder: Path, *arguments: str) -> bytes:
    command = ["git", "-C", str(folder), *arguments]
    return subprocess.run(command, capture_output=True, check=True, timeout=GIT_TIMEOUT).stdout
