"""What there is to train on, and what an attempt ran on.

`python -m mlpq_workers.trainer.devices THREADS` prints it as JSON; mlpq doctor asks.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import platform
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import torch

import mlpq
from mlpq.errors import MlpqError
from mlpq.settings import CUBLAS_WORKSPACE

GIT_TIMEOUT = 30  # seconds; a checkout on a dead network drive must not hold the worker


def available() -> list[str]:
    """The kinds of device that torch can use here, the one that "auto" takes first; "cpu" is always among them."""
    found = ["cuda"] if torch.cuda.is_available() else []
    found += ["mps"] if torch.backends.mps.is_available() else []
    return [*found, "cpu"]


def choose(requested: str) -> str:
    """The device to train on: the one asked for, or for "auto" CUDA, else MPS, else the CPU; raises MlpqError."""
    here = available()
    if requested == "auto":
        return here[0]
    if requested not in here:
        raise MlpqError(
            f"there is no {requested} device here: torch {torch.__version__} sees {', '.join(here)}; use --device auto"
        )
    return requested


def world_size(device: str, wanted: int | None) -> int:
    """How many processes train together: as many as wanted, or else one for each GPU; raises MlpqError."""
    most = most_ranks(device)
    if wanted is None:
        return most if device == "cuda" else 1
    if wanted > most:
        raise MlpqError(f"there can be no {wanted} processes that train on {device} here, but {most}: see mlpq doctor")
    return wanted


def most_ranks(device: str) -> int:
    """How many processes can train together on a device: one for each GPU, or core, and two on any CPU."""
    if device == "cuda":
        return torch.cuda.device_count()
    return max(2, os.cpu_count() or 1) if device == "cpu" else 1


def prepare(device: str, rank: int = 0) -> None:
    """Set this process up for training, on CUDA on the GPU of that number and reproducibly, as the source does.

    The source seeds the GPU's generators too; nothing is drawn from them here (see model.py), so that is left out.
    """
    # torch takes this number once, before any parallel work; a process that is past that keeps what it has.
    with contextlib.suppress(RuntimeError):
        torch.set_num_interop_threads(1)
    if device == "cuda":
        torch.cuda.set_device(rank)
        torch.use_deterministic_algorithms(True)
        torch.backends.cudnn.deterministic = True
        torch.backends.cudnn.benchmark = False
        torch.backends.cuda.matmul.allow_tf32 = False
        torch.backends.cudnn.allow_tf32 = False


def determinism(device: str) -> dict[str, object] | None:
    """The settings of CUDA that the bits of a result may depend on; None elsewhere."""
    if device != "cuda":
        return None
    return {
        "deterministic_algorithms": torch.are_deterministic_algorithms_enabled(),
        "cublas_workspace": CUBLAS_WORKSPACE,
        "cudnn_deterministic": torch.backends.cudnn.deterministic,
        "cudnn_benchmark": torch.backends.cudnn.benchmark,
        "tf32": torch.backends.cuda.matmul.allow_tf32 or torch.backends.cudnn.allow_tf32,
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
    }


def environment(device: str, threads: int, world_size: int) -> dict[str, object]:
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
        "world_size": world_size,
        "determinism": determinism(device),
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


def model(device: str) -> str:
    """What the device is called, with the number of GPUs where there are several."""
    count = torch.cuda.device_count() if device == "cuda" else 1
    return f"{count} x {gpu_model(device)}" if count > 1 else gpu_model(device) or cpu_model()


def gpu_model(device: str) -> str | None:
    """The name of the accelerator behind `device`; None for the CPU."""
    if device == "cuda":
        return torch.cuda.get_device_name()
    return f"Apple {platform.machine()}" if device == "mps" else None


@cache
def code_version() -> str:
    """mlpq's version, and which code of that version: of its own git checkout the commit and a hash of uncommitted
    changes; elsewhere, as in a container's image, a hash of the installed files.

    Asked once for each process: what runs is the code that was imported.
    """
    package = Path(mlpq.__file__).resolve().parent
    which = checkout_version(package) or files_version(package, Path(__file__).resolve().parent)
    return f"{mlpq.__version__}+{which}"


def files_version(*packages: Path) -> str:
    """ "files.89abcdef": eight digits of a SHA-256 over the names and contents of the packages' Python files."""
    digest = hashlib.sha256()
    for package in packages:
        for file in sorted(package.rglob("*.py")):
            digest.update(f"{package.name}/{file.relative_to(package).as_posix()}\0".encode())
            digest.update(hashlib.sha256(file.read_bytes()).digest())
    return f"files.{digest.hexdigest()[:8]}"


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


def main(threads: int) -> None:
    """Print what there is to train on here, and what an attempt with "auto" would run on."""
    here = [{"device": name, "model": model(name), "most_ranks": most_ranks(name)} for name in available()]
    device = here[0]["device"]
    size = world_size(str(device), None)
    prepare(str(device))
    facts = environment(str(device), max(1, threads // size), size)
    print(json.dumps({"devices": here, "environment": facts}))


if __name__ == "__main__":
    main(int(sys.argv[1]))
