"""Optimizers that are given as formulas, by torch: their programs for one model, and for the rows of a stack.

Each operation of a program is an operation of torch that works on every element by itself, so a row has the bits that
it has alone.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from mlpq.spec.formula_program import OPERANDS, Program
from mlpq.spec.job import JobSpec

STEPS = "t"  # in a state: the steps that were taken


def _exp(a: float) -> float:
    try:
        return math.exp(a)
    except OverflowError:
        return math.inf


def _log(a: float) -> float:
    return math.log(a) if a > 0 else -math.inf if a == 0 else math.nan


def _divided(a: float, b: float) -> float:
    if b:
        return a / b
    return math.copysign(math.inf, a) * math.copysign(1.0, b) if a and not math.isnan(a) else math.nan


def _power(a: float, b: float) -> float:
    try:
        return math.pow(a, b)
    except OverflowError:
        return -math.inf if a < 0 and b % 2 == 1 else math.inf
    except ValueError:
        return math.inf if a == 0 else math.nan


def _compared(compare: Callable[[Tensor, Tensor], Tensor]) -> Callable[[Tensor, Tensor], Tensor]:
    return lambda a, b: compare(a, b).to(a.dtype)


# In IEEE's arithmetic, which has infinities and NaN in place of Python's errors.
SCALAR: Mapping[str, Callable[..., float]] = {
    "copy": float, "neg": operator.neg, "abs": abs, "sign": lambda a: math.copysign(1, a) if a and a == a else a,
    "sqrt": lambda a: math.sqrt(a) if a >= 0 else math.nan, "exp": _exp, "log": _log, "tanh": math.tanh,
    "add": operator.add, "sub": operator.sub, "mul": operator.mul, "div": _divided, "pow": _power,
    "min": lambda a, b: a if a != a or a < b else b, "max": lambda a, b: a if a != a or a > b else b,
    "lt": operator.lt, "le": operator.le, "gt": operator.gt, "ge": operator.ge, "eq": operator.eq, "ne": operator.ne,
    "where": lambda c, a, b: a if c else b,
}  # fmt: skip
VECTOR: Mapping[str, Callable[..., Tensor]] = {
    "copy": torch.clone, "neg": torch.neg, "abs": torch.abs, "sign": torch.sign, "sqrt": torch.sqrt,
    "exp": torch.exp, "log": torch.log, "tanh": torch.tanh, "add": torch.add, "sub": torch.sub, "mul": torch.mul,
    "div": torch.div, "min": torch.minimum, "max": torch.maximum, "lt": _compared(torch.lt), "le": _compared(torch.le),
    "gt": _compared(torch.gt), "ge": _compared(torch.ge), "eq": _compared(torch.eq), "ne": _compared(torch.ne),
    "where": lambda c, a, b: torch.where(c != 0, a, b),
}  # fmt: skip


def scalar_values(program: Program, step: int, rate: float, norm_g: float, norm_p: float) -> list[float]:
    """The values of all scalar registers in a step."""
    values = [float(step), rate, norm_g, norm_p, *program.constants]
    values += [0.0] * (program.scalars - len(values))
    for code, kind, dst, *operands in program.operations:
        if kind == "scalar":
            values[dst] = float(SCALAR[code](*(values[n] for n in operands[: OPERANDS[code]])))
    return values


def run_vectors(program: Program, p: Tensor, g: Tensor, states: Sequence[Tensor], scalars: Sequence[Tensor]) -> None:
    """Run the vector operations of a step, which change p and the states.

    Each of `scalars` is the value of a scalar register, rounded, for all elements or as a column, for each row.
    """
    kept = [p, g, *states]
    registers = [*kept, *[g] * (program.vectors - len(kept))]
    for code, kind, dst, *operands in program.operations:
        if kind == "vector":
            values = (registers[n] if n >= 0 else scalars[-1 - n] for n in operands[: OPERANDS[code]])
            registers[dst] = VECTOR[code](*values)
    for tensor, value in zip(kept, registers, strict=False):
        if value is not tensor:
            tensor.copy_(value)


class FormulaOptimizer(torch.optim.Optimizer):
    """A formula for the parameters of one model. `states` are the names of its states."""

    def __init__(self, parameters: Iterable[nn.Parameter], lr: float, program: Program, states: Sequence[str]) -> None:
        super().__init__(parameters, {"lr": lr})
        self._program, self._names = program, states
        for parameter in self.param_groups[0]["params"]:
            # In double precision, which counts further than 2**24.
            self.state[parameter][STEPS] = torch.zeros((), dtype=torch.float64)
            self.state[parameter] |= {name: torch.zeros_like(parameter) for name in states}

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:  # type: ignore[override]
        assert closure is None, "a formula evaluates the loss once"
        program, (group,) = self._program, self.param_groups
        parameters = group["params"]
        norm_g = _norm([p.grad for p in parameters]) if program.uses_norm_g else 0.0
        norm_p = _norm(parameters) if program.uses_norm_p else 0.0
        for p in parameters:
            self.state[p][STEPS] += 1
        values = scalar_values(program, int(self.state[parameters[0]][STEPS]), float(group["lr"]), norm_g, norm_p)
        scalars = rounded(values, parameters[0]).unbind()
        for p in parameters:
            run_vectors(program, p, p.grad, [self.state[p][name] for name in self._names], scalars)


def build_formula(spec: JobSpec, parameters: Iterable[nn.Parameter]) -> FormulaOptimizer:
    """The optimizer of a spec that has a formula."""
    own, program = spec.own_optimizer, spec.program
    assert own is not None
    assert program is not None
    return FormulaOptimizer(parameters, spec.lr, program, own.states)


def _norm(tensors: Sequence[Tensor]) -> float:
    return math.sqrt(sum(in_double(tensor).square().sum().item() for tensor in tensors))


def in_double(tensor: Tensor) -> Tensor:
    """In double precision, where the device has it."""
    return tensor if tensor.device.type == "mps" else tensor.double()


def rounded(values: Sequence[float] | Sequence[Sequence[float]], like: Tensor) -> Tensor:
    """Values in the precision of `like` and on its device."""
    return torch.tensor(values, dtype=torch.float64).to(like.dtype).to(like.device)
