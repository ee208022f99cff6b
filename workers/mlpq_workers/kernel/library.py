"""The kernel's shared library: its structures, and the choice of the build that runs on this CPU.

The structures and functions are those of src/mlpq_kernel.h.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable
from ctypes import POINTER, c_char_p, c_double, c_float, c_int32, c_int64, c_uint8, c_uint64, c_void_p
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

ARITHMETIC = 1  # results with equal numbers have equal bits, on every CPU; see docs/explanation/kernel.md
INTERFACE = 2
MAX_LAYERS = 33
MAX_SETTINGS = 8
BUILDS = ("avx512", "avx2", "plain")  # the fastest first
FILE = "libmlpq_kernel.dylib" if sys.platform == "darwin" else "libmlpq_kernel.so"


class KernelUnavailable(Exception):  # noqa: N818 (jobs then run on another engine)
    """The kernel can't run here; one line that says why and what to do."""


class Config(ctypes.Structure):
    _fields_ = [
        ("layers", c_int64),
        ("widths", c_int64 * (MAX_LAYERS + 1)),
        ("activation", c_int64),
        ("bias", c_int64),
        ("batch_size", c_int64),
        ("scale", c_int64),
        ("optimizer", c_int64),
        ("settings", c_double * MAX_SETTINGS),
        ("l1", c_double),
        ("lr", c_double),
        ("dropout", c_double),
        ("clip_norm", c_double),
        ("label_smoothing", c_double),
        ("program", c_void_p),
    ]


class OperationOfProgram(ctypes.Structure):
    _fields_ = [("code", c_int32), ("dst", c_int32), ("a", c_int32), ("b", c_int32), ("c", c_int32)]


class ProgramArgument(ctypes.Structure):
    _fields_ = [
        ("states", c_int64),
        ("scalars", c_int64),
        ("vectors", c_int64),
        ("scalar_operations", c_int64),
        ("vector_operations", c_int64),
        ("uses_norm_g", c_int64),
        ("uses_norm_p", c_int64),
        ("values", POINTER(c_double)),
        ("operations", POINTER(OperationOfProgram)),
    ]


class GeneratorState(ctypes.Structure):
    _fields_ = [
        ("seed", c_uint64),
        ("left", c_int32),
        ("seeded", c_int32),
        ("next", c_uint64),
        ("state", c_uint64 * 624),
        ("normal", c_double * 3),
        ("normal_is_valid", c_int32),
        ("padding", c_int32),
        ("float_normal", c_float),
        ("float_normal_is_valid", c_uint8),
        ("padding_2", c_uint8 * 3),
    ]


class ImagesArgument(ctypes.Structure):
    _fields_ = [
        ("pixels", c_void_p),
        ("values", c_void_p),
        ("labels", c_void_p),
        ("rows", c_void_p),
        ("count", c_int64),
    ]


class TrainingArgument(ctypes.Structure):
    _fields_ = [
        ("images", ImagesArgument),
        ("first", c_int64),
        ("last", c_int64),
        ("rates", c_void_p),
        ("generator", c_void_p),
        ("progress", c_void_p),
        ("stop", c_void_p),
        ("loss", c_double),
    ]


class EvaluationArgument(ctypes.Structure):
    _fields_ = [("loss", c_double), ("correct", c_int64), ("predicted", c_void_p), ("confidences", c_void_p)]


class Progress(ctypes.Structure):
    _fields_ = [("steps", c_int64), ("products", c_double * 3)]


