"""The textbook's jobs on real data, through the queue: its figures, equal on both kinds of sites."""

from __future__ import annotations

from typing import Any

import pytest

from mlpq.spec.presets import TEXTBOOK_FIGURES
from tests.support.installations import EMBEDDED, SERVICES

ROUNDING = 5  # images: another order of sums may change the class of a few

DOCUMENTED = {
    "id", "experiment", "status", "dataset", "hidden", "activation", "optimizer", "lr", "seed", "epochs",
    "batch_size", "test_correct", "test_total", "test_accuracy", "weights_sha256", "train_seconds", "device",
    "world_size", "gang_size", "engine", "attempt", "spec_hash", "parent_id",
}  # fmt: skip


@pytest.fixture(params=[EMBEDDED, SERVICES])
def run(request: pytest.FixtureRequest, textbook: dict[str, dict[str, Any]]) -> dict[str, Any]:
    return textbook[request.param]


def test_every_job_of_the_textbook_succeeds(run: dict[str, Any]) -> None:
    rows = run["rows"]
    assert [(row["status"], row["attempt"], row["test_total"]) for row in rows] == [("succeeded", 1, 10_000)] * 3
    assert [row["hidden"] for row in rows] == [[], [32], [32]]
    assert [row["optimizer"] for row in rows] == ["sgd", "sgd", "adam"]
    assert rows[2]["parent_id"] == rows[1]["id"]


def test_figures_equal_the_textbooks(run: dict[str, Any]) -> None:
    """7867, 6404 and 8705 of 10,000 at the end, and 8502 at epoch 3 of the last job."""
    logistic, mlp, adam = run["rows"]
    reached = [
        logistic["test_correct"],
        mlp["test_correct"],
        adam["curve"][2]["test_correct"],
        adam["test_correct"],
    ]
    assert adam["curve"][2]["epoch"] == 3
    counted = [figure.counted for figure in TEXTBOOK_FIGURES]
    assert counted == [7867, 6404, 8502, 8705]
    assert [abs(ours - theirs) <= ROUNDING for ours, theirs in zip(reached, counted, strict=True)] == [True] * 4, (
        reached
    )


def test_figures_are_those_of_the_last_epoch(run: dict[str, Any]) -> None:
    for row in run["rows"]:
        assert [epoch["epoch"] for epoch in row["curve"]] == list(range(1, 11))
        assert row["test_correct"] == row["curve"][-1]["test_correct"]
        assert row["test_accuracy"] == row["test_correct"] / row["test_total"]
        assert (row["best_epoch"], row["epochs_run"]) == (10, 10)


def test_both_sites_train_the_same_bits(textbook: dict[str, dict[str, Any]]) -> None:
    embedded, services = (textbook[kind]["rows"] for kind in (EMBEDDED, SERVICES))
    for key in ("id", "spec_hash", "weights_sha256", "test_correct", "test_loss"):
        assert [row[key] for row in embedded] == [row[key] for row in services], key
    for one, other in zip(embedded, services, strict=True):
        drop = {"seconds"}
        assert [{k: v for k, v in epoch.items() if k not in drop} for epoch in one["curve"]] == [
            {k: v for k, v in epoch.items() if k not in drop} for epoch in other["curve"]
        ]


def test_every_documented_key_has_a_value(run: dict[str, Any]) -> None:
    for row in (*run["rows"], *run["results"]):
        assert set(row) >= DOCUMENTED
        assert {key for key in DOCUMENTED if row[key] is None} <= {"parent_id"}
        assert (row["world_size"], row["gang_size"]) == (1, 1)


def test_results_are_the_same_afterwards(run: dict[str, Any]) -> None:
    keys = DOCUMENTED | {"test_loss", "created_at", "finished_at"}
    assert [{key: row[key] for key in keys} for row in run["results"]] == [
        {key: row[key] for key in keys} for row in run["rows"]
    ]


def test_progress_names_each_finished_job(run: dict[str, Any]) -> None:
    assert "[3 of 3]" in run["progress"]
    assert "adam lr=0.001, seed 42" in run["progress"]


def test_show_has_the_attempt_and_its_environment(run: dict[str, Any]) -> None:
    (attempt,) = run["shown"]["attempts"]
    assert attempt["outcome"] == "succeeded"
    assert "epoch 10: train loss" in attempt["log_tail"]
    environment = attempt["environment"]
    assert environment["arithmetic"] == 1
    assert {"python", "kernel", "cpu", "threads", "device", "world_size", "code_version", "data_checksum"} <= set(
        environment
    )


def test_second_submission_trains_nothing_and_shows_the_figures(run: dict[str, Any]) -> None:
    assert "0 jobs submitted, 3 already there" in run["table"]
    for figure in TEXTBOOK_FIGURES:
        assert figure.printed in run["table"]
        assert f"{figure.counted}/10000" in run["table"]
