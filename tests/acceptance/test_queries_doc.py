"""docs/how-to/query-results.md: every query runs on both databases, and pandas as the page shows it."""

from __future__ import annotations

import io
import re
import shlex
from collections.abc import Iterator
from contextlib import redirect_stdout
from typing import Any, NamedTuple

import pytest

from mlpq.store import sql
from tests.support import filled_database
from tests.support.installations import EMBEDDED, ROOT, SERVICES, Site, Sites

PAGE = (ROOT / "docs" / "how-to" / "query-results.md").read_text()


class Question(NamedTuple):
    number: int
    title: str
    columns: list[str]
    statement: str


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, flags=re.DOTALL)


def question(section: str) -> Question:
    """A section with its number, the columns that the sentence "Returns …" names, and its one statement."""
    heading, _, body = section.partition("\n")
    number, _, title = heading.partition(". ")
    stated = re.search(r"^Returns ((?:`\w+`,?\s+)*`\w+`)", body, flags=re.MULTILINE)
    assert stated, heading
    (statement,) = re.findall(r"```sql\n(.*?)```", body, flags=re.DOTALL)
    return Question(int(number), title, re.findall(r"`(\w+)`", stated[1]), statement)


QUESTIONS = [question(section) for section in re.split(r"^### ", PAGE, flags=re.MULTILINE)[1:]]


@pytest.fixture(scope="module")
def labs(sites: Sites, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Site]]:
    """A site with SQLite and one with PostgreSQL, with the same rows."""
    folders = (tmp_path_factory.mktemp(kind) for kind in (EMBEDDED, SERVICES))
    with sites.open(EMBEDDED, next(folders)) as embedded, sites.open(SERVICES, next(folders)) as services:
        for site in (embedded, services):
            filled_database.fill(site.store)
        yield [embedded, services]


def ask(labs: list[Site], number: int) -> list[tuple[Any, ...]]:
    _, rows = sql.read_only(labs[0].store, QUESTIONS[number - 1].statement)
    return [tuple(row.values()) for row in rows]


def test_page_has_twenty_questions_and_no_other_statement() -> None:
    assert [question.number for question in QUESTIONS] == list(range(1, 21))
    assert len(blocks("sql")) == 20


@pytest.mark.parametrize("question", QUESTIONS, ids=lambda question: question.title)
def test_question_has_the_same_result_on_both_databases(labs: list[Site], question: Question) -> None:
    answers = [sql.read_only(site.store, question.statement) for site in labs]
    for columns, rows in answers:
        assert columns == question.columns
        assert rows
    one, other = (rows for _, rows in answers)
    assert len(one) == len(other)
    for left, right in zip(one, other, strict=True):
        assert left == pytest.approx(right, rel=1e-12, abs=1e-12)


def test_page_submits_the_sweep_that_it_queries(labs: list[Site]) -> None:
    commands = [shlex.split(line)[1:] for line in "".join(blocks("sh")).splitlines() if " submit " in line]
    assert len(commands) == 2
    _, before = sql.read_only(labs[0].store, "SELECT count(*) FROM jobs")
    found = {
        job["spec_hash"]
        for command in commands
        for job in labs[0].mlpq(*(word for word in command if word != "--wait"), "--format", "json").json
    }
    assert found == {spec.hash for spec in filled_database.SWEEP}
    assert sql.read_only(labs[0].store, "SELECT count(*) FROM jobs")[1] == before  # all existed already


def test_means_have_n_and_sample_standard_deviation(labs: list[Site]) -> None:
    best = ask(labs, 1)[0]
    assert best[:4] == ("64", "adam", 0.01, 5)
    assert best[4:] == pytest.approx((0.954, 0.0031622776601683794))  # 475 … 479 of 500


def test_best_arm_is_selected_by_validation_accuracy(labs: list[Site]) -> None:
    assert [row[:4] for row in ask(labs, 2)] == [("adam", "64", 0.01, 5), ("sgd", "64", 0.1, 5)]


