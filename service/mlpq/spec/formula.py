"""An optimizer given as a formula: what its names mean, and what it must be given.

`p` is a parameter, `g` its gradient, `t` the number of the step from 1, `lr` the learning rate of the step, norm(g) and
norm(p) the Euclidean norms over the whole model before the step. A name that is read before it is assigned is a state:
it begins at zero and is kept from step to step. A name that is never assigned is a constant, which the user gives.
The last statement that assigns p updates it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache

from mlpq.errors import SpecError, nearest
from mlpq.spec.formula_compiler import Compiler
from mlpq.spec.formula_program import MAX_CONSTANTS, MAX_STATES, Program
from mlpq.spec.formula_syntax import Apply, Expression, Name, Source, Statement, canonical_text, parse_statements
from mlpq.spec.optimizers import OPTIMIZERS

MAX_FORMULAS = 100  # of a submission
RATE_WITHOUT_USE = 1.0  # the learning rate of a job whose formula does not read lr
INPUTS = ("p", "g", "t", "lr")
EXAMPLE = "lion: u = sign(0.9*m + 0.1*g); m = 0.99*m + 0.01*g; p = p - lr*u"
_NAME = re.compile(r"[a-z][a-z0-9_-]{0,39}")


@dataclass(frozen=True)
class Formula:
    """A formula of this name. `text` is canonical: equal for formulas that differ in spaces and parentheses only.

    `states` and `constants` are in the order in which they are first read.
    """

    name: str
    text: str
    statements: tuple[Statement, ...]
    states: tuple[str, ...]
    constants: tuple[str, ...]
    uses_rate: bool

    def program(self, constants: Mapping[str, float]) -> Program:
        """The formula compiled, with a value for each of its constants; raises SpecError."""
        return _program(self, tuple(constants[name] for name in self.constants))

    def complete(self, given: Mapping[str, object]) -> dict[str, float]:
        """The values of all constants, from text or numbers; raises SpecError."""
        for name in given:
            if name not in self.constants:
                raise SpecError(f"{self.name} has no constant '{name}'{self._why_not(name)}")
        for name in self.constants:
            if name not in given:
                raise SpecError(
                    f"{self.name} needs a value of {name}, which its formula reads and never assigns: "
                    f"write {self.usage}"
                )
        return {name: parse_constant(self.name, name)(given[name]) for name in self.constants}

    @property
    def usage(self) -> str:
        """How an optimizer of this formula is typed: "--optimizer lion:lr=0.001,wd=0.1"."""
        given = [*(["lr=0.001"] if self.uses_rate else []), *(f"{name}=0.1" for name in self.constants)]
        return f"--optimizer {self.name}" + (f":{','.join(given)}" if given else "")

    def _why_not(self, name: str) -> str:
        if name in self.states:
            return f": {name} is a state, which begins at zero; leave it out"
        if any(statement.name == name for statement in self.statements):
            return f": its formula assigns {name}; leave it out"
        return nearest(name, [*self.constants, "lr"])


@lru_cache(maxsize=1024)
def parse_formula(name: str, text: str) -> Formula:
    """The formula of this name from its statements; raises SpecError with one line that names the position."""
    if not _NAME.fullmatch(name):
        raise SpecError(
            f"a formula's name begins with a letter and has up to 40 letters, digits, - and _, not '{name[:60]}': "
            f"write --formula '{EXAMPLE}'"
        )
    if name in OPTIMIZERS:
        raise SpecError(f"{name} is one of torch's optimizers: give the formula another name, as my-{name}")
    source = Source(name, text)
    statements = parse_statements(source)
    _check(source, statements)
    states, constants = _states(statements), _constants(statements)
    read = {node.name for statement in statements for node in _names(statement.value)}
    for limit, kind, found in ((MAX_STATES, "states", states), (MAX_CONSTANTS, "constants", constants)):
        if len(found) > limit:
            raise SpecError(f"formula {name} has {len(found)} {kind}; the limit is {limit}")
    formula = Formula(name, canonical_text(statements), statements, states, constants, "lr" in read)
    formula.program(dict.fromkeys(constants, 1.0))  # finds a program that is too large
    return formula


def parse_formulas(value: object) -> dict[str, str]:
    """Formulas by their names: from "name: statements", a mapping of names to statements, or a list of these.

    The statements are canonical. Raises SpecError.
    """
    found: dict[str, str] = {}
    for name, text in _entries(value):
        formula = parse_formula(name.strip().lower(), text)
        if found.setdefault(formula.name, formula.text) != formula.text:
            raise SpecError(f"the formula {formula.name} is given twice: give one of them another name")
        if len(found) > MAX_FORMULAS:
            raise SpecError(f"more than {MAX_FORMULAS} formulas in one submission: split it")
    return found


def _entries(value: object) -> Iterator[tuple[str, str]]:
    if isinstance(value, (list, tuple)):
        for entry in value:
            yield from _entries(entry)
    elif isinstance(value, Mapping):
        for name, text in value.items():
            if not isinstance(text, str):
                raise SpecError(f"the formula {name} must be text, as '{EXAMPLE.partition(': ')[2]}'")
            yield str(name), text
    elif value is not None:
        name, colon, text = str(value).partition(":")
        if not colon or "=" in name:
            raise SpecError(f"a formula begins with its name and a colon: write --formula '{EXAMPLE}'")
        yield name, text.strip()


@lru_cache(maxsize=4096)
def _program(formula: Formula, constants: tuple[float, ...]) -> Program:
    named = dict(zip(formula.constants, constants, strict=True))
    return Compiler(formula.name, formula.statements, formula.states, named).program()


def _check(source: Source, statements: tuple[Statement, ...]) -> None:
    """Raise SpecError for statements that mean nothing, or not what they seem to."""
    assigned: set[str] = set()
    for statement in statements:
        for node in _norms(statement.value):
            argument = node.operands[0]
            if isinstance(argument, Name) and argument.name in assigned:
                raise source.error(
                    node.at,
                    f"norm({argument.name}) is the norm before the step: read it before {argument.name} changes",
                )
        if statement.name in ("t", "lr"):
            meaning = {"t": "the number of the step", "lr": "the learning rate of the step"}[statement.name]
            raise source.error(statement.at, f"{statement.name} is {meaning}: assign to another name")
        assigned.add(statement.name)
    if "p" not in assigned:
        raise SpecError(f"formula {source.name} never assigns p: its last statement updates it, as p = p - lr*g")
    read = {node.name for statement in statements for node in _names(statement.value)}
    for statement in statements:
        if statement.name not in read and statement.name != "p":
            raise source.error(statement.at, f"{statement.name} is assigned and never read: remove the statement")


def _states(statements: tuple[Statement, ...]) -> tuple[str, ...]:
    """Names that are read before they are assigned, and assigned somewhere."""
    assigned_somewhere = {statement.name for statement in statements}
    assigned: set[str] = set()
    found: dict[str, None] = {}
    for statement in statements:
        early = (node.name for node in _names(statement.value) if node.name not in assigned)
        found |= dict.fromkeys(name for name in early if name in assigned_somewhere and name not in INPUTS)
        assigned.add(statement.name)
    return tuple(found)


def _constants(statements: tuple[Statement, ...]) -> tuple[str, ...]:
    assigned = {statement.name for statement in statements}
    read = (node.name for statement in statements for node in _names(statement.value))
    return tuple(dict.fromkeys(name for name in read if name not in assigned and name not in INPUTS))


def _names(node: Expression) -> Iterator[Name]:
    """The names that an expression reads, from left to right; those in norm(…) are not values of one parameter."""
    if isinstance(node, Name):
        yield node
    elif isinstance(node, Apply) and node.code != "norm":
        for operand in node.operands:
            yield from _names(operand)


def _norms(node: Expression) -> Iterator[Apply]:
    if isinstance(node, Apply):
        if node.code == "norm":
            yield node
        else:
            for operand in node.operands:
                yield from _norms(operand)


def parse_constant(formula: str, name: str) -> Callable[[object], float]:
    """A parser of the values of a constant."""

    def parse(value: object) -> float:
        try:
            number = math.nan if isinstance(value, bool) else float(str(value))
        except ValueError:
            number = math.nan
        if not math.isfinite(number):
            raise SpecError(f"{formula}:{name} must be a finite number, not '{str(value)[:60]}'")
        return number + 0.0  # -0.0 becomes 0.0: one canonical form

    return parse
