"""The environment of an attempt: everything outside the spec that the bits of a result may depend on."""

from __future__ import annotations

import contextlib
import hashlib
import platform
import re
import subprocess
from functools import cache
from pathlib import Path

import mlpq_workers
from mlpq import version

GIT_TIMEOUT = 30  # seconds; a checkout on a network drive that hangs must not block the worker


def environment(device: str, threads: int, world_size: int) -> dict[str, object]:
    """The facts that the database stores for an attempt, but for those of its engine.

    The checksum of the data is missing too, because it depends on the job: the claim adds it.
    """
    return {
        "python": platform.python_version(),
        "cpu": cpu_name(),
        "gpu": gpu_name(device),
        "os": platform.platform(),
        "threads": threads,
        "device": device,
        "world_size": world_size,
        "code_version": code_version(),
    }


@cache
def cpu_name() -> str:
    """The name of the processor, as "AMD EPYC"; where it is unknown, its architecture."""
    with contextlib.suppress(OSError):
        if name := re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE):
            return name[1].strip()
    return platform.processor() or platform.machine()


def gpu_name(device: str) -> str | None:
    """The name of the accelerator behind `device`; None for the CPU."""
    if device == "cuda":
        import torch

        return torch.cuda.get_device_name()
    return f"Apple {platform.machine()}" if device == "mps" else None


@cache
def code_version() -> str:
    """The version of mlpq, and which code of that version runs.

    In mlpq's own git checkout that is the commit and a hash of uncommitted changes; elsewhere, as in a container image,
    a hash of the installed files. Determined once per process, since the process runs the code that it imported.
    """
    service, workers = (Path(str(module.__file__)).resolve().parent for module in (version, mlpq_workers))
    code = checkout_version(service) or files_version(service, workers)
    return f"{version.VERSION}+{code}"


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

    A repository that contains the package elsewhere, as in a virtual environment, is not the package's own.
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
