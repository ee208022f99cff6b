"""The part of the build that pyproject.toml can't state: the kernel's library, compiled where there is a compiler."""

from __future__ import annotations

import sys
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

SOURCES = Path("workers/mlpq_workers/kernel/src")
# No contraction: a product and a sum become one rounding only where the source says fma.
FLAGS = ["-std=gnu11", "-O3", "-g0", "-ffp-contract=off", "-fno-math-errno", "-Wno-psabi", "-Wno-unknown-pragmas"]


class BuildKernel(build_ext):
    """Names the file as a plain shared library: it is loaded by ctypes, so one serves every version of Python."""

    def get_ext_filename(self, fullname: str) -> str:
        *package, name = fullname.split(".")
        suffix = ".dylib" if sys.platform == "darwin" else ".so"
        return str(Path(*package, name + suffix))

    def get_export_symbols(self, ext: Extension) -> list[str]:
        return []


kernel = Extension(
    "mlpq_workers.kernel.libmlpq_kernel",
    sources=sorted(map(str, SOURCES.glob("*.c"))),
    depends=sorted(map(str, SOURCES.glob("*.h"))),
    extra_compile_args=FLAGS,
    libraries=["m"],  # fma and sqrt, which are exact, where they are no instructions
    optional=True,  # without a compiler, jobs run on the other engines
)

setup(ext_modules=[kernel], cmdclass={"build_ext": BuildKernel})
