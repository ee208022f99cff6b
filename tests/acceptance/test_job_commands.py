"""The commands that show, cancel and retry jobs, and `mlpq db` and `mlpq doctor`."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest

from mlpq.results_view import COLUMNS
from mlpq.store import queries
from tests.support.installations import Site
from tests.support.services import wait_until

QUICK = ("--dataset", "digits", "--epochs", 2)
LONG = ("--dataset", "digits", "--hidden", 1000, "--epochs", 10_000)


@pytest.fixture(scope="module")
def lab(served: Site) -> list[dict[str, Any]]:
    """Two arms of two seeds, and an arm that diverges."""
    done = served.mlpq(
        "submit", *QUICK, "--experiment", "lab", "--activation", "relu", "--optimizer", "sgd:lr=0.1", "--optimizer",
        "adam", "--optimizer", "sgd:lr=1e30", "--seeds", "0..1", "--wait", "--format", "json", status=1,
    )  # fmt: skip
    rows = done.json
    assert isinstance(rows, list)
    return rows


def test_jobs_lists_an_experiment_as_table_and_json(served: Site, lab: list[dict[str, Any]]) -> None:
    table = served.mlpq("jobs", "lab").out
    assert all(row["id"][:8] in table for row in lab)
    assert "2 failed" in table
    assert "4 succeeded" in table
    listed = served.mlpq("jobs", "lab", "--format", "json").json
    assert [row["id"] for row in listed] == [row["id"] for row in lab]


def test_jobs_are_filtered_by_status_and_limited(served: Site, lab: list[dict[str, Any]]) -> None:
    listed = served.mlpq("jobs", "lab", "--status", "failed,cancelled", "--format", "json").json
    assert [row["id"] for row in listed] == [row["id"] for row in lab[4:]]
    listed = served.mlpq("jobs", "lab", "--status", "queued", "--status", "succeeded", "--format", "json").json
    assert [row["id"] for row in listed] == [row["id"] for row in lab[:4]]
    cut = served.mlpq("jobs", "lab", "--limit", 2).out
    assert [row["id"][:8] in cut for row in lab] == [False] * 4 + [True] * 2
    assert "the latest 2 jobs" in cut


def test_results_table_has_jobs_and_arms(served: Site, lab: list[dict[str, Any]]) -> None:
    table = served.mlpq("results", "lab").out
    for row in lab[:4]:
        assert f"{row['test_correct']}/500" in table
    assert "mean ± sd" in table
    assert "2, 2 diverged" in table


def test_results_in_json_and_csv_are_the_same(served: Site, lab: list[dict[str, Any]]) -> None:
    rows = served.mlpq("results", "lab", "--format", "json").json
    lines = list(csv.DictReader(io.StringIO(served.mlpq("results", "lab", "--format", "csv").out)))
    assert [list(row) for row in rows] == [list(COLUMNS)] * 6
    assert [line["id"] for line in lines] == [row["id"] for row in rows] == [row["id"] for row in lab]
    for row, line in zip(rows, lines, strict=True):
        for key in ("test_correct", "lr", "weights_sha256", "status", "parent_id"):
            assert line[key] == ("" if row[key] is None else str(row[key]))
    assert rows[4]["test_correct"] is None


def test_results_in_markdown_are_tables(served: Site, lab: list[dict[str, Any]]) -> None:
    text = served.mlpq("results", "lab", "--format", "md").out
    assert text.count("| --- |") >= 2
    assert f"{lab[0]['test_correct']}/500" in text


def test_results_without_a_name_cover_all_experiments(served: Site, lab: list[dict[str, Any]]) -> None:
    assert {row["id"] for row in lab} <= {row["id"] for row in served.mlpq("results", "--format", "json").json}


def test_show_prints_everything_about_a_job(served: Site, lab: list[dict[str, Any]]) -> None:
    job = lab[0]
    table = served.mlpq("show", job["id"][:8]).out
    for piece in (job["id"], job["spec_hash"], job["weights_sha256"], "relu", "sgd lr=0.1", "kernel", "succeeded"):
        assert piece in table
    assert "kernel, arithmetic 1, gang of" in table
    shown = served.mlpq("show", job["id"].upper(), "--format", "json").json
    assert shown["id"] == job["id"]
    assert [epoch["epoch"] for epoch in shown["curve"]] == [1, 2]
    assert [(attempt["attempt"], attempt["outcome"]) for attempt in shown["attempts"]] == [(1, "succeeded")]
    assert shown["attempts"][0]["environment"]["data_checksum"]


def test_show_and_logs_print_why_a_job_diverged(served: Site, lab: list[dict[str, Any]]) -> None:
    assert "the loss became" in served.mlpq("show", lab[4]["id"]).out
    logs = served.mlpq("logs", lab[4]["id"]).out
    assert "diverged" in logs
    assert "error: the loss became" in logs


def test_logs_have_a_line_per_epoch(served: Site, lab: list[dict[str, Any]]) -> None:
    logs = served.mlpq("logs", lab[0]["id"]).out
    assert "attempt 1 by" in logs
    assert "epoch 1: train loss" in logs
    assert "epoch 2: train loss" in logs


def test_watch_ends_where_every_job_is_finished(served: Site, lab: list[dict[str, Any]]) -> None:
    assert "every job is finished" in served.mlpq("watch", "lab").out


def test_watch_follows_jobs_until_they_are_finished(served: Site) -> None:
    served.mlpq(
        "submit", "--dataset", "digits", "--hidden", 256, "--epochs", 1000, "--experiment", "watched", "--seeds", "0..1"
    )
    done = served.mlpq("watch", "watched")
    assert "[2 of 2]" in done.err
    assert done.out.count("/500") == 2


def test_running_job_and_its_children_are_cancelled(served: Site) -> None:
    (parent,) = served.mlpq("submit", *LONG, "--experiment", "stopped", "--format", "json").json
    (child,) = served.mlpq(
        "submit", "--continue-from", parent["id"], "--experiment", "stopped", "--format", "json"
    ).json
    assert (child["status"], child["parent_id"]) == ("blocked", parent["id"])
    wait_until("the first epochs are recorded", lambda: queries.curve(served.store, parent["id"]))
    assert served.mlpq("cancel", parent["id"][:8]).out == "1 asked to stop\n"
    assert served.wait_for(parent["id"], "cancelled", seconds=30).error == "cancelled"
    assert served.row(child["id"]).status == "cancelled"
    assert served.outcomes(parent["id"]) == [(1, "cancelled")]
    assert "already finished" in served.mlpq("cancel", "stopped").out


def test_experiment_is_cancelled_by_its_name(served: Site) -> None:
    served.mlpq("submit", *LONG, "--experiment", "all of it", "--seeds", "0..4")
    served.mlpq("cancel", "all of it")
    ids = queries.ids_of(served.store, "all of it")
    wait_until("all are cancelled", lambda: not queries.unfinished(served.store, ids))
    assert queries.count_by_status(served.store, "all of it") == {"cancelled": 5}


def test_cancelled_job_is_retried_under_a_new_id(served: Site) -> None:
    (job,) = served.mlpq("submit", *QUICK, "--experiment", "retried", "--device", "mps", "--format", "json").json
    served.mlpq("cancel", job["id"])
    done = served.mlpq("retry", job["id"][:8])
    retried = done.out.strip().removeprefix("job ")
    assert retried != job["id"]
    assert (served.row(job["id"]).status, served.row(retried).status) == ("cancelled", "queued")
    served.mlpq("cancel", retried)


def test_failed_jobs_are_retried_together(served: Site) -> None:
    """The parent's weights are missing first, and restored before the retry."""
    (parent,) = served.mlpq("submit", *QUICK, "--experiment", "repaired", "--wait", "--format", "json").json
    weights = Path(parent["weights_file"])
    aside = weights.rename(weights.with_suffix(".aside"))
    command = ("submit", "--continue-from", parent["id"], "--experiment", "repaired", "--format", "json")
    (child,) = served.mlpq(*command, "--optimizer", "adam", "--attempts", 1).json
    failed = served.wait_for(child["id"], "failed")
    assert "are missing: set MLPQ_ARTIFACTS_DIR" in (failed.error or "")
    aside.rename(weights)
    retried = served.mlpq("retry", "--failed", "repaired").out.strip().removeprefix("job ")
    assert served.wait_for(retried, "succeeded").parent_id == parent["id"]
    assert "nothing to retry" in served.mlpq("retry", "--failed", "repaired").out


