"""Who may import whom, as docs/design.md has it; and what a mere `mlpq --help` must not load."""

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

# Pure modules: they import each other, and neither SQL nor Celery.
PURE = {
    "errors",
    "settings",
    "log",
    "spec",
    "parsing",
    "jobs",
    "stats",
    "inference",
    "weights",
    "audit",
    "grading",
    "datasets",
    "optimizers",
    "presets",
}
STORE = {
    "store",
    "store.models",
    "store.session",
    "store.transitions",
    "store.migrate",
    "store.queries",
    "store.monitoring",
    "store.repository",
    "store.filing",
    "store.verifications",
    "store.sql",
    "store.overview",
    "store.changes",
}
WRITING = ("mlpq.store.execution", "mlpq.store.submission", "mlpq.store.verifications")

# Which modules of mlpq each module, or each module of a package, may import.
MAY_IMPORT = {
    **dict.fromkeys(PURE, PURE),
    "__init__": set(),
    "store": PURE | STORE,
    "queue": {"errors", "settings"},
    "submit": PURE | STORE | {"queue"},
    "verify": PURE | STORE | {"submit", "report"},
    "checkup": PURE | STORE | {"queue"},
    "report": PURE | {"", "report", "store", "store.queries", "store.session"},
    "dashboard": PURE
    | {
        "",
        "dashboard",
        "report",
        "store",
        "store.queries",
        "store.overview",
        "store.changes",
        "store.monitoring",
        "store.session",
    },
    "cli": PURE | STORE | {"", "queue", "submit", "verify", "checkup", "cli", "report", "dashboard"},
}
TRAINING_MAY_IMPORT = {
    **{
        module: (PURE | {""}, {"model", "gradient", "optim", "data", "engine", "devices", "states", "world"})
        for module in ("model", "gradient", "optim", "data", "engine", "devices", "states")
    },
    "world": (set(), set()),
    "pipe": (set(), set()),
    "stack": (PURE, {"world"}),
    "cuda_graph": (PURE, set()),
    "parallel": (set(), {"stack", "world"}),
    "files": (PURE, {"model", "states"}),
    "members": (PURE, {"model", "optim", "data", "states"}),
    "gang": (PURE, {"members", "optim", "data", "states", "stack", "cuda_graph", "parallel", "world"}),
    "training": (PURE, {"data", "engine", "devices", "files", "gang", "members", "pipe", "states", "world"}),
    "launch": (set(), {"devices", "pipe", "training", "world"}),
    "rank": (set(), {"launch", "pipe"}),
    "trainer_process": (PURE, {"devices", "launch", "pipe", "training"}),
    "watchdog": (set(), set()),
    "running": (PURE | STORE, {"trainer_process"}),
    "tasks": (PURE | STORE | {"queue"}, {"running", "trainer_process", "watchdog"}),
    "celery_worker": (PURE | STORE | {"queue"}, {"tasks", "trainer_process", "watchdog"}),
    "app": (PURE, {"celery_worker", "trainer_process"}),
    "__init__": (set(), set()),
}
CELERY_SIDE = ("tasks", "running", "celery_worker", "app", "watchdog")
PARENT_SIDE = (
    *CELERY_SIDE,
    "trainer_process",
    "pipe",
)  # the child runs trainer_process too, and torch comes in with training


def imports(file: Path) -> Iterator[str]:
    """The dotted names that a file imports anywhere in it, within functions too; `from a import b` gives a.b."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file} imports relatively"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def imported(node: ast.AST) -> list[str]:
    return [f"{node.module}.{alias.name}" for alias in node.names] if isinstance(node, ast.ImportFrom) else []


def within(package: str, folder: Path, file: Path) -> set[str]:
    """The modules of `package` that a file imports, without the package's name."""
    found = set()
    for name in imports(file):
        if name.split(".")[0] == package:
            parts = name.split(".")[1:]
            while parts and not (
                folder.joinpath(*parts).with_suffix(".py").exists() or folder.joinpath(*parts).is_dir()
            ):
                parts.pop()
            found.add(".".join(parts))
    return found


def service_files() -> list[Path]:
    return sorted(SERVICE.rglob("*.py"))


def worker_files() -> list[Path]:
    return sorted(WORKERS.rglob("*.py"))


def name_of(file: Path) -> str:
    folder = SERVICE if SERVICE in file.parents else WORKERS
    return file.relative_to(folder).parts[0].removesuffix(".py")


@pytest.mark.parametrize("file", service_files(), ids=lambda file: str(file.relative_to(SERVICE)))
def test_a_service_module_imports_only_its_neighbours_below(file: Path) -> None:
    allowed = MAY_IMPORT[name_of(file)]
    for module in within("mlpq", SERVICE, file):
        top = module.split(".")[0]
        assert module in allowed or (top in allowed and top in ("cli", "report", "dashboard")), module


