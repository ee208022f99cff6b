"""`mlpq sql`, the command: its formats, its files, and what it says to a mistake."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from mlpq.store import queries
from tests.support.installations import EMBEDDED, Site
from tests.support.job_steps import claim_one, file, finish, spec

QUESTION = "SELECT optimizer, lr, seed, test_accuracy, finished_at FROM results ORDER BY seed"


@pytest.fixture
def asked(site: Site) -> Site:
    """A site with a job that succeeded and one that waits."""
    file(site.store, spec(), spec(seeds=43))
    finish(site.store, claim_one(site.store))
    return site


def test_a_question_is_answered_as_a_table_as_json_and_in_a_file(asked: Site) -> None:
    table = asked.mlpq("sql", QUESTION).out.splitlines()
    assert table[0].split() == ["optimizer", "lr", "seed", "test_accuracy", "finished_at"]
    assert table[2].split()[:4] == ["sgd", "0.001", "42", "0.9"]
    done, waiting = asked.mlpq("sql", "-", "--format", "json", input=QUESTION).json
    stored = [row["finished_at"] for row in queries.job_rows(asked.store)]
    assert done["finished_at"] == stored[0].isoformat()
    assert waiting == {"optimizer": "sgd", "lr": 0.001, "seed": 43, "test_accuracy": None, "finished_at": None}

    assert asked.mlpq("sql", QUESTION, "-o", "answer.csv").out == "2 rows in answer.csv\n"
    with (asked.folder / "answer.csv").open(newline="") as lines:
        assert list(csv.DictReader(lines))[1] == {**dict.fromkeys(waiting, ""), "optimizer": "sgd", "lr": "0.001",
                                                  "seed": "43"}  # fmt: skip


def test_a_mistake_gets_one_line_and_changes_nothing(asked: Site) -> None:
    before = asked.row_counts()
    for statement, message in (
        ("SELECT lrr FROM results", "(did you mean 'lr'?)"),
        ("COMMIT; DELETE FROM jobs", "mlpq sql only reads"),
        ("SELECT 1; DELETE FROM jobs", "mlpq sql takes one statement at a time"),
    ):
        done = asked.mlpq("sql", statement, "-o", "answer.csv", status=2)
        assert (done.out, done.err.count("\n")) == ("", 1)
        assert done.err.startswith("mlpq: ")
        assert message in done.err
    assert not (asked.folder / "answer.csv").exists()
    assert asked.row_counts() == before


@pytest.mark.parametrize("site", [EMBEDDED], indirect=True)
def test_a_file_that_can_not_be_is_told(asked: Site) -> None:
    assert "name a file" in asked.mlpq("sql", QUESTION, "--format", "parquet", status=2).err
    done = asked.mlpq("sql", QUESTION, "-o", "nowhere/answer.csv", status=2)
    assert done.err == "mlpq: can't write nowhere/answer.csv: No such file or directory\n"


def test_where_nothing_ran_yet_there_are_no_rows(alone: Site, tmp_path: Path) -> None:
    shown = alone.mlpq("sql", "SELECT id, lr FROM results", env={"MLPQ_HOME": str(tmp_path / "new")}).out
    assert shown.splitlines()[0].split() == ["id", "lr"]
    assert shown.endswith("no rows\n")
