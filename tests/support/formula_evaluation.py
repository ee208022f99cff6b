"""Programs of formulas in NumPy, and the same formulas by Python's own evaluation of their text: two evaluators."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlpq.spec.formula import Formula
from mlpq.spec.formula_program import OPERANDS, Program
from mlpq_workers.engine.formulas import scalar_values

Vector = NDArray[np.float32]
VECTOR = {
    "copy": lambda a: a, "neg": np.negative, "abs": np.abs, "sign": np.sign, "sqrt": np.sqrt, "exp": np.exp,
    "log": np.log, "tanh": np.tanh, "add": np.add, "sub": np.subtract, "mul": np.multiply, "div": np.divide,
    "min": np.minimum, "max": np.maximum, "lt": np.less, "le": np.less_equal, "gt": np.greater,
    "ge": np.greater_equal, "eq": np.equal, "ne": np.not_equal, "where": lambda c, a, b: np.where(c != 0, a, b),
}  # fmt: skip


def norm(of: Vector) -> float:
    return float(np.sqrt(np.square(of.astype(np.float64)).sum()))


@dataclass
class ProgramRun:
    """A program on an array of parameters, with registers as the engines have them."""

    program: Program
    p: Vector
    states: list[Vector] = field(default_factory=list)
    steps: int = 0

    def step(self, g: Vector, lr: float) -> None:
        program = self.program
        self.steps += 1
        self.states = self.states or [np.zeros_like(self.p) for _ in range(program.states)]
        norms = (norm(g) if program.uses_norm_g else 0.0, norm(self.p) if program.uses_norm_p else 0.0)
        scalars = np.array(scalar_values(program, self.steps, lr, *norms)).astype(np.float32)
        registers = [self.p, g, *self.states, *[np.full_like(g, np.nan)] * (program.vectors - 2 - program.states)]
        for code, kind, dst, *operands in program.operations:
            if kind == "vector":
                values = [registers[n] if n >= 0 else scalars[-1 - n] for n in operands[: OPERANDS[code]]]
                registers[dst] = np.broadcast_to(np.asarray(VECTOR[code](*values), np.float32), g.shape)
        self.p, self.states = registers[0], registers[2 : 2 + program.states]


def _by_kind(for_scalars: Any, for_vectors: Any) -> Any:
    def function(*operands: Any) -> Any:
        if any(isinstance(operand, np.ndarray) for operand in operands):
            return np.asarray(for_vectors(*operands)).astype(np.float32)
        return float(for_scalars(*map(np.float64, operands)))

    return function


class PythonRun:
    """The text of a formula as Python executes it, with floats for scalars and arrays of float32 for parameters.

    Python's floats are weak: NumPy rounds them to float32 where they meet an array, as the engines do.
    """

    FUNCTIONS: Mapping[str, Any] = {
        **{name: _by_kind(getattr(np, name), getattr(np, name)) for name in ("sqrt", "exp", "log", "tanh", "abs", "sign")},
        "min": _by_kind(np.minimum, np.minimum), "max": _by_kind(np.maximum, np.maximum),
        "where": _by_kind(lambda c, a, b: a if c else b, lambda c, a, b: np.where(c, a, b)),
        "norm": norm,
    }  # fmt: skip

    def __init__(self, formula: Formula, constants: Mapping[str, float], p: Vector) -> None:
        self.code = compile(formula.text.replace("; ", "\n"), "formula", "exec")
        self.names: dict[str, Any] = {**constants, **{name: np.zeros_like(p) for name in formula.states}, "p": p}
        self._states = formula.states
        self.steps = 0

    def step(self, g: Vector, lr: float) -> None:
        self.steps += 1
        names = {**self.FUNCTIONS, **self.names, "g": g, "t": float(self.steps), "lr": lr}
        exec(self.code, {"__builtins__": {}}, names)
        for name in ("p", *self._states):
            self.names[name] = np.broadcast_to(np.float32(names[name]), g.shape)


def runs(formula: Formula, constants: Mapping[str, float], p: Vector) -> Sequence[ProgramRun | PythonRun]:
    """Both evaluators, with parameters that begin at `p`."""
    return ProgramRun(formula.program(constants), p), PythonRun(formula, constants, p)
