"""Where a module can be changed by one small mutation, and to what."""

from __future__ import annotations

import ast
import copy
from collections.abc import Iterator
from dataclasses import dataclass, field

OPPOSITES: dict[type[ast.AST], type[ast.AST]] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Div,
    ast.Mod: ast.FloorDiv,
    ast.Pow: ast.Mult,
    ast.BitOr: ast.BitAnd,
    ast.BitAnd: ast.BitOr,
    ast.And: ast.Or,
    ast.Or: ast.And,
}
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)
# Annotations are never evaluated, decorators have tests of their own where they matter, and Python 3.11 does not give
# the positions of what an f-string contains.
SKIPPED_FIELDS = {"annotation", "returns", "decorator_list"}


@dataclass(frozen=True, order=True)
class Mutant:
    """One change of one piece of a file; `lines` are those of its statement."""

    file: str
    line: int
    column: int
    kind: str
    old: str
    new: str
    code: str = field(compare=False)  # the line on which it begins
    span: tuple[int, int] = field(compare=False)  # in bytes of the file
    lines: range = field(compare=False)
    in_function: bool = field(compare=False)

    @property
    def place(self) -> str:
        return f"{self.file}:{self.line}:{self.column}:{self.kind}"

    def applied(self, source: bytes) -> bytes:
        start, end = self.span
        return source[:start] + self.new.encode() + source[end:]


@dataclass(frozen=True)
class _Context:
    statement: ast.stmt
    in_function: bool = False
    strings: bool = False  # whether a string here is a key, not a message


def mutants(file: str, source: bytes) -> list[Mutant]:
    """All mutants of a file, in its order."""
    tree = ast.parse(source)
    text = source.splitlines(keepends=True)
    starts = [sum(map(len, text[:index])) for index in range(len(text))]
    found = set()
    for statement in tree.body:
        for node, kind, new, context in _changes(statement, _Context(statement)):
            begin = starts[node.lineno - 1] + node.col_offset
            end = starts[(node.end_lineno or 0) - 1] + (node.end_col_offset or 0)
            code = text[node.lineno - 1].decode().strip()
            old = " ".join(source[begin:end].decode().split())
            place = (file, node.lineno, node.col_offset, kind, old, new, code, (begin, end))
            mutant = Mutant(*place, _lines(context.statement), context.in_function)
            if old != new:
                found.add(mutant)
    return sorted(found)


def function_lines(source: bytes) -> set[int]:
    """The lines of the bodies of functions: those that no import executes."""
    lines: set[int] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, FUNCTIONS):
            body = node.body if isinstance(node.body, list) else [node.body]
            lines.update(range(body[0].lineno, (node.end_lineno or 0) + 1))
    return lines


def _lines(statement: ast.stmt) -> range:
    """The lines of a statement, without those of a body."""
    body = getattr(statement, "body", None)
    end = (statement.end_lineno or 0) + 1
    return range(statement.lineno, max(statement.lineno + 1, body[0].lineno) if body else end)


_Change = tuple[ast.expr | ast.stmt, str, str, _Context]


def _changes(node: ast.AST, context: _Context) -> Iterator[_Change]:
    if isinstance(node, ast.JoinedStr) or (isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"):
        return
    if isinstance(node, ast.stmt):
        context = _Context(node, context.in_function)
    for changed, kind, new in _own_changes(node, context):
        yield changed, kind, new, context
    for name, value in ast.iter_fields(node):
        if name in SKIPPED_FIELDS:
            continue
        in_function = context.in_function or (isinstance(node, FUNCTIONS) and name == "body")
        collection = isinstance(node, ast.Tuple | ast.List | ast.Set) and context.strings
        strings = collection or _has_keys(node, name)
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST):
                yield from _changes(child, _Context(context.statement, in_function, strings))


def _has_keys(node: ast.AST, name: str) -> bool:
    """Whether strings in this field of a node are keys, or values that a program compares."""
    fields: dict[type[ast.AST], set[str]] = {
        ast.Dict: {"keys"},
        ast.Subscript: {"slice"},
        ast.Compare: {"left", "comparators"},
        ast.MatchValue: {"value"},
        ast.arguments: {"defaults", "kw_defaults"},
    }
    return name in fields.get(type(node), ())


def _own_changes(node: ast.AST, context: _Context) -> Iterator[tuple[ast.expr | ast.stmt, str, str]]:
    match node:
        case ast.Compare():
            for index in range(len(node.ops)):
                yield node, "comparison", _swapped(node, node.ops[index], index)
        case ast.BinOp() | ast.AugAssign() if type(node.op) in OPPOSITES and not _is_text_or_type(node, context):
            yield node, "arithmetic", _swapped(node, node.op)
        case ast.BoolOp():
            yield node, "boolean", _swapped(node, node.op)
        case ast.UnaryOp(op=ast.Not()):
            yield node, "boolean", f"({ast.unparse(node.operand)})"
        case ast.Constant(value=bool() as flag):
            yield node, "constant", repr(not flag)
        case ast.Constant(value=int() | float() as number) if number + 1 != number:
            yield node, "number", repr(number + 1)
            yield node, "number", f"({number - 1!r})"
        case ast.Constant(value=str() as string) if context.strings:
            yield node, "string", repr(string + "_")
        case ast.If() | ast.IfExp():
            yield node.test, "condition", "True"
            yield node.test, "condition", "False"
        case ast.While():
            yield node.test, "condition", "False"
        case ast.comprehension():
            for test in node.ifs:
                yield test, "condition", "True"
        case ast.match_case(guard=ast.expr() as test):
            yield test, "condition", "True"
        case ast.Return(value=ast.expr()):
            yield node, "return", "return None"
        case ast.Expr(value=ast.Call()):
            yield node, "call", "pass"


def _is_text_or_type(node: ast.BinOp | ast.AugAssign, context: _Context) -> bool:
    """Whether an operator joins texts, or types of an alias, rather than figures."""
    sides = (node.left, node.right) if isinstance(node, ast.BinOp) else (node.value,)
    texts = any(isinstance(side, ast.JoinedStr) or _is_string(side) for side in sides)
    return texts or (isinstance(node.op, ast.BitOr) and not context.in_function)


def _is_string(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


def _swapped(node: ast.Compare | ast.BinOp | ast.AugAssign | ast.BoolOp, operator: ast.AST, index: int = 0) -> str:
    changed = copy.deepcopy(node)
    opposite = OPPOSITES[type(operator)]()
    if isinstance(changed, ast.Compare):
        changed.ops[index] = opposite  # type: ignore[call-overload]
    else:
        changed.op = opposite  # type: ignore[assignment]
    text = ast.unparse(changed)
    return text if isinstance(node, ast.stmt) else f"({text})"
