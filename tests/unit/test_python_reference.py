"""docs/reference/python.md is what docs/reference/render.py makes of the docstrings, and has all that is public."""

from __future__ import annotations

import inspect
import runpy
import subprocess
import sys

import mlpq
from mlpq.analysis.params import ComparisonParams
from mlpq.lab import frames
from mlpq.lab.keys import ComparisonKeys, LabSettings, SweepKeys
from mlpq.results_view import COLUMNS
from mlpq.settings import read_settings
from mlpq.spec.document import LIST
from mlpq.spec.sweep import Sweep
from tests.support.docs_pages import DOCS

RENDER = DOCS / "reference" / "render.py"
HEAVY = {"torch", "sqlalchemy", "pandas", "numpy", "scipy", "altair", "pydantic", "celery", "rich", "click"}


def test_page_is_made_from_the_docstrings() -> None:
    written = runpy.run_path(str(RENDER))
    assert written["PAGE"].read_text() == written["page"](), "run .venv/bin/python docs/reference/render.py"


def test_whatever_is_public_has_a_docstring_and_is_on_the_page() -> None:
    page = (DOCS / "reference" / "python.md").read_text()
    for name in mlpq.__all__:
        found = getattr(mlpq, name)
        if inspect.isclass(found):
            assert f"`mlpq.{name}`" in page
            members = [each for each in vars(found) if not each.startswith("_")]
            for member in members if not issubclass(found, Exception) else []:
                assert inspect.getdoc(getattr(found, member)), f"{name}.{member}"
                assert f"### `{name}.{member}`" in page


def test_package_lists_what_is_public_and_nothing_else() -> None:
    assert dir(mlpq) == mlpq.__all__
    for name in mlpq.__all__:
        assert getattr(mlpq, name) is not None


def test_import_of_the_package_loads_nothing_heavy() -> None:
    code = "import sys, mlpq; dir(mlpq); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = {name.partition(".")[0] for name in done.stdout.split()}
    assert "mlpq" in loaded
    assert not loaded & HEAVY
    assert not any(name.startswith("mlpq.lab") for name in done.stdout.split())


def test_lab_itself_loads_neither_torch_nor_pandas_nor_what_draws() -> None:
    code = "import sys, mlpq; mlpq.Lab; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {name.partition(".")[0] for name in done.stdout.split()} & {"torch", "pandas", "altair", "scipy"}


def test_arguments_are_the_keys_of_a_spec_file_the_options_of_a_comparison_and_the_settings() -> None:
    assert SweepKeys.__annotations__.keys() == {*Sweep.model_fields, LIST}
    assert ComparisonKeys.__annotations__.keys() == set(ComparisonParams.__dataclass_fields__)
    assert {f"MLPQ_{name.upper()}" for name in LabSettings.__annotations__} == read_settings({}).sources.keys()


def test_each_column_of_the_results_has_one_type() -> None:
    kinds = (frames.INTEGERS, frames.FLOATS, frames.TIMES, frames.BOOLEANS, frames.MAPPINGS, {*frames.CATEGORIES})
    for name in COLUMNS:
        assert sum(name in kind for kind in kinds) <= 1, name
