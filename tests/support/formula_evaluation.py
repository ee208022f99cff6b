"""Programs of formulas in NumPy, and the same formulas by Python's own evaluation of their text: two evaluators."""

from __future__ import annotations

import ast
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlpq.spec.formula import Formula
from mlpq.spec.formula_program import OPERANDS, Program
from mlpq_workers.engine.formulas import scalar_values

Array = NDArray[Any]
VECTOR: Mapping[str, Any] = {
    "copy": lambda a: a, "neg": np.negative, "abs": np.abs, "sign": np.sign, "sqrt": np.sqrt, "exp": np.exp,
    "log": np.log, "tanh": np.tanh, "add": np.add, "sub": np.subtract, "mul": np.multiply, "div": np.divide,
    "min": np.minimum, "max": np.maximum, "lt": np.less, "le": np.less_equal, "gt": np.greater,
    "ge": np.greater_equal, "eq": np.equal, "ne": np.not_equal, "where": lambda c, a, b: np.where(c != 0, a, b),
}  # fmt: skip


def norm(of: Array) -> float:
    return float(np.sqrt(np.square(of.astype(np.float64)).sum()))


@dataclass
class ProgramRun:
    """A program on an array of parameters, with registers as the engines have them."""

    program: Program
    p: Array
    states: list[Array] = field(default_factory=list)
    steps: int = 0

    def step(self, g: Array, lr: float) -> None:
        program = self.program
        self.steps += 1
        self.states = self.states or [np.zeros_like(self.p) for _ in range(program.states)]
        norms = (norm(g) if program.uses_norm_g else 0.0, norm(self.p) if program.uses_norm_p else 0.0)
        scalars = np.array(scalar_values(program, self.steps, lr, *norms)).astype(np.float32)
        registers = [self.p, g, *self.states, *[np.full_like(g, np.nan)] * (program.vectors - 2 - program.states)]
        for code, kind, dst, *operands in program.operations:
            if kind == "vector":
                values = [registers[n] if n >= 0 else scalars[-1 - n] for n in operands[: OPERANDS[code]]]
                registers[dst] = np.broadcast_to(np.asarray(VECTOR[code](*values), np.float32), g.shape).copy()
        self.p, self.states = registers[0], registers[2 : 2 + program.states]

    def values(self) -> list[Array]:
        """The parameters and the states."""
        return [self.p, *self.states]


def _compared(name: str) -> Any:
    return lambda self, other: getattr(np.ndarray, name)(self, other).astype(np.float32)


class Vector(np.ndarray[Any, Any]):
    """float32 whose comparisons are 1 or 0, and whose powers are products where the exponent is whole."""

    def __pow__(self, exponent: object, modulo: object = None) -> Any:
        assert isinstance(exponent, (int, float))
        if exponent == 0.5:
            return np.sqrt(self)
        if exponent != int(exponent):
            return np.exp(exponent * np.log(self))
        product: Any = np.ones_like(self)
        for digit in f"{abs(int(exponent)):b}":
            product = product * product * (self if digit == "1" else 1)
        return 1 / product if exponent < 0 else product

    __lt__, __le__, __gt__, __ge__, __eq__, __ne__ = (
        _compared(name) for name in ("__lt__", "__le__", "__gt__", "__ge__", "__eq__", "__ne__")
    )
    __hash__ = None


def _by_kind(for_scalars: Any, for_vectors: Any) -> Any:
    def function(*operands: Any) -> Any:
        is_vector = any(isinstance(operand, np.ndarray) for operand in operands)
        return for_vectors(*operands) if is_vector else for_scalars(*operands)

    return function


class _WithPowers(ast.NodeTransformer):
    """Calls pow: Python's own power of negative numbers may be complex."""

    def visit_BinOp(self, node: ast.BinOp) -> ast.expr:
        self.generic_visit(node)
        is_power = isinstance(node.op, ast.Pow)
        return ast.Call(ast.Name("pow", ast.Load()), [node.left, node.right], []) if is_power else node


class PythonRun:
    """The text of a formula as Python executes it, with floats for scalars and arrays of float32 for parameters.

    Python's floats are weak: NumPy rounds them to float32 where they meet an array, as the engines do. They raise
    errors where IEEE's arithmetic has infinities.
    """

    FUNCTIONS: Mapping[str, Any] = {
        **{name: _by_kind(getattr(math, name), getattr(np, name)) for name in ("sqrt", "exp", "log", "tanh")},
        "abs": abs, "sign": _by_kind(lambda a: (a > 0) - (a < 0), np.sign),
        "min": _by_kind(lambda a, b: a if a != a or a < b else b, np.minimum),
        "max": _by_kind(lambda a, b: a if a != a or a > b else b, np.maximum),
        "where": _by_kind(lambda c, a, b: a if c else b, lambda c, a, b: _vector(np.where(c != 0, a, b))),
        "norm": norm, "pow": _by_kind(math.pow, lambda a, b: a**b),
    }  # fmt: skip

    def __init__(self, formula: Formula, constants: Mapping[str, float], p: Array) -> None:
        tree = _WithPowers().visit(ast.parse(formula.text.replace("; ", "\n")))
        self._code = compile(ast.fix_missing_locations(tree), "formula", "exec")
        self._constants, self._shape = constants, p.shape
        self._kept: dict[str, Any] = {"p": _vector(p), **{name: _vector(np.zeros_like(p)) for name in formula.states}}
        self._steps = 0

    def step(self, g: Array, lr: float) -> None:
        self._steps += 1
        names = {**self.FUNCTIONS, **self._constants, **self._kept, "g": _vector(g), "t": float(self._steps), "lr": lr}
        exec(self._code, {"__builtins__": {}}, names)
        for name in self._kept:
            self._kept[name] = _vector(np.broadcast_to(np.float32(names[name]), self._shape))

    def values(self) -> list[Array]:
        """The parameters and the states."""
        return [np.asarray(value) for value in self._kept.values()]


def _vector(values: Any) -> Vector:
    return np.ascontiguousarray(values, np.float32).view(Vector)


def runs(formula: Formula, constants: Mapping[str, float], p: Array) -> tuple[ProgramRun, PythonRun]:
    """Both evaluators, with parameters that begin at `p`."""
    return ProgramRun(formula.program(constants), p), PythonRun(formula, constants, p)
