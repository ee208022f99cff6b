"""The kernel compiled in several ways, below build/kernel-tests/."""

from __future__ import annotations

import functools
import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import mlpq_workers.kernel

ROOT = Path(__file__).parents[2]
SOURCES = Path(mlpq_workers.kernel.__file__).parent / "src"
FLAGS = ("-std=gnu11", "-ffp-contract=off", "-Wall", "-Wextra", "-Werror", "-Wno-psabi", "-Wno-unknown-pragmas")
SANITIZED = ("-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")
DOUBLE = ("-O2", "-DMLPQ_DOUBLE")


@functools.cache
def compiled(compiler: str, *flags: str) -> Path:
    """The shared library by this compiler with these flags; compiled once, also for other processes of the tests."""
    sources = sorted(SOURCES.glob("*.c"))
    content = b"".join(path.read_bytes() for path in sorted(SOURCES.iterdir()))
    name = hashlib.sha256(content + repr((compiler, flags)).encode()).hexdigest()[:16]
    library = ROOT / "build" / "kernel-tests" / f"{name}.so"
    if not library.exists():
        library.parent.mkdir(parents=True, exist_ok=True)
        temporary = library.with_suffix(f".{os.getpid()}")
        command = [compiler, *FLAGS, *flags, "-fPIC", "-shared", "-o", str(temporary), *map(str, sources), "-lm"]
        subprocess.run(command, check=True)
        temporary.replace(library)
    return library


def has_compiler(name: str) -> bool:
    return shutil.which(name) is not None


def run_sanitized(module: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a Python module with AddressSanitizer in the process; the library's path is its first argument."""
    library = compiled("gcc", *SANITIZED)
    runtime = [
        subprocess.run(
            ["gcc", f"-print-file-name={name}"], check=True, stdout=subprocess.PIPE, text=True
        ).stdout.strip()
        for name in ("libasan.so", "libubsan.so")
    ]
    environment = {
        **os.environ,
        "LD_PRELOAD": " ".join(runtime),
        "ASAN_OPTIONS": "detect_leaks=0:abort_on_error=0",  # Python itself leaks at its end
        "UBSAN_OPTIONS": "print_stacktrace=1",
        "PYTHONMALLOC": "malloc",  # so that accesses beyond an array of NumPy's are found too
        "PYTHONPATH": os.pathsep.join(map(str, (ROOT / "service", ROOT / "workers", ROOT))),
    }
    command = [sys.executable, "-m", module, str(library), *arguments]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
