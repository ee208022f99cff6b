"""Registered questions that no program of mlpq writes: readers show the comparison without them, in any database."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from mlpq import settings
from mlpq.analysis.params import ComparisonParams
from mlpq.analysis.question_terms import Goal
from mlpq.cli import cli
from mlpq.decide import register
from mlpq.store.schema import question_caps, questions
from mlpq.store.session import Store
from tests.support.dashboard_pages import browser
from tests.support.job_steps import claim_rest, finish, specs, submit

DOCUMENTS = (
    "5", "null", '"x"', "[]", "{}", "[null]", '["x"]', "[-1]", "[0]", "[1e9]", "[2.5]", "[[1]]", "[1, 2, 3]",
    '[{"label": "sgd"}]', '[{"label": 1, "settings": []}, {"label": "a", "settings": []}]',
    '[{"label": "a", "settings": ["x"]}, {"label": "b", "settings": ["y"]}]',
)  # fmt: skip
TEXTS = ("", "nope", "../../x", "\x1b]0;title\x07", "1e999")
NUMBERS = ("-1", "0", "2147483647")
FLOATS = ("-1", "0", "1e308", "'NaN'", "'Infinity'")
TIMES = ("infinity", "20000-01-01")
SQLITE = ("''", "'x'", "2.5", "CAST(x'ff00fe' AS BLOB)", "NULL")
COLUMNS = [
    pytest.param(table.name, column, id=f"{table.name}.{column.name}")
    for table in (questions, question_caps)
    for column in table.c
    if column.name not in ("id", "question_id", "experiment_id")
]


def values_of(column: Any) -> list[str]:
    kind = str(column.type.compile()).upper()
    if kind.startswith("JSON"):
        return [f"'{each}'" for each in DOCUMENTS]
    if "CHAR" in kind or kind == "TEXT":
        return [f"'{each}'" for each in TEXTS]
    if "INT" in kind:
        return list(NUMBERS)
    return list(FLOATS) if "FLOAT" in kind else [f"'{each}'" for each in TIMES]


@pytest.fixture
def run(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Any:  # a function that runs a command and returns its exit status and both outputs
    monkeypatch.setenv("MLPQ_DATABASE_URL", store.url)
    monkeypatch.setenv("MLPQ_HOME", str(tmp_path))
    settings.settings.cache_clear()

    def run(*command: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            cli(list(command))
        return int(ended.value.code or 0), *capsys.readouterr()

    return run


@pytest.mark.parametrize(("table", "column"), COLUMNS)
def test_odd_question_leaves_the_comparison_readable(
    store: Store, run: Any, tmp_path: Path, table: str, column: Any
) -> None:
    submit(store, *specs(optimizer=["sgd", "adam"], seeds="0..2"))
    for job in claim_rest(store, limit=50):
        finish(store, job, test_correct=400 + job.spec.seed)
    question = register(store, "lab", ComparisonParams(by="optimizer"), Goal(0.5, margin=0.5, max_seeds=20))
    assert question.caps is not None
    client = browser(store)
    for number, value in enumerate((*values_of(column), *(SQLITE if store.is_sqlite else ()))):
        try:
            with store.write() as connection:
                connection.exec_driver_sql(f"UPDATE {table} SET {column.name} = {value}")
        except DBAPIError:
            continue  # the database refuses it
        code, out, err = run("compare", "lab", "--format", "json")
        assert code == 0, (value, err)
        assert len(json.loads(out)["pairs"]) == 1, value
        match number % 3:  # each for some of the values, since each takes long
            case 0:
                assert run("compare", "lab")[0] == 0, value
            case 1:
                assert run("report", "lab", "-o", str(tmp_path / "report.html"))[0] == 0, value
            case 2:
                assert client.get("/experiments/lab").status_code == 200, value
        code, out, err = run("decide", "lab", "--by", "optimizer", "--difference", "0.5", "--margin", "0.5")
        assert code in (0, 2), (value, err)
        assert "Traceback" not in err, value
        with store.read() as connection:  # whatever it requires, no more than a question can
            assert connection.execute(text("SELECT count(*) FROM jobs")).scalar_one() <= 100, value
