"""The exit statuses that the source of the commands contains."""

from __future__ import annotations

import ast
import importlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.installations import ROOT

EXITS = {"Exit", "SystemExit", "_exit", "exit", "exit_now"}  # what ends a process, by the last part of its name
CLI = ROOT / "service" / "mlpq" / "cli"
# Its functions that return integers return exit statuses.
RETURNING = CLI / "__init__.py"
WORKERS = ROOT / "workers" / "mlpq_workers"
# The training process is not a command; what `mlpq data fetch` starts passes its status on.
SOURCES = sorted(
    [*(ROOT / "service" / "mlpq").rglob("*.py"), *(WORKERS / "worker").glob("*.py"), WORKERS / "trainer" / "data.py"]
)


@dataclass
class ExitStatuses:
    """The exit statuses in a file, and the expressions whose values its source does not tell."""

    values: set[int] = field(default_factory=set)
    unknown: set[str] = field(default_factory=set)


def exit_statuses(file: Path) -> ExitStatuses:
    """The exit statuses with which the code of a file ends its process."""
    tree, found = ast.parse(file.read_text()), ExitStatuses()
    for expression in _expressions(tree, file == RETURNING):
        _evaluate(expression, file, tree, found)
    return found


def _expressions(tree: ast.Module, with_returns: bool) -> Iterator[ast.expr]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] in EXITS and node.args:
            yield node.args[0]
        elif with_returns and isinstance(node, ast.FunctionDef) and node.returns and ast.unparse(node.returns) == "int":
            yield from (each.value for each in ast.walk(node) if isinstance(each, ast.Return) and each.value)


def _evaluate(expression: ast.expr, file: Path, tree: ast.Module, found: ExitStatuses) -> None:
    if isinstance(expression, ast.IfExp):
        for branch in (expression.body, expression.orelse):
            _evaluate(branch, file, tree, found)
        return
    if isinstance(expression, ast.Call) and _is_defined(expression, tree):
        return  # its own returns count
    source = ast.unparse(expression)
    assigned = [node.value for node in ast.walk(tree) if isinstance(node, ast.Assign) and source in _targets(node)]
    if isinstance(expression, ast.Constant) and isinstance(expression.value, int):
        found.values.add(expression.value)
    elif isinstance(expression, ast.Name | ast.Attribute) and source.rpartition(".")[2].isupper():
        found.values.add(_constant(file, source))
    elif isinstance(expression, ast.Name) and assigned:
        for value in assigned:
            _evaluate(value, file, tree, found)
    else:
        found.unknown.add(source)


def _is_defined(call: ast.Call, tree: ast.Module) -> bool:
    name = ast.unparse(call.func).rpartition(".")[2]
    return any(isinstance(node, ast.FunctionDef) and node.name == name for node in ast.walk(tree))


def _targets(node: ast.Assign) -> list[str]:
    return [ast.unparse(target) for target in node.targets]


def _constant(file: Path, name: str) -> int:
    parts = file.relative_to(ROOT).with_suffix("").parts[1:]
    value: object = importlib.import_module(".".join(part for part in parts if part != "__init__"))
    for part in name.split("."):
        value = getattr(value, part)
    assert isinstance(value, int), name
    return value
