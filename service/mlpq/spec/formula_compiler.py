"""Compiles the statements of a formula to a program: values first, then registers for them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from mlpq.errors import SpecError
from mlpq.spec.formula_program import (
    FIRST_CONSTANT,
    FIRST_STATE,
    GRADIENT,
    MAX_CONSTANTS,
    MAX_OPERATIONS,
    MAX_VECTORS,
    NORM_G,
    NORM_P,
    PARAMETER,
    RATE,
    STEP,
    Operation,
    Program,
)
from mlpq.spec.formula_syntax import Apply, Expression, Name, Number, Statement, expression_text

MAX_EXPONENT = 64


@dataclass(eq=False)
class _Value:
    """What an operation gives, or, with the code "input" or "constant", what a step begins with.

    `number` is the register; `constant` the value of a constant.
    """

    kind: str
    code: str
    operands: tuple[_Value, ...] = ()
    number: int = -1
    constant: float = 0.0


@dataclass
class Compiler:
    """One compilation of the formula `name`, whose named constants have these values."""

    name: str
    statements: Sequence[Statement]
    states: Sequence[str]
    constants: Mapping[str, float]
    _known: dict[tuple[object, ...], _Value] = field(default_factory=dict)
    _values: list[_Value] = field(default_factory=list)

    def program(self) -> Program:
        """Raises SpecError where an exponent is too large, or the program."""
        inputs = [_Value("vector", "input", number=number) for number in range(FIRST_STATE + len(self.states))]
        scalars = [_Value("scalar", "input", number=number) for number in range(FIRST_CONSTANT)]
        self._inputs = {"norm(g)": scalars[NORM_G], "norm(p)": scalars[NORM_P]}
        names = {"t": scalars[STEP], "lr": scalars[RATE], "p": inputs[PARAMETER], "g": inputs[GRADIENT]}
        names |= dict(zip(self.states, inputs[FIRST_STATE:], strict=True))
        names |= {each: self._constant(value, each) for each, value in self.constants.items()}
        self._numbers = dict(self.constants)
        for statement in self.statements:
            value = self._value(statement.value, names)
            note_number(self._numbers, statement)
            names[statement.name] = value
        finals = {PARAMETER: names["p"]} | {FIRST_STATE + i: names[state] for i, state in enumerate(self.states)}
        return self._allocated(inputs, self._outputs(finals))

    def _constant(self, value: float, name: str = "") -> _Value:
        key = ("constant", name or value)
        if key not in self._known:
            self._known[key] = _Value("scalar", "constant", constant=value)
        return self._known[key]

    def _value(self, node: Expression, names: Mapping[str, _Value]) -> _Value:
        match node:
            case Number(number):
                return self._constant(number)
            case Name(name):
                return names[name]
            case Apply("norm"):
                return self._inputs[expression_text(node)]
            case Apply("pow", (base, exponent)):
                return self._power(node, self._value(base, names), self._value(exponent, names))
        return self._apply(node.code, *(self._value(operand, names) for operand in node.operands))

    def _apply(self, code: str, *operands: _Value) -> _Value:
        """The value of an operation; that of an equal one before, if there is one."""
        key = (code, *map(id, operands))
        if key not in self._known:
            kind = "vector" if any(operand.kind == "vector" for operand in operands) else "scalar"
            self._known[key] = _Value(kind, code, operands)
            self._values.append(self._known[key])
        return self._known[key]

    def _power(self, node: Apply, base: _Value, exponent: _Value) -> _Value:
        """A power of scalars is an operation; one of vectors is made of others."""
        if base.kind == exponent.kind == "scalar":
            result = known_number(node, self._numbers)
            if result is not None and not math.isfinite(result):
                raise SpecError(f"formula {self.name}: {_excerpt(node)} is too large a number")
            return self._apply("pow", base, exponent)
        known = known_number(node.operands[1], self._numbers)
        if known is not None and not abs(known) <= MAX_EXPONENT:
            raise SpecError(
                f"formula {self.name}: the exponent of {_excerpt(node)} is {known:g}; "
                f"it must be from -{MAX_EXPONENT} to {MAX_EXPONENT}"
            )
        if known == 0.5:
            return self._apply("sqrt", base)
        if known is None or known != int(known):
            return self._apply("exp", self._apply("mul", exponent, self._apply("log", base)))
        product = self._whole_power(base, abs(int(known)))
        return self._apply("div", self._constant(1.0), product) if known < 0 else product

    def _whole_power(self, base: _Value, exponent: int) -> _Value:
        if exponent == 0:
            one = self._constant(1.0)
            return self._apply("where", base, one, one)  # a vector, as in NumPy and torch: sums of it round as such
        if exponent == 1:
            return base
        if exponent % 2:
            return self._apply("mul", self._whole_power(base, exponent - 1), base)
        root = self._whole_power(base, exponent // 2)
        return self._apply("mul", root, root)

    def _outputs(self, finals: Mapping[int, _Value]) -> dict[int, _Value]:
        """The last values of p and the states by their registers, each the vector result of an operation of its own.

        Those that keep their register are left out.
        """
        outputs: dict[int, _Value] = {}
        for register, value in finals.items():
            if value.code == "input" and value.kind == "vector" and value.number == register:
                continue
            if value.kind == "scalar" or value.code == "input" or value in outputs.values():
                value = _Value("vector", "copy", (value,))
                self._values.append(value)
            outputs[register] = value
        return outputs

    def _allocated(self, inputs: Sequence[_Value], outputs: Mapping[int, _Value]) -> Program:
        live = _live(outputs.values())
        values = [value for value in self._values if value in live]
        constants = [value for value in self._known.values() if value.code == "constant" and value in live]
        named = [self._known["constant", name] for name in self.constants]
        constants = [*named, *(value for value in constants if value not in named)]
        scalar = [value for value in values if value.kind == "scalar"]
        for number, value in enumerate([*constants, *scalar], FIRST_CONSTANT):
            value.number = number
        operations = [_operation(value) for value in scalar]
        vector = [value for value in values if value.kind == "vector"]
        registers = _Registers(inputs, outputs, vector)
        operations += registers.operations()
        if len(operations) > MAX_OPERATIONS or registers.count > MAX_VECTORS or len(constants) > MAX_CONSTANTS:
            raise SpecError(
                f"formula {self.name} compiles to {len(operations)} operations with {registers.count} values at a time "
                f"and {len(constants)} constants; the limits are {MAX_OPERATIONS}, {MAX_VECTORS} and {MAX_CONSTANTS}"
            )
        return Program(
            constants=tuple(value.constant for value in constants),
            states=len(self.states),
            scalars=FIRST_CONSTANT + len(constants) + len(scalar),
            vectors=registers.count,
            operations=tuple(operations),
            uses_norm_g=self._inputs["norm(g)"] in live,
            uses_norm_p=self._inputs["norm(p)"] in live,
        )


def known_number(node: Expression, numbers: Mapping[str, float]) -> float | None:
    """The value of an expression of numbers and of names whose values are known; None for others."""
    match node:
        case Number(number):
            return number
        case Name(name):
            return numbers.get(name)
        case Apply(("neg" | "add" | "sub" | "mul" | "div" | "pow") as code, operands):
            known = [known_number(operand, numbers) for operand in operands]
            return None if None in known else _folded(code, *(each for each in known if each is not None))
    return None


def note_number(numbers: dict[str, float], statement: Statement) -> None:
    """Add the value that a statement assigns to those that are known, or remove what is not known any more."""
    known = known_number(statement.value, numbers)
    numbers.pop(statement.name, None)
    if known is not None:
        numbers[statement.name] = known


class _Registers:
    """Vector registers for values in the order of their operations: each is used again after its last reader.

    An output is written into its register at once where the old value has no later reader, else copied at the end.
    """

    def __init__(self, inputs: Sequence[_Value], outputs: Mapping[int, _Value], values: Sequence[_Value]) -> None:
        self.count = len(inputs)
        self._values, self._final = values, {value: register for register, value in outputs.items()}
        self._last_reader = {operand: i for i, value in enumerate(values) for operand in value.operands}
        self._holds = {value.number: value for value in inputs}
        self._is_pinned = frozenset(range(len(inputs)))
        self._outputs = outputs

    def operations(self) -> list[Operation]:
        found = []
        for i, value in enumerate(self._values):
            self._release(i)
            operands = [_operand(operand) for operand in value.operands]
            value.number = self._free_register(self._final.get(value))
            self._holds[value.number] = value
            found.append(Operation(value.code, "vector", value.number, *operands))
        moved = [(register, value) for register, value in self._outputs.items() if value.number != register]
        return [*found, *(Operation("copy", "vector", register, value.number) for register, value in moved)]

    def _release(self, i: int) -> None:
        """Forget the values of which operation i is the last reader, or that have no reader any more."""
        for register, value in list(self._holds.items()):
            if register != GRADIENT and value not in self._final and self._last_reader.get(value, -1) <= i:
                del self._holds[register]

    def _free_register(self, wanted: int | None) -> int:
        if wanted is not None and wanted not in self._holds:
            return wanted
        free = (n for n in range(self.count) if n not in self._holds and n not in self._is_pinned)
        number = next(free, self.count)
        self.count = max(self.count, number + 1)
        return number


def _live(outputs: Iterable[_Value]) -> set[_Value]:
    """The values that the outputs depend on, with them."""
    found: set[_Value] = set()
    waiting = list(outputs)
    while waiting:
        value = waiting.pop()
        if value not in found:
            found.add(value)
            waiting += value.operands
    return found


def _operand(value: _Value) -> int:
    return value.number if value.kind == "vector" else -1 - value.number


def _operation(value: _Value) -> Operation:
    return Operation(value.code, "scalar", value.number, *(operand.number for operand in value.operands))


def _folded(code: str, *known: float) -> float | None:
    try:
        match code, known:
            case "neg", (a,):
                return -a
            case "add", (a, b):
                return a + b
            case "sub", (a, b):
                return a - b
            case "mul", (a, b):
                return a * b
            case "div", (a, b):
                return a / b
            case _, (a, b):
                power = a**b
                return power if isinstance(power, float) else None
    except ZeroDivisionError:
        return None
    except OverflowError:
        return float("inf")
    return None


def _excerpt(node: Expression) -> str:
    text = expression_text(node)
    return text if len(text) <= 60 else f"{text[:57]}…"