def test_db_current_and_upgrade_print_the_schema(served: Site) -> None:
    assert "mlpq needs" in served.mlpq("db", "current").out
    assert "has schema" in served.mlpq("db", "upgrade").out


def test_doctor_reports_that_everything_works(served: Site) -> None:
    out = served.mlpq("doctor").out
    for piece in (*served.env, "workers alive", "torch", "MLPQ_THREADS", "MLPQ_ARTIFACTS_DIR"):
        assert piece in out
    assert "reachable" in out


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("MLPQ_DATABASE_URL", "postgresql+psycopg://nobody:secret@127.0.0.1:9/nothing"),
        ("MLPQ_BROKER_URL", "redis://:secret@127.0.0.1:9/0"),
    ],
)
def test_doctor_reports_unreachable_services_without_passwords(served: Site, name: str, value: str) -> None:
    done = served.mlpq("doctor", env={name: value}, status=1)
    (line,) = [line for line in done.out.splitlines() if name in line]
    assert line.startswith("no")
    assert "secret" not in done.out + done.err


def test_json_output_is_valid_json(served: Site, lab: list[dict[str, Any]]) -> None:
    for command in (("jobs",), ("results",), ("show", lab[0]["id"])):
        json.loads(served.mlpq(*command, "--format", "json").out)