class Functions(ctypes.Structure):
    """The functions of one build. Calls release the interpreter's lock."""

    _fields_ = [
        ("name", c_char_p),
        ("create", ctypes.CFUNCTYPE(c_void_p, POINTER(Config))),
        ("destroy", ctypes.CFUNCTYPE(None, c_void_p)),
        ("states", ctypes.CFUNCTYPE(c_int64, c_void_p)),
        ("put", ctypes.CFUNCTYPE(None, c_void_p, c_int64, c_int64, c_void_p, c_void_p)),
        ("take", ctypes.CFUNCTYPE(None, c_void_p, c_int64, c_int64, c_void_p, c_void_p)),
        ("progress", ctypes.CFUNCTYPE(POINTER(Progress), c_void_p)),
        ("train", ctypes.CFUNCTYPE(c_int64, c_void_p, POINTER(TrainingArgument))),
        ("evaluate", ctypes.CFUNCTYPE(None, c_void_p, POINTER(ImagesArgument), POINTER(EvaluationArgument))),
        ("apply", ctypes.CFUNCTYPE(None, c_int64, c_void_p, c_void_p, c_int64)),
    ]


STRUCTURES = (
    Config,
    OperationOfProgram,
    ProgramArgument,
    GeneratorState,
    TrainingArgument,
    EvaluationArgument,
    Progress,
    Functions,
)


@dataclass(frozen=True)
class Build:
    """The kernel for one instruction set: `name` is "avx512", "avx2" or "plain".

    `dtype` is that of the parameters: float32, in a library for tests float64.
    """

    name: str
    dtype: np.dtype[Any]
    functions: Any
    draws: Draws

    def __repr__(self) -> str:
        return f"<Build {self.name}>"


@dataclass(frozen=True)
class Draws:
    """The functions of src/random.c."""

    seed: Callable[..., None]
    skip: Callable[..., None]
    permutation: Callable[..., None]
    uniform: Callable[..., None]
    truncated_normal: Callable[..., None]


@cache
def build(name: str = "auto", file: Path | None = None) -> Build:
    """The build of that name; "auto" is the fastest that runs on this CPU. Raises KernelUnavailable.

    `file` is another shared library than the installed one.
    """
    library = _load(file or Path(__file__).with_name(FILE))
    sizes = (c_int64 * (1 + len(STRUCTURES)))()
    library.mlpq_sizes(sizes)
    dtype = np.dtype(np.float32 if sizes[0] == 4 else np.float64)
    for each in BUILDS if name == "auto" else (name,):
        if found := library.mlpq_build_named(each.encode()):
            return Build(each, dtype, found.contents, _draws(library))
    if name not in BUILDS:
        raise KernelUnavailable(f"the kernel has no build '{name}': use auto, {', '.join(BUILDS)} or off")
    raise KernelUnavailable(f"this CPU can't run the kernel's build '{name}': use MLPQ_KERNEL=auto")


@cache
def _load(file: Path) -> ctypes.CDLL:
    if not file.exists():
        raise KernelUnavailable("the kernel is not compiled: install gcc or clang, then install mlpq again")
    try:
        library = ctypes.CDLL(str(file))
        interface, arithmetic = library.mlpq_interface, library.mlpq_arithmetic
    except (OSError, AttributeError) as error:
        raise KernelUnavailable(f"can't load the kernel ({error}): install mlpq again") from error
    if (interface(), arithmetic()) != (INTERFACE, ARITHMETIC):
        raise KernelUnavailable("the compiled kernel belongs to another version of mlpq: install mlpq again")
    sizes = (c_int64 * (1 + len(STRUCTURES)))()
    library.mlpq_sizes(sizes)
    if list(sizes)[1:] != [ctypes.sizeof(each) for each in STRUCTURES]:
        raise KernelUnavailable("the compiled kernel has other structures than this Python: install mlpq again")
    library.mlpq_build_named.restype = POINTER(Functions)
    library.mlpq_build_named.argtypes = [c_char_p]
    return library


def _draws(library: ctypes.CDLL) -> Draws:
    arguments = {
        "seed": [c_void_p, c_uint64],
        "skip": [c_void_p, c_int64],
        "permutation": [c_void_p, c_int64, c_void_p],
        "uniform": [c_void_p, c_float, c_float, c_int64, c_void_p],
        "truncated_normal": [c_void_p, c_double, c_float, c_int64, c_void_p, c_void_p],
    }
    found = {}
    for name, types in arguments.items():
        function = getattr(library, f"mlpq_{name}")
        function.argtypes, function.restype = types, None
        found[name] = function
    return Draws(**found)
