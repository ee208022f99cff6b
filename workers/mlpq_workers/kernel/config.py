"""A spec as the kernel takes it."""

from __future__ import annotations

import ctypes

from mlpq.spec.formula_program import FIRST_CONSTANT, GRADIENT, OPERANDS, Operation, Program
from mlpq.spec.job import JobSpec
from mlpq.spec.optimizers import OPTIMIZERS
from mlpq_workers.kernel.library import Config, OperationOfProgram, ProgramArgument

ACTIVATION_CODES = {"sigmoid": 0, "relu": 1, "tanh": 2}
OPTIMIZER_CODES = {
    "sgd": 0,
    "adam": 1,
    "adamw": 1,
    "adadelta": 2,
    "adagrad": 3,
    "adamax": 4,
    "asgd": 5,
    "nadam": 6,
    "radam": 7,
    "rmsprop": 8,
    "rprop": 9,
}
FORMULA_CODE = 10
OPERATION_CODES = {code: number for number, code in enumerate(OPERANDS)}


class Configuration:
    """`argument` is that of the kernel's `create`. It is valid as long as this object, which holds its memory."""

    def __init__(self, spec: JobSpec, scale: int) -> None:
        self.argument = Config(
            layers=len(spec.widths) - 1,
            activation=ACTIVATION_CODES[spec.activation],
            bias=spec.bias,
            batch_size=spec.batch_size,
            scale=scale,
            l1=spec.l1,
            lr=spec.lr,
            dropout=spec.dropout,
            clip_norm=spec.clip_norm or 0.0,
            label_smoothing=spec.label_smoothing,
        )
        self.argument.widths[: len(spec.widths)] = spec.widths
        self.program: ProgramArgument | None = None
        if spec.program is None:
            self.argument.optimizer = OPTIMIZER_CODES[spec.optimizer]
            settings = _settings(spec)
            self.argument.settings[: len(settings)] = settings
        else:
            self.argument.optimizer = FORMULA_CODE
            self.program = program_argument(spec.program)
            self.argument.program = ctypes.addressof(self.program)


def program_argument(program: Program) -> ProgramArgument:
    """A formula's program as the kernel takes it; raises ValueError where it uses a register that does not exist."""
    scalar = [each for each in program.operations if each.kind == "scalar"]
    vector = [each for each in program.operations if each.kind == "vector"]
    for each in scalar:
        _check(each, range(program.scalars), range(FIRST_CONSTANT, program.scalars))
    for each in vector:
        if each.code == "pow" or each.dst == GRADIENT:
            raise ValueError(f"a program must not compute {each}")
        _check(each, range(-program.scalars, program.vectors), range(program.vectors))
    operations = [OperationOfProgram(OPERATION_CODES[each.code], *each[2:]) for each in (*scalar, *vector)]
    values = [0.0] * FIRST_CONSTANT + list(program.constants)
    return ProgramArgument(
        states=program.states,
        scalars=program.scalars,
        vectors=program.vectors,
        scalar_operations=len(scalar),
        vector_operations=len(vector),
        uses_norm_g=program.uses_norm_g,
        uses_norm_p=program.uses_norm_p,
        values=(ctypes.c_double * program.scalars)(*values),
        operations=(OperationOfProgram * len(operations))(*operations),
    )


def _check(operation: Operation, readable: range, writable: range) -> None:
    operands = operation[3 : 3 + OPERANDS[operation.code]]
    if operation.dst not in writable or not all(operand in readable for operand in operands):
        raise ValueError(f"a program must not compute {operation}")


def _settings(spec: JobSpec) -> list[float]:
    """The optimizer's settings in the order of the registry; a pair takes two places."""
    values: list[float] = []
    for option in OPTIMIZERS[spec.optimizer].defaults:
        value = spec.optimizer_settings[option]
        values += map(float, value) if isinstance(value, (tuple, list)) else [float(value)]
    return [*values, 1.0] if spec.optimizer == "adamw" else values  # Adam with decoupled weight decay
