"""An optimizer's formula as a class of plain PyTorch, for `mlpq export`.

Scalars are tensors without dimensions in double precision, so that the functions of torch take them too and nothing
raises where IEEE's arithmetic has infinities; torch rounds them where they meet a parameter, as the engines do.
"""

from __future__ import annotations

import operator
import re
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass, field

from mlpq.spec.formula import Formula
from mlpq.spec.formula_compiler import known_number, note_number
from mlpq.spec.formula_syntax import COMPARISONS, LEVELS, SIGNS, Apply, Expression, Name, Number, Statement, number_text
from mlpq.spec.job import JobSpec

WIDTH = 100
INDENT = " " * 12  # of the statements
ATOM = max(LEVELS.values()) + 1
TORCH_NAMES = {"min": "minimum", "max": "maximum"}
# Names that the class uses itself, and those that linters find ambiguous.
TAKEN = {
    "self",
    "params",
    "group",
    "param",
    "state",
    "torch",
    "optim",
    "sum",
    "float",
    "norm_g",
    "norm_p",
    "l",
    "I",
    "O",
}


def class_name(spec: JobSpec) -> str:
    """ "MyLionOptimizer" for my-lion."""
    return "".join(part.capitalize() for part in spec.optimizer.replace("_", "-").split("-")) + "Optimizer"


def formula_call(spec: JobSpec, own: Formula, name: str) -> str:
    """The call of the class `name` that makes a spec's optimizer."""
    writer = _Writer(own, own.complete(spec.optimizer_settings))
    values = {"lr": spec.lr, **writer.constants}
    settings = ", ".join(f"{writer.name(each)}={values[each]!r}" for each in writer.options())
    return f"{name}(model.parameters(){', ' if settings else ''}{settings})"


def formula_class(spec: JobSpec, own: Formula, name: str) -> str:
    """The class `name` of a spec's formula `own`, whose options are lr and the constants, without default values."""
    writer = _Writer(own, own.complete(spec.optimizer_settings))
    options = writer.options()
    body = writer.body()
    words = set(re.findall(r"\w+", "\n".join(body)))
    counts = ["t"] if writer.reads("t") else []
    defaults = ", ".join(
        [*(f'"{option}": {writer.name(option)}' for option in options), *(f'"{t}": 0.0' for t in counts)]
    )
    read = {"p": "param"} | ({"g": "param.grad"} if writer.reads("g") else {})
    read |= {"state": "self.state[param]"} if own.states else {}
    lines = [
        f"class {name}(optim.Optimizer):",
        *_wrapped(f"    def __init__({', '.join(['self', 'params', *map(writer.name, options)])}):", " " * 8),
        *_wrapped(f"        super().__init__(params, {{{defaults}}})", " " * 12),
        "",
        "    @torch.no_grad()",
        "    def step(self):",
        "        (group,) = self.param_groups",
        *(f'        group["{t}"] += 1' for t in counts),
        *(
            f'        {writer.name(each)} = torch.tensor(group["{each}"], dtype=torch.float64)'
            for each in (*options, *counts)
            if writer.name(each) in words
        ),
        *writer.norms(),
        '        for param in group["params"]:',
        f"{INDENT}{', '.join(read)} = {', '.join(read.values())}",
        *(f'{INDENT}{writer.name(each)} = state.setdefault("{each}", torch.zeros_like(p))' for each in own.states),
        *body,
        f"{INDENT}param.copy_(p)",
    ]
    return "\n".join(lines)