@pytest.mark.parametrize("file", service_files(), ids=lambda file: str(file.relative_to(SERVICE)))
def test_the_service_never_imports_torch_or_the_workers(file: Path) -> None:
    barred = LEARNING | NUMERIC | {"mlpq_workers"}
    if name_of(file) == "inference":
        barred -= NUMERIC
    assert not {name.split(".")[0] for name in imports(file)} & barred


@pytest.mark.parametrize("module", sorted(PURE))
def test_a_pure_module_knows_neither_sql_nor_celery(module: str) -> None:
    assert not {name.split(".")[0] for name in imports(SERVICE / f"{module}.py")} & SQL_AND_QUEUE


@pytest.mark.parametrize("file", service_files(), ids=lambda file: str(file.relative_to(SERVICE)))
def test_sql_is_spoken_in_the_store_only_and_celery_in_the_queue_only(file: Path) -> None:
    foreign = {name.split(".")[0] for name in imports(file)}
    if name_of(file) != "store":
        assert not foreign & {"sqlalchemy", "alembic", "psycopg", "sqlite3"}
    if name_of(file) != "queue":
        assert not foreign & {"celery", "kombu", "redis"}


@pytest.mark.parametrize("file", worker_files(), ids=lambda file: file.name)
def test_a_worker_module_imports_only_its_neighbours_below(file: Path) -> None:
    from_service, from_workers = TRAINING_MAY_IMPORT[name_of(file)]
    assert within("mlpq", SERVICE, file) <= from_service
    assert within("mlpq_workers", WORKERS, file) <= from_workers


@pytest.mark.parametrize("file", worker_files(), ids=lambda file: file.name)
def test_what_trains_knows_no_sql_and_what_takes_messages_no_torch(file: Path) -> None:
    foreign = {name.split(".")[0] for name in imports(file)}
    if name_of(file) in PARENT_SIDE:
        assert not foreign & LEARNING
    if name_of(file) not in CELERY_SIDE:
        assert not foreign & SQL_AND_QUEUE


def test_what_brings_torch_in_is_imported_within_the_childs_main_only() -> None:
    assert "torch" in {name.split(".")[0] for name in imports(WORKERS / "training.py")}
    importing = {file.stem for file in worker_files() if "training" in within("mlpq_workers", WORKERS, file)}
    assert importing == {"trainer_process", "launch"}

    tree = ast.parse((WORKERS / "trainer_process.py").read_text())
    inner = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == "main"]
    named = [name for part in (tree, *inner) for node in ast.walk(part) for name in imported(node)]
    for bringer in ("training.Child", "launch.launch", "devices"):
        assert (
            named.count(f"mlpq_workers.{bringer}") == 2
        )  # seen from the top, and from within main: it stands there alone


def writes(file: Path) -> bool:
    """Whether a file imports one of the two modules that write, or a function of them; their classes are only words."""
    tails = [name.removeprefix(module) for name in imports(file) for module in WRITING if name.startswith(module)]
    return any(not tail[1:2].isupper() for tail in tails)


def test_the_writers_of_jobs_are_the_submission_the_cancel_command_and_the_worker() -> None:
    writers = {str(file.relative_to(ROOT)) for file in (*service_files(), *worker_files()) if writes(file)}
    assert writers == {
        "service/mlpq/submit.py",
        "service/mlpq/verification/verify.py",
        "service/mlpq/cli/cancel.py",
        "workers/mlpq_workers/worker/executor.py",
    }


@pytest.mark.parametrize("file", [*service_files(), *worker_files()], ids=lambda file: str(file.relative_to(ROOT)))
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


def test_the_command_line_loads_nothing_heavy() -> None:
    heavy = LEARNING | NUMERIC | SQL_AND_QUEUE | {"pydantic", "rich", "yaml", "altair", "fastapi", "uvicorn", "jinja2"}
    assert not loaded("import mlpq.cli") & heavy


def test_tables_of_results_do_not_wait_for_scipy() -> None:
    assert not loaded("import mlpq.analysis.arms, mlpq.report.tables") & NUMERIC


def test_the_celery_process_does_not_load_torch() -> None:
    assert not loaded("import mlpq_workers.worker, mlpq_workers.worker.trainer_client") & LEARNING


def test_the_training_process_is_not_slowed_by_sql_or_celery() -> None:
    assert not loaded("import mlpq_workers.worker.trainer_client, mlpq_workers.trainer.training") & SQL_AND_QUEUE
