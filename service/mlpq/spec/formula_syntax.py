"""The grammar of an optimizer's formula: from text to statements, and back to canonical text.

A formula is assignments, separated by semicolons or lines, in Python's notation and with its precedence:

    statement  = NAME "=" expression
    expression = sum [("<" | "<=" | ">" | ">=" | "==" | "!=") sum]
    sum        = product {("+" | "-") product}
    product    = unary {("*" | "/") unary}
    unary      = ("-" | "+") unary | atom ["**" unary]
    atom       = NUMBER | NAME | FUNCTION "(" expression {"," expression} ")" | "(" expression ")"

The text is data: nothing of it is executed. Length, operations and depth are limited, so any text is read or refused in
a few milliseconds.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from keyword import iskeyword

from mlpq.errors import SpecError, nearest
from mlpq.spec.formula_program import MAX_OPERATIONS

MAX_CHARACTERS = 2_000
MAX_DEPTH = 50
MAX_NAME = 40
MAX_DIGITS = 40  # of a number, as it is typed

FUNCTIONS = {
    "sqrt": 1, "abs": 1, "sign": 1, "exp": 1, "log": 1, "tanh": 1, "min": 2, "max": 2, "where": 3, "norm": 1,
}  # fmt: skip
COMPARISONS = {"<": "lt", "<=": "le", ">": "gt", ">=": "ge", "==": "eq", "!=": "ne"}
BINARY = {**COMPARISONS, "+": "add", "-": "sub", "*": "mul", "/": "div"}
SIGNS = {code: sign for sign, code in BINARY.items()} | {"pow": "**", "neg": "-"}
_COMPARED, _SUM, _PRODUCT, _UNARY, _POWER, _ATOM = range(6)
LEVELS = dict.fromkeys(COMPARISONS.values(), _COMPARED) | {
    "add": _SUM, "sub": _SUM, "mul": _PRODUCT, "div": _PRODUCT, "neg": _UNARY, "pow": _POWER,
}  # fmt: skip

_TOKEN = re.compile(
    r"""(?P<space>[ \t\r]+|\#[^\n]*)|(?P<number>(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)|(?P<name>[A-Za-z_]\w*)"""
    r"""|(?P<sign>\*\*|<=|>=|==|!=|[-+*/]=|//|[-+*/()<>=,;\n])""",
    re.ASCII,
)
_INSTEAD = {
    "^": "write ** for a power",
    ".": "attributes are not supported: write sqrt(x), without what precedes the point",
    "[": "indices are not supported: a formula applies to every element",
    "{": "only parentheses group",
    "%": "the remainder is not supported",
    "&": "write a*b for 'a and b'",
    "|": "write max(a, b) for 'a or b'",
    "~": "write 1 - a for 'not a'",
    "!": "write 1 - a for 'not a'",
    ":": "assign by =",
    "?": "write where(condition, a, b)",
    "'": "text is not supported",
    '"': "text is not supported",
    "×": "write *", "·": "write *", "⋅": "write *", "∗": "write *", "÷": "write /", "−": "write -", "–": "write -",
    "²": "write **2", "³": "write **3", "√": "write sqrt(x)", "≤": "write <=", "≥": "write >=", "≠": "write !=",
}  # fmt: skip
_WORDS = {
    "and": "write a*b for 'a and b'",
    "or": "write max(a, b) for 'a or b'",
    "not": "write 1 - a for 'not a'",
    "if": "write where(condition, a, b)",
    "else": "write where(condition, a, b)",
    "lambda": "choose another name, as lam",
}


@dataclass(frozen=True)
class Number:
    """A number as typed, without a sign."""

    value: float
    at: int = field(compare=False)
    depth: int = field(default=1, compare=False)


@dataclass(frozen=True)
class Name:
    """A value that is read."""

    name: str
    at: int = field(compare=False)
    depth: int = field(default=1, compare=False)


@dataclass(frozen=True)
class Apply:
    """An operation, by its code in mlpq.spec.formula_program, or "norm"; `at` is where its sign or name begins."""

    code: str
    operands: tuple[Expression, ...]
    at: int = field(compare=False)
    depth: int = field(compare=False)


Expression = Number | Name | Apply


@dataclass(frozen=True)
class Statement:
    """An assignment; `at` is where it begins."""

    name: str
    value: Expression
    at: int = field(compare=False)


@dataclass(frozen=True)
class Source:
    """The text of a formula, for messages that name a position in it."""

    name: str
    text: str

    def error(self, at: int, message: str) -> SpecError:
        line = self.text.count("\n", 0, at)
        place = f"character {at - self.text.rfind(chr(10), 0, at)}"
        if "\n" in self.text.strip("\n"):
            place = f"line {line + 1}, {place}"
        return SpecError(f"formula {self.name}, {place}: {message}")