@dataclass
class _Writer:
    """Expressions in Python, of a formula with these constants. `_kinds` has what each name is so far."""

    formula: Formula
    constants: Mapping[str, float]
    _kinds: dict[str, str] = field(default_factory=dict)
    _numbers: dict[str, float] = field(default_factory=dict)
    _names: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._numbers = dict(self.constants)
        vectors = dict.fromkeys(("p", "g", *self.formula.states), "vector")
        self._kinds = {"t": "scalar", "lr": "scalar", **dict.fromkeys(self.constants, "scalar"), **vectors}
        self._read = {name for statement in self.formula.statements for name in _names(statement.value)}

    def options(self) -> list[str]:
        """The learning rate, where the formula reads it, and the constants."""
        return [*(["lr"] if self.formula.uses_rate else []), *self.formula.constants]

    def reads(self, name: str) -> bool:
        return name in self._read

    def name(self, name: str) -> str:
        """The name in Python."""
        if name not in self._names:
            known = {*self._kinds, *(statement.name for statement in self.formula.statements)}
            written = name
            while written in TAKEN or (written != name and written in known):
                written += "_"
            self._names[name] = written
        return self._names[name]

    def norms(self) -> list[str]:
        """The lines before the loop that compute the norms that the formula reads."""
        parts = {"g": "each.grad", "p": "each"}
        return [
            f"        norm_{of} = sum({part}.double().square().sum() for each in group[\"params\"]).sqrt()"
            for of, part in parts.items()
            if f"norm({of})" in self._read
        ]  # fmt: skip

    def body(self) -> list[str]:
        """The lines of all statements but those that only an exponent reads, which is written as its value."""
        assignments = [(self.name(each.name), self._assignment(each)) for each in self.formula.statements]
        found = [f'{INDENT}state["{each}"] = {self._final(each)}' for each in self.formula.states]
        read = {"p", *(word for line in found for word in re.findall(r"\w+", line.partition("=")[2]))}
        for name, lines in reversed(assignments):
            if name in read:
                read |= set(re.findall(r"\w+", " ".join(lines).partition("=")[2]))
                found[:0] = lines
        return found

    def _assignment(self, statement: Statement) -> list[str]:
        """The lines of a statement."""
        text, _ = self._tensor(statement.value)
        self._kinds[statement.name] = "vector" if self._kind(statement.value) == "vector" else "scalar"
        note_number(self._numbers, statement)
        written = self.name(statement.name)
        line = f"{INDENT}{written} = {text}"
        if len(line) <= WIDTH:
            return [line]
        return [f"{INDENT}{written} = (", *_wrapped(f"{INDENT}    {text}", f"{INDENT}    "), f"{INDENT})"]

    def _final(self, state: str) -> str:
        """A state at the end of a step, one value for each parameter."""
        written = self.name(state)
        return written if self._kinds[state] == "vector" else f"torch.zeros_like(p) + {written}"

    def _kind(self, node: Expression) -> str:
        """Whether an expression is a "vector", a "scalar" or made of numbers only: a "number"."""
        match node:
            case Number():
                return "number"
            case Name(name):
                return self._kinds[name]
            case Apply("norm"):
                return "scalar"
        kinds = {self._kind(operand) for operand in node.operands}
        if "vector" in kinds:
            return "vector"
        return "scalar" if "scalar" in kinds or node.code not in LEVELS else "number"

    def _tensor(self, node: Expression) -> tuple[str, int]:
        """An expression as a tensor, with how closely its outermost operator binds."""
        text, level = self._text(node)
        return (f"torch.tensor({text}, dtype=torch.float64)", ATOM) if self._kind(node) == "number" else (text, level)

    def _text(self, node: Expression) -> tuple[str, int]:
        match node:
            case Number(value):
                return number_text(value), ATOM
            case Name(name):
                return self.name(name), ATOM
            case Apply("norm", (Name(of),)):
                return f"norm_{of}", ATOM
            case Apply("neg", (operand,)):
                return f"-{self._within(operand, LEVELS['neg'])}", LEVELS["neg"]
            case Apply("pow", (base, exponent)) if self._kind(node) == "vector":
                return self._power(base, exponent)
            case Apply("pow", (base, exponent)):
                return f"{self._within(base, ATOM, float)}**{self._within(exponent, LEVELS['neg'], float)}", LEVELS[
                    "pow"
                ]
            case Apply("where", (condition, yes, no)):
                return f"torch.where({self._condition(condition)}, {self._argument(yes)}, {self._argument(no)})", ATOM
            case Apply(code) if code in COMPARISONS.values():
                if self._kind(node) == "number":
                    left, right = (known_number(operand, {}) for operand in node.operands)
                    return number_text(float(getattr(operator, code)(left, right))), ATOM
                kind = "float" if self._kind(node) == "vector" else "double"
                return f"({self._comparison(node)}).{kind}()", ATOM
            case Apply(code, (left, right)) if code in LEVELS:
                level = LEVELS[code]
                return f"{self._within(left, level)} {SIGNS[code]} {self._within(right, level + 1)}", level
        arguments = ", ".join(self._argument(operand) for operand in node.operands)
        return f"torch.{TORCH_NAMES.get(node.code, node.code)}({arguments})", ATOM

    def _within(self, node: Expression, level: int, number: type = int) -> str:
        text, own = self._text(node)
        if number is float and isinstance(node, Number):
            return repr(node.value)  # Python's powers of whole numbers are exact, and may be huge
        return text if own >= level else f"({text})"

    def _argument(self, node: Expression) -> str:
        return self._tensor(node)[0]

    def _comparison(self, node: Apply) -> str:
        left, right = (self._within(operand, LEVELS["add"]) for operand in node.operands)
        return f"{left} {SIGNS[node.code]} {right}"

    def _condition(self, node: Expression) -> str:
        if isinstance(node, Apply) and node.code in COMPARISONS.values() and self._kind(node) != "number":
            return self._comparison(node)
        text, level = self._tensor(node)
        return f"{text if level >= LEVELS['add'] else f'({text})'} != 0"

    def _power(self, base: Expression, exponent: Expression) -> tuple[str, int]:
        """A power of vectors by the operations to which the engines compile it."""
        known = known_number(exponent, self._numbers)
        if known == 0.5:
            return f"torch.sqrt({self._argument(base)})", ATOM
        if known is None or known != int(known):
            return f"torch.exp({self._within(exponent, LEVELS['mul'])} * torch.log({self._argument(base)}))", ATOM
        product, level = self._whole_power(base, abs(int(known)))
        if known >= 0:
            return product, level
        return f"1 / {product if level > LEVELS['mul'] else f'({product})'}", LEVELS["div"]

    def _whole_power(self, base: Expression, exponent: int) -> tuple[str, int]:
        within = self._within(base, ATOM)
        if exponent == 0:
            return "torch.ones_like(p)", ATOM
        if exponent == 1:
            return within, ATOM
        root, level = self._whole_power(base, exponent - 1 if exponent % 2 else exponent // 2)
        if exponent % 2:
            return f"{root} * {within}", LEVELS["mul"]
        return f"{root if level == ATOM else f'({root})'}**2", LEVELS["pow"]


def _names(node: Expression) -> set[str]:
    """The names that an expression reads, and "norm(g)" and "norm(p)"."""
    match node:
        case Name(name):
            return {name}
        case Apply("norm", (Name(of),)):
            return {f"norm({of})"}
        case Apply(_, operands):
            return {name for operand in operands for name in _names(operand)}
    return set()


def _wrapped(line: str, indent: str) -> list[str]:
    """The line in lines of WIDTH; all but the first begin with `indent`."""
    return textwrap.wrap(line, WIDTH, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)
