"""The command `mlpq sql`: its formats, files and errors."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from mlpq.store import queries
from tests.support.installations import EMBEDDED, Site
from tests.support.job_steps import claim_one, finish, spec, submit

QUERY = "SELECT optimizer, lr, seed, test_accuracy, finished_at FROM results ORDER BY seed"


@pytest.fixture
def site_with_jobs(site: Site) -> Site:
    """A site with a succeeded and a queued job."""
    submit(site.store, spec(), spec(seeds=43))
    finish(site.store, claim_one(site.store))
    return site


def test_query_returns_a_table_json_or_a_file(site_with_jobs: Site) -> None:
    table = site_with_jobs.mlpq("sql", QUERY).out.splitlines()
    assert table[0].split() == ["optimizer", "lr", "seed", "test_accuracy", "finished_at"]
    assert table[2].split()[:4] == ["sgd", "0.001", "42", "0.9"]
    done, waiting = site_with_jobs.mlpq("sql", "-", "--format", "json", input=QUERY).json
    stored = [job.finished_at for job in queries.job_records(site_with_jobs.store)]
    assert done["finished_at"] == (stored[0].isoformat() if stored[0] else None)
    assert waiting == {"optimizer": "sgd", "lr": 0.001, "seed": 43, "test_accuracy": None, "finished_at": None}

    assert site_with_jobs.mlpq("sql", QUERY, "-o", "answer.csv").out == "2 rows in answer.csv\n"
    with (site_with_jobs.folder / "answer.csv").open(newline="") as lines:
        assert list(csv.DictReader(lines))[1] == {**dict.fromkeys(waiting, ""), "optimizer": "sgd", "lr": "0.001",
                                                  "seed": "43"}  # fmt: skip


def test_invalid_statement_is_one_line_and_changes_nothing(site_with_jobs: Site) -> None:
    before = site_with_jobs.row_counts()
    for statement, message in (
        ("SELECT lrr FROM results", "(did you mean 'lr'?)"),
        ("COMMIT; DELETE FROM jobs", "mlpq sql is read-only"),
        ("SELECT 1; DELETE FROM jobs", "mlpq sql takes one statement at a time"),
    ):
        done = site_with_jobs.mlpq("sql", statement, "-o", "answer.csv", status=2)
        assert (done.out, done.err.count("\n")) == ("", 1)
        assert done.err.startswith("mlpq: ")
        assert message in done.err
    assert not (site_with_jobs.folder / "answer.csv").exists()
    assert site_with_jobs.row_counts() == before


@pytest.mark.parametrize("site", [EMBEDDED], indirect=True)
def test_invalid_output_file_is_one_line(site_with_jobs: Site) -> None:
    assert "name a file" in site_with_jobs.mlpq("sql", QUERY, "--format", "parquet", status=2).err
    done = site_with_jobs.mlpq("sql", QUERY, "-o", "nowhere/answer.csv", status=2)
    assert done.err == "mlpq: can't write nowhere/answer.csv: No such file or directory\n"


def test_new_database_has_no_rows(alone: Site, tmp_path: Path) -> None:
    shown = alone.mlpq("sql", "SELECT id, lr FROM results", env={"MLPQ_HOME": str(tmp_path / "new")}).out
    assert shown.splitlines()[0].split() == ["id", "lr"]
    assert shown.endswith("no rows\n")