def test_pairs_share_a_seed(labs: list[Site]) -> None:
    pairs = ask(labs, 3)
    assert pairs[:5] == [("16", 0, 450, 467, 17), ("16", 1, 452, 470, 18), ("16", 2, 454, 468, 14),
                         ("16", 3, 451, 471, 20), ("16", 4, 453, 469, 16)]  # fmt: skip
    assert ask(labs, 4)[0] == pytest.approx(("16", 5, 0.034, 0.00447213595499958, 5))


def test_epochs_to_85_percent(labs: list[Site]) -> None:
    passed = {(lr, hidden, optimizer): (n, some, mean) for optimizer, lr, hidden, n, some, mean in ask(labs, 11)}
    assert passed[0.01, "16", "adam"] == (5, 5, 4)
    assert passed[0.01, "16", "sgd"] == (5, 0, None)
    assert len(ask(labs, 10)) == sum(some for _, some, _ in passed.values())


def test_equal_specs_with_different_bits_are_found(labs: list[Site]) -> None:
    assert {row[0]: row[1:3] for row in ask(labs, 15)} == {
        filled_database.SWEEP[1].hash: (2, 2),
        filled_database.SWEEP[0].hash: (2, 1),
    }
    assert {(row[0], row[5]) for row in ask(labs, 16)} == {
        (filled_database.SWEEP[1].hash, facts["cpu"]) for facts in filled_database.MACHINES.values()
    }


def test_attempts_waits_and_retries_are_counted(labs: list[Site]) -> None:
    assert [row[2:] for row in ask(labs, 17)] == [
        (1, filled_database.ANN, "diverged", "the loss became nan in epoch 1"),
        (1, filled_database.BOB, "lost", "lease expired: no heartbeat from the worker"),
        (1, filled_database.ANN, "failed", "no space left on device"),
        (2, filled_database.BOB, "failed", "no space left on device"),
    ]
    assert ("sweep", 40, filled_database.WAIT * 41 / 2, filled_database.WAIT * 40) in ask(labs, 19)
    assert sorted(row[1:] for row in ask(labs, 20)) == [
        ("hard", "failed", 2, filled_database.LENGTH),
        ("hard", "succeeded", 2, filled_database.LENGTH),
    ]


@pytest.mark.parametrize("kind", [0, 1], ids=[EMBEDDED, SERVICES])
def test_pandas_example_of_the_page(labs: list[Site], kind: int) -> None:
    site = labs[kind]
    engine, pivot = blocks("python")[kind], blocks("python")[2]
    page_url = ("/home/USER/.local/share/mlpq/mlpq.db", "postgresql+psycopg://USER:PASSWORD@HOST/DATABASE")[kind]
    assert page_url in engine
    names: dict[str, Any] = {}
    with redirect_stdout(io.StringIO()) as out:
        exec(engine.replace(page_url, site.store.url.removeprefix("sqlite:///")) + pivot, names)
    names["engine"].dispose()
    assert names["arms"].loc[("64", 0.01), ("mean", "adam")] == pytest.approx(0.954)
    assert names["arms"].loc[("64", 0.01), ("count", "adam")] == 5
    assert "adam" in out.getvalue()


def test_parquet_example_of_the_page(labs: list[Site], monkeypatch: pytest.MonkeyPatch) -> None:
    site = labs[0]
    (command,) = re.findall(r"`(mlpq sql [^`]*results\.parquet)`", PAGE)
    site.mlpq(*shlex.split(command)[1:])
    monkeypatch.chdir(site.folder)
    with redirect_stdout(io.StringIO()) as out:
        exec(blocks("python")[3], names := {})  # type: ignore[var-annotated]
    assert len(names["runs"]) == site.row_counts()["jobs"]
    assert str(names["runs"].created_at.dtype).endswith("UTC]")
    assert "475" in out.getvalue()