@dataclass(frozen=True)
class _Token:
    """`kind` is number, name, sign, line (the end of one, whose text is ";") or end."""

    kind: str
    text: str
    at: int


def parse_statements(source: Source) -> tuple[Statement, ...]:
    """The statements of a formula; raises SpecError."""
    if len(source.text) > MAX_CHARACTERS:
        raise SpecError(f"formula {source.name} has {len(source.text):,} characters; the limit is {MAX_CHARACTERS:,}")
    return _Parser(source).statements()


def canonical_text(statements: tuple[Statement, ...]) -> str:
    """The statements in one form: equal for texts that differ in spaces, parentheses or how numbers are typed."""
    return "; ".join(f"{statement.name} = {expression_text(statement.value)}" for statement in statements)


def expression_text(node: Expression) -> str:
    """An expression with no more parentheses than it needs."""
    match node:
        case Number(value):
            return number_text(value)
        case Name(name):
            return name
        case Apply("neg", (operand,)):
            return f"-{_within(operand, _UNARY)}"
        case Apply("pow", (base, exponent)):
            return f"{_within(base, _ATOM)}**{_within(exponent, _UNARY)}"
        case Apply(code, (left, right)) if code in LEVELS:
            level = LEVELS[code]
            space = "" if level == _PRODUCT else " "
            # Comparisons do not associate: a < b < c is refused, so the left one needs parentheses too.
            before = _within(left, level + (level == _COMPARED))
            return f"{before}{space}{SIGNS[code]}{space}{_within(right, level + 1)}"
    return f"{node.code}({', '.join(map(expression_text, node.operands))})"


def number_text(value: float) -> str:
    """The shortest text of a number: "2", "0.9", "1e-08"."""
    return str(int(value)) if value == int(value) and value < 1e15 else repr(value)


def _within(node: Expression, level: int) -> str:
    own = LEVELS.get(node.code, _ATOM) if isinstance(node, Apply) else _ATOM
    return expression_text(node) if own >= level else f"({expression_text(node)})"


def _tokens(source: Source) -> Iterator[_Token]:
    at, text, parentheses = 0, source.text, 0
    while at < len(text):
        if (found := _TOKEN.match(text, at)) is None:
            hint = _INSTEAD.get(text[at], "a formula has ASCII letters, digits and + - * / ** ( ) < > = , ; only")
            raise source.error(at, f"{_shown(text[at])} is not part of the grammar: {hint}")
        kind, word = str(found.lastgroup), found.group()
        if kind == "number" and (glued := re.compile(r"[A-Za-z_.]\w*", re.ASCII).match(text, found.end())):
            raise source.error(at, f"'{word}{glued.group()[:MAX_NAME]}' is not a number; a product needs *, as 2*m")
        parentheses += (word == "(") - (word == ")")
        if word == "\n" and parentheses <= 0:
            yield _Token("line", ";", at)
        elif kind != "space" and word != "\n":
            yield _Token(kind, word, at)
        at = found.end()
    yield _Token("end", "the end", len(text))


def _shown(character: str) -> str:
    return f"'{character}'" if character.isprintable() else f"the character U+{ord(character):04X}"


