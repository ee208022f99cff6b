"""`mlpq submit` with all its options, on the small data set, with a worker that trains the jobs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from mlpq.spec.optimizers import OPTIMIZERS
from tests.support.installations import Site

QUICK = ("--dataset", "digits", "--epochs", 2)


def trained(site: Site, *arguments: object, status: int = 0) -> list[dict[str, Any]]:
    """Submit and wait; the jobs."""
    rows = site.mlpq("submit", *arguments, "--wait", "--format", "json", status=status).json
    assert isinstance(rows, list)
    return rows


def test_sweep_trains_every_combination(served: Site) -> None:
    rows = trained(
        served, *QUICK, "--experiment", "sweep", "--optimizer", "sgd", "--optimizer", "adam:lr=0.01",
        "--lr", "0.1,0.01", "--seeds", "0..1",
    )  # fmt: skip
    assert [(row["optimizer"], row["lr"], row["seed"]) for row in rows] == [
        ("sgd", 0.1, 0), ("sgd", 0.1, 1), ("sgd", 0.01, 0), ("sgd", 0.01, 1), ("adam", 0.01, 0), ("adam", 0.01, 1),
    ]  # fmt: skip
    assert {row["status"] for row in rows} == {"succeeded"}
    assert len({row["weights_sha256"] for row in rows}) == 6
    table = served.mlpq("results", "sweep").out
    assert table.count("±") == 4  # the heading, and three arms


def test_every_option_that_describes_the_training_takes_several_values(served: Site) -> None:
    swept: dict[str, list[Any]] = {
        "hidden": [[8], [16, 8]], "activation": ["relu", "tanh"], "bias": [True, False], "epochs": [1, 2],
        "initialisation": ["torch", "truncated-normal"], "patience": [None, 1],
    }  # fmt: skip
    rows = trained(
        served, "--dataset", "digits", "--experiment", "all", "--hidden", 8, "--hidden", "16,8", "--activation", "relu",
        "--activation", "tanh", "--bias", "true", "--no-bias", "--initialisation", "torch,truncated-normal",
        "--epochs", 1, "--epochs", 2, "--validation", "0.1", "--patience", "none", "--patience", 1,
    )  # fmt: skip
    assert [tuple(row[name] for name in swept) for row in rows] == [
        (hidden, activation, bias, epochs, initialisation, patience)
        for hidden in swept["hidden"]
        for activation in swept["activation"]
        for bias in swept["bias"]
        for initialisation in swept["initialisation"]
        for epochs in swept["epochs"]
        for patience in swept["patience"]
    ]
    assert {row["status"] for row in rows} == {"succeeded"}


def test_file_with_several_sweeps_is_one_experiment(served: Site) -> None:
    sweeps = [
        {"optimizer": "sgd", "lr": [0.1, 0.4], "batch_size": [16, 64], "zip": ["lr", "batch_size"]},
        {"optimizer": "adam", "lr": [0.01, 0.001]},
    ]
    document = {"dataset": "digits", "epochs": 2, "seeds": "0..1", "sweeps": sweeps}
    (served.folder / "both.yaml").write_text(yaml.safe_dump(document))
    planned = served.mlpq("submit", "both.yaml", "--dry-run").out
    assert "experiment both: 8 jobs to submit in 4 arms; nothing was written" in planned
    rows = trained(served, "both.yaml", "--epochs", 1)
    assert [(row["optimizer"], row["lr"], row["batch_size"], row["seed"]) for row in rows] == [
        (*arm, seed)
        for arm in (("sgd", 0.1, 16), ("sgd", 0.4, 64), ("adam", 0.01, 32), ("adam", 0.001, 32))
        for seed in (0, 1)
    ]
    assert {(row["experiment"], row["epochs"], row["status"]) for row in rows} == {("both", 1, "succeeded")}
    again = trained(served, "both.yaml", "--epochs", 1, "--zip", "lr,batch_size", "--batch-size", "16,64")
    assert [row["submitted"] for row in again] == [False] * 4 + [True] * 4


def test_every_option_is_stored(served: Site) -> None:
    (row,) = trained(
        served, "--experiment", "options", "--dataset", "digits", "--hidden", "16,8", "--activation", "tanh",
        "--no-bias", "--optimizer", "sgd:momentum=0.9", "--lr", "0.05", "--epochs", 3, "--batch-size", 16,
        "--seeds", 7, "--weight-decay", "1e-4", "--l1", "1e-6", "--dropout", "0.1", "--validation", "0.2",
        "--patience", 2, "--device", "auto", "--priority", 3, "--initialisation", "truncated-normal",
    )  # fmt: skip
    expected = {
        "experiment": "options", "dataset": "digits", "hidden": [16, 8], "activation": "tanh", "bias": False,
        "optimizer": "sgd", "lr": 0.05, "epochs": 3, "batch_size": 16, "seed": 7, "weight_decay": 1e-4, "l1": 1e-6,
        "dropout": 0.1, "validation": 0.2, "patience": 2, "requested_device": "auto", "priority": 3,
        "status": "succeeded", "test_total": 500, "validation_total": 259, "initialisation": "truncated-normal",
    }  # fmt: skip
    assert {key: row[key] for key in expected} == expected
    assert row["optimizer_settings"] == {"momentum": 0.9, "dampening": 0.0, "weight_decay": 1e-4, "nesterov": False}
    for epoch in row["curve"]:
        assert {key for key, value in epoch.items() if value is None} == set()


def test_every_optimizer_trains(served: Site) -> None:
    options = [word for name in OPTIMIZERS for word in ("--optimizer", name)]
    rows = trained(served, *QUICK, "--experiment", "optimizers", *options)
    assert [row["optimizer"] for row in rows] == list(OPTIMIZERS)
    assert {row["status"] for row in rows} == {"succeeded"}
    assert len({row["weights_sha256"] for row in rows}) == len(OPTIMIZERS)


def test_yaml_and_json_files_are_equivalent(served: Site) -> None:
    document = {
        "dataset": "digits", "epochs": 2, "hidden": [16], "seeds": "0..1",
        "optimizer": ["sgd:lr=0.1", {"name": "adam", "betas": [0.8, 0.99]}],
    }  # fmt: skip
    (served.folder / "from-yaml.yaml").write_text(yaml.safe_dump(document))
    (served.folder / "from-json.json").write_text(json.dumps(document, indent="\t"))
    first = trained(served, "from-yaml.yaml")
    second = trained(served, "from-json.json")
    assert [row["experiment"] for row in (first[0], second[0])] == ["from-yaml", "from-json"]
    assert [row["spec_hash"] for row in first] == [row["spec_hash"] for row in second]
    assert [row["weights_sha256"] for row in first] == [row["weights_sha256"] for row in second]


def test_options_take_precedence_over_a_file_from_standard_input(served: Site) -> None:
    document = "dataset: digits\nepochs: 5\nexperiment: piped\nlr: [0.1]\n"
    done = served.mlpq("submit", "-", "--epochs", 1, "--lr", "0.2", "--format", "json", input=document)
    (row,) = done.json
    assert (row["experiment"], row["epochs"], row["lr"]) == ("piped", 1, 0.2)


@pytest.mark.parametrize("format_", ["table", "json"])
def test_dry_run_prints_the_jobs_and_writes_nothing(alone: Site, format_: str) -> None:
    sweep = (*QUICK, "--experiment", "planned", "--lr", "0.1,0.2", "--seeds", "0..9")
    done = alone.mlpq("submit", *sweep, "--dry-run", "--format", format_)
    assert set(alone.row_counts().values()) == {0}
    if format_ == "json":
        assert [row["seed"] for row in done.json] == [*range(10)] * 2
        assert {row["experiment"] for row in done.json} == {"planned"}
    else:
        assert "0..9" in done.out
        assert "20 jobs" in done.out


def test_dry_run_of_deepobs_mlp(alone: Site) -> None:
    preset = ("--preset", "fmnist_mlp", "--optimizer", "sgd", "--optimizer", "adam", "--lr", "0.1,0.001")
    done = alone.mlpq("submit", *preset, "--seeds", "0..4", "--epochs", 5, "--dry-run")
    assert done.out.count("MLP 1000,500,100 relu, truncated-normal") == 4
    assert "experiment fmnist_mlp: 20 jobs to submit" in done.out
    (spec, *_) = alone.mlpq("submit", *preset, "--dry-run", "--format", "json").json
    assert (spec["initialisation"], spec["batch_size"], spec["epochs"]) == ("truncated-normal", 128, 100)


def test_dry_run_needs_no_database(alone: Site) -> None:
    nowhere = {"MLPQ_DATABASE_URL": "postgresql+psycopg://nobody@127.0.0.1:9/nothing"}
    assert "1 job" in alone.mlpq("submit", *QUICK, "--dry-run", env=nowhere).out


def test_submission_trains_nothing_twice_without_again(served: Site) -> None:
    command = (*QUICK, "--experiment", "repeated", "--seeds", "0..1")
    first = trained(served, *command)
    second = trained(served, *command)
    assert [row["id"] for row in second] == [row["id"] for row in first]
    assert [row["submitted"] for row in first + second] == [True, True, False, False]
    assert [row["finished_at"] for row in second] == [row["finished_at"] for row in first]
    wider = trained(served, *QUICK, "--experiment", "repeated", "--seeds", "0..2")
    assert [row["submitted"] for row in wider] == [False, False, True]
    again = trained(served, *command, "--again")
    assert not {row["id"] for row in again} & {row["id"] for row in wider}
    assert [row["weights_sha256"] for row in again] == [row["weights_sha256"] for row in first]
    assert len(served.mlpq("results", "repeated", "--format", "json").json) == 5


def test_job_continues_from_weights_and_generators_of_another(served: Site) -> None:
    """Two epochs and three more equal five, to the bit: plain SGD has no state."""
    sgd = ("--optimizer", "sgd:lr=0.1", "--dropout", "0.2")
    (whole,) = trained(served, "--dataset", "digits", "--epochs", 5, "--experiment", "whole", *sgd)
    done = served.mlpq("submit", *QUICK, "--experiment", "parts", *sgd)
    parent = done.out.splitlines()[-1].removeprefix("job ")
    (child,) = trained(served, "--continue-from", parent[:8], "--epochs", 3, "--experiment", "parts", *sgd[:2])
    assert (child["status"], child["parent_id"], child["seed"]) == ("succeeded", parent, 42)
    assert child["weights_sha256"] == whole["weights_sha256"]
    assert [epoch["test_correct"] for epoch in child["curve"]] == [
        epoch["test_correct"] for epoch in whole["curve"][2:]
    ]


def test_continued_job_inherits_all_but_the_optimizer(served: Site) -> None:
    model = ("--hidden", "16,8", "--activation", "relu", "--no-bias", "--batch-size", 64, "--seeds", 5)
    (parent,) = trained(served, *QUICK, "--experiment", "family", *model, "--optimizer", "sgd")
    (child,) = trained(served, "--continue-from", parent["id"], "--optimizer", "adam", "--experiment", "family")
    same = ("dataset", "hidden", "activation", "bias", "batch_size", "seed", "epochs")
    assert [child[key] for key in same] == [parent[key] for key in same]
    assert (child["optimizer"], child["lr"]) == ("adam", 0.001)


def test_early_stopping_keeps_the_best_epoch_by_validation_loss(served: Site) -> None:
    (row,) = trained(
        served, "--dataset", "digits", "--epochs", 200, "--experiment", "early", "--hidden", "64", "--optimizer",
        "adam:lr=0.03", "--validation", "0.2", "--patience", 3,
    )  # fmt: skip
    losses = [epoch["validation_loss"] for epoch in row["curve"]]
    best = losses.index(min(losses))
    assert row["epochs_run"] == len(losses) == best + 1 + 3 < 200
    assert row["best_epoch"] == best + 1
    for key in ("test_correct", "test_loss", "validation_correct", "validation_total", "validation_loss"):
        assert row[key] == row["curve"][best][key]


def test_non_finite_loss_ends_the_job_as_diverged(served: Site) -> None:
    rows = trained(
        served, *QUICK, "--experiment", "diverging", "--activation", "relu", "--optimizer", "sgd:lr=1e30",
        "--optimizer", "sgd:lr=0.1", status=1,
    )  # fmt: skip
    assert [(row["status"], row["outcome"]) for row in rows] == [("failed", "diverged"), ("succeeded", "succeeded")]
    assert rows[0]["error"].startswith("the loss became ")
    assert (rows[0]["attempt"], rows[0]["test_correct"]) == (1, None)
    shown = served.mlpq("show", rows[0]["id"], "--format", "json").json
    assert [attempt["outcome"] for attempt in shown["attempts"]] == ["diverged"]
    table = served.mlpq("results", "diverging").out
    assert "diverged" in table
    assert "the loss became" in table


def test_jobs_cannot_continue_from_a_diverged_job(served: Site) -> None:
    diverging = ("--activation", "relu", "--optimizer", "sgd:lr=1e30", "--epochs", 100)
    done = served.mlpq("submit", "--dataset", "digits", "--experiment", "doomed", *diverging, "--format", "json")
    parent = done.json[0]["id"]
    served.wait_for(parent, "failed")
    done = served.mlpq("submit", "--continue-from", parent, "--experiment", "doomed", status=2)
    assert f"job {parent} failed, so no job can continue from it" in done.err


def test_table_shows_what_was_submitted(served: Site) -> None:
    done = served.mlpq("submit", *QUICK, "--experiment", "shown", "--wait")
    assert "experiment shown: 1 job submitted" in done.out
    assert "/500" in done.out
    assert "[1 of 1]" in done.err
    again = served.mlpq("submit", *QUICK, "--experiment", "shown")
    assert "0 jobs submitted, 1 already there (--again submits them again)" in again.out


def test_textbook_on_other_data_is_not_compared_with_its_figures(served: Site) -> None:
    done = served.mlpq("submit", "--preset", "textbook", "--dataset", "digits", "--epochs", 2, "--wait")
    assert "7867" not in done.out
    assert "its figures are for Fashion-MNIST" in done.out


def test_weights_are_files_named_in_the_database(served: Site) -> None:
    (row,) = trained(served, *QUICK, "--experiment", "weights")
    file = Path(row["weights_file"])
    assert file.is_relative_to(Path(served.env["MLPQ_HOME"]) / "artifacts")
    assert file.stat().st_size > 4 * (64 * 32 + 32 * 10)
