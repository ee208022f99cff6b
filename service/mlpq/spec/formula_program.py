"""A formula of an optimizer, compiled: straight-line code over registers, which every engine runs.

A step runs the operations in order, the scalar ones first: they are evaluated once for a model, in double precision.
Vector operations work on every parameter by itself, in float32: each rounds once, and none is fused with another, so
every engine and build computes the same up to the last bits of exp, log and tanh.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

MAX_OPERATIONS = 256  # of a program
MAX_STATES = 8  # values kept for each parameter; Adam keeps two
MAX_VECTORS = 32  # vector registers, with p, g and the states
MAX_CONSTANTS = 64  # numbers and named constants

# The first scalar and vector registers.
STEP, RATE, NORM_G, NORM_P, FIRST_CONSTANT = range(5)
PARAMETER, GRADIENT, FIRST_STATE = range(3)

# How many operands each operation takes. A comparison gives 1 or 0; where(c, a, b) gives a where c is not 0.
OPERANDS = {
    "copy": 1, "neg": 1, "abs": 1, "sign": 1, "sqrt": 1, "exp": 1, "log": 1, "tanh": 1,
    "add": 2, "sub": 2, "mul": 2, "div": 2, "min": 2, "max": 2, "pow": 2,
    "lt": 2, "le": 2, "gt": 2, "ge": 2, "eq": 2, "ne": 2, "where": 3,
}  # fmt: skip


class Operation(NamedTuple):
    """One operation: register `dst` becomes `code` of `a`, `b` and `c`, of which those that it doesn't take are 0.

    `kind` is "scalar" or "vector". The operands of a scalar operation are scalar registers. An operand of a vector
    operation is a vector register, or scalar register n written as -1 - n, whose value is rounded to float32.
    `pow` is scalar only. `dst` may be one of the operands.
    """

    code: str
    kind: str
    dst: int
    a: int
    b: int = 0
    c: int = 0


@dataclass(frozen=True)
class Program:
    """What a step does with every parameter.

    Scalar registers, double: 0 the step t, from 1; 1 the learning rate of the step; 2 norm(g) and 3 norm(p), which are
    set only where `uses_norm_g` and `uses_norm_p`; then `constants`; then temporaries: `scalars` in all.
    Vector registers, float32, one value for each parameter: 0 p; 1 g, which is never written; then `states`, which
    begin at zero and are kept from step to step; then temporaries: `vectors` in all. At the end of the step register 0
    has the new parameters.
    """

    constants: tuple[float, ...]
    states: int
    scalars: int
    vectors: int
    operations: tuple[Operation, ...]
    uses_norm_g: bool
    uses_norm_p: bool