class _Parser:
    """A recursive descent; `token` is the next one."""

    def __init__(self, source: Source) -> None:
        self._source, self._tokens = source, _tokens(source)
        self._nesting = self._operations = 0
        self._token = next(self._tokens)

    def _take(self) -> _Token:
        taken = self._token
        self._token = next(self._tokens, taken)
        return taken

    def statements(self) -> tuple[Statement, ...]:
        found = []
        while self._token.kind != "end":
            if self._token.text == ";":
                self._take()
                continue
            found.append(self._statement())
            if self._token.kind != "end" and self._token.text != ";":
                raise self._unexpected("an operator or ;")
        if not found:
            raise SpecError(f"formula {self._source.name} is empty: write what a step does, as p = p - lr*g")
        return tuple(found)

    def _statement(self) -> Statement:
        target = self._take()
        if target.kind != "name":
            raise self._source.error(target.at, f"a statement assigns to a name, as p = p - lr*g, not '{target.text}'")
        self._check_name(target)
        sign = self._token
        if sign.text in ("+=", "-=", "*=", "/="):
            raise self._source.error(sign.at, f"write {target.text} = {target.text} {sign.text[0]} …")
        if sign.text != "=":
            raise self._unexpected(f"= after {target.text}")
        self._take()
        return Statement(target.text, self._expression(_COMPARED), target.at)

    def _expression(self, level: int) -> Expression:
        """An expression of operators of this level and those that bind more closely."""
        left = self._unary()
        while (code := BINARY.get(self._token.text)) is not None and LEVELS[code] >= level:
            sign = self._take()
            left = self._apply(code, (left, self._expression(LEVELS[code] + 1)), sign.at)
            if code in COMPARISONS.values() and self._token.text in COMPARISONS:
                raise self._source.error(self._token.at, "comparisons can't be chained: write (a < b)*(b < c)")
        return left

    def _unary(self) -> Expression:
        self._nesting += 1
        if self._nesting > MAX_DEPTH:
            raise self._too_deep(self._token.at)
        if self._token.text in ("-", "+"):
            sign = self._take()
            operand = self._unary()
            found = self._apply("neg", (operand,), sign.at) if sign.text == "-" else operand
        else:
            found = self._atom()
            if self._token.text == "**":
                sign = self._take()
                found = self._apply("pow", (found, self._unary()), sign.at)
        self._nesting -= 1
        return found

    def _atom(self) -> Expression:
        if self._token.kind == "number":
            return self._number(self._take())
        if self._token.text == "(":
            self._take()
            inner = self._expression(_COMPARED)
            self._expect(")", "an operator or )")
            return inner
        if self._token.kind != "name":
            raise self._unexpected("a number, a name or (")
        token = self._take()
        if self._token.text == "(":
            return self._call(token)
        self._check_name(token)
        return Name(token.text, token.at)

    def _call(self, function: _Token) -> Expression:
        name = function.text
        if name not in FUNCTIONS:
            product = f"; a product needs *, as {name}*(…)" if len(name) < 3 else ""
            raise self._source.error(
                function.at, f"unknown function '{name[:MAX_NAME]}'{nearest(name, FUNCTIONS)}{product}"
            )
        self._take()
        operands: list[Expression] = []
        while self._token.text != ")":
            if operands:
                self._expect(",", "an operator, a comma or )")
            operands.append(self._expression(_COMPARED))
        self._take()
        if len(operands) != FUNCTIONS[name]:
            needed = f"{FUNCTIONS[name]} argument{'s' if FUNCTIONS[name] > 1 else ''}"
            nested = f"; nest it, as {name}(a, {name}(b, c))" if name in ("min", "max") and len(operands) > 2 else ""
            raise self._source.error(function.at, f"{name} takes {needed}, not {len(operands)}{nested}")
        if name == "norm" and operands[0] not in (Name("g", 0), Name("p", 0)):
            raise self._source.error(function.at, "norm takes the whole gradient or all parameters: norm(g) or norm(p)")
        return self._apply(name, tuple(operands), function.at)

    def _number(self, token: _Token) -> Number:
        value = float(token.text) if len(token.text) <= MAX_DIGITS else math.inf
        if math.isinf(value) or (value == 0 and re.search("[1-9]", token.text.lower().split("e")[0])):
            raise self._source.error(
                token.at, f"the number {_shortened(token.text)} is out of range: it has up to {MAX_DIGITS} characters "
                "and double precision"
            )  # fmt: skip
        return Number(value, token.at)

    def _apply(self, code: str, operands: tuple[Expression, ...], at: int) -> Apply:
        self._operations += 1
        if self._operations > MAX_OPERATIONS:
            raise self._source.error(at, f"a formula has up to {MAX_OPERATIONS} operations")
        depth = 1 + max(operand.depth for operand in operands)
        if depth > MAX_DEPTH:
            raise self._too_deep(at)
        return Apply(code, operands, at, depth)

    def _check_name(self, token: _Token) -> None:
        name = token.text
        if name in FUNCTIONS:
            raise self._source.error(token.at, f"{name} is a function and needs its arguments in parentheses")
        if iskeyword(name) or name == "name" or name.startswith("__"):  # a class changes names that begin so
            hint = _WORDS.get(name, "choose another name")
            raise self._source.error(token.at, f"'{name}' is reserved: {hint}")
        if len(name) > MAX_NAME:
            raise self._source.error(token.at, f"the name {_shortened(name)} is longer than {MAX_NAME} characters")

    def _expect(self, sign: str, expected: str) -> None:
        if self._token.text != sign:
            raise self._unexpected(expected)
        self._take()

    def _unexpected(self, expected: str) -> SpecError:
        token = self._token
        if token.text in _WORDS:
            return self._source.error(token.at, _WORDS[token.text])
        hints = {"=": "; == compares", "//": "; / divides"}
        shown = {"end": "the end", "line": "the end of the line"}.get(token.kind, f"'{_shortened(token.text)}'")
        return self._source.error(token.at, f"expected {expected}, not {shown}{hints.get(token.text, '')}")

    def _too_deep(self, at: int) -> SpecError:
        return self._source.error(at, f"nested more than {MAX_DEPTH} deep: give a part of it a statement of its own")


def _shortened(text: str) -> str:
    return text if len(text) <= MAX_NAME else f"{text[:MAX_NAME]}…"
