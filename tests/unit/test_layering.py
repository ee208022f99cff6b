"""What the import contracts in pyproject.toml can't say: what a process loads, who writes, who reads the environment.

`lint-imports`, which `make test` runs, checks who may import whom.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.installations import ROOT

SERVICE, WORKERS = ROOT / "service" / "mlpq", ROOT / "workers" / "mlpq_workers"

SQL_AND_QUEUE = {"sqlalchemy", "alembic", "psycopg", "sqlite3", "celery", "kombu", "redis"}
NUMERIC = {"numpy", "scipy"}
LEARNING = {"torch", "torchvision", "numpy", "safetensors", "sklearn"}
RENDERING = {"rich", "altair", "fastapi", "uvicorn", "jinja2"}

SOURCES = sorted([*SERVICE.rglob("*.py"), *WORKERS.rglob("*.py")])
WRITING = (
    "mlpq.store.claiming",
    "mlpq.store.execution",
    "mlpq.store.submission",
    "mlpq.store.verifications",
    "mlpq.store.questions",
)


def imports(file: Path) -> Iterator[str]:
    """The dotted names that a file imports anywhere, within functions too; `from a import b` gives a.b."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file} imports relatively"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def test_only_submission_decide_cancel_verify_and_the_worker_import_the_modules_that_write() -> None:
    writers = {
        str(file.relative_to(ROOT))
        for file in SOURCES
        if SERVICE / "store" not in file.parents and any(name.startswith(WRITING) for name in imports(file))
    }
    assert writers == {
        "service/mlpq/cli/cancel.py",
        "service/mlpq/decide.py",
        "service/mlpq/submit.py",
        "service/mlpq/verification/verify.py",
        "workers/mlpq_workers/worker/executor.py",
        "workers/mlpq_workers/worker/gang_run.py",
    }


@pytest.mark.parametrize("file", SOURCES, ids=lambda file: str(file.relative_to(ROOT)))
def test_only_settings_reads_the_environment(file: Path) -> None:
    if file == SERVICE / "settings.py":
        return
    for node in ast.walk(ast.parse(file.read_text())):
        assert not (isinstance(node, ast.Attribute) and node.attr in ("environ", "getenv", "environb")), node.lineno
    assert not {"os.environ", "os.getenv", "os.environb"} & set(imports(file))


def loaded(statement: str) -> set[str]:
    """The top-level names in sys.modules after a statement in a process of its own."""
    code = f"{statement}\nimport sys\nprint(' '.join({{name.split('.')[0] for name in sys.modules}}))"
    paths = [str(ROOT / name) for name in ("service", "workers", "migrations")]
    path = f"import sys; sys.path[:0] = {paths!r}\n"
    run = subprocess.run([sys.executable, "-c", path + code], capture_output=True, text=True, check=True)
    return set(run.stdout.split())


def test_mlpq_help_loads_nothing_heavy() -> None:
    assert not loaded("import mlpq.cli") & (LEARNING | NUMERIC | SQL_AND_QUEUE | RENDERING | {"pydantic", "yaml"})


def test_tables_of_results_load_neither_numpy_nor_scipy() -> None:
    assert not loaded("import mlpq.analysis.arms, mlpq.report.tables") & NUMERIC


def test_the_worker_process_does_not_load_torch() -> None:
    assert not loaded("import mlpq_workers.worker.__main__, mlpq_workers.worker.celery_app") & LEARNING


def test_the_entry_of_the_training_process_does_not_load_torch_before_it_must() -> None:
    """It watches its parent first, since importing torch takes seconds."""
    assert not loaded("import mlpq_workers.trainer.__main__, mlpq_workers.trainer.rank_main") & LEARNING


def test_the_training_process_loads_neither_sql_nor_celery() -> None:
    assert not loaded("import mlpq_workers.trainer.training") & SQL_AND_QUEUE


def test_no_module_or_function_is_too_long_to_read_in_one_sitting() -> None:
    """The options of a command don't count as parameters, nor those of an optimizer in a package of its own."""
    others = [file for name in ("benchmarks", "migrations", "tests") for file in (ROOT / name).rglob("*.py")]
    others = [file for file in others if not file.is_relative_to(ROOT / "tests/plugin")]
    for file in [*SOURCES, *others]:
        text = file.read_text()
        assert len(text.splitlines()) <= 400, f"{file} has more than 400 lines: split it"
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                assert (node.end_lineno or 0) - node.lineno < 50, f"{file}: {node.name} has more than 50 lines"
                decorators = " ".join(map(ast.unparse, node.decorator_list))
                if "command" not in decorators and "option" not in decorators:
                    own = [argument for argument in node.args.args if argument.arg not in ("self", "cls")]
                    number = len(own) + len(node.args.kwonlyargs)
                    assert number <= 6, f"{file}: {node.name} has {number} parameters: group some"
