"""Own data sets by the command line: added, trained on, compared, sent to workers, replaced and removed."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from tests.support.installations import Site

JOBS = ("--epochs", 10, "--hidden", "8", "--seeds", "0,1", "--optimizer", "sgd:lr=0.5", "--optimizer", "adam:lr=0.01")


def table(folder: Path, seed: int = 0, rows: int = 300) -> Path:
    """A table of three classes, with a wrong class in every fifth row."""
    draws = np.random.default_rng(seed)
    path = folder / f"table-{seed}.csv"
    with path.open("w", newline="") as file:
        lines = csv.writer(file)
        lines.writerow(["length", "width", "kind"])
        for i in range(rows):
            lines.writerow(
                [f"{draws.normal(i % 3, 0.3):.4f}", f"{draws.normal(0, 1):.4f}", "abc"[(i + (i % 5 == 0)) % 3]]
            )
    return path


def add(site: Site, path: Path, name: str = "shapes", **env: str) -> str:
    """Add a data set; its SHA-256."""
    out = site.mlpq("data", "add", name, path, "--target", "kind", "--test", "0.2", env=env).out
    return next(line.removeprefix("SHA-256 ") for line in out.splitlines() if line.startswith("SHA-256 "))


def test_own_table_goes_from_a_file_to_a_verdict(site: Site, tmp_path: Path) -> None:
    sha256 = add(site, table(tmp_path))
    with site.worker():
        site.mlpq("submit", "--experiment", "own", "--dataset", "shapes", *JOBS, "--wait")
        assert "same bits" in site.mlpq("verify", "own", "--sample", 1).out
    rows = site.mlpq("results", "own", "--format", "json").json
    assert {(row["dataset"], row["data_sha256"], row["test_total"]) for row in rows} == {("shapes", sha256, 60)}
    assert "on shapes" in site.mlpq("compare", "own").out
    errors = site.mlpq("errors", "own")
    assert "classes of shapes" in errors.out
    assert "always wrong with" in errors.out
    (first, *_) = site.mlpq("errors", "own", "--format", "json").json["arms"]
    assert [each["name"] for each in first["classes"]] == ["a", "b", "c"]
    site.mlpq("report", "own", "-o", tmp_path / "own.html")
    page = (tmp_path / "own.html").read_text()
    assert "length" in page
    assert "row" in page
    assert f"shapes@{sha256[:8]}" in site.mlpq("show", rows[0]["id"]).out


def test_same_name_with_other_content_is_another_problem(site: Site, tmp_path: Path) -> None:
    first = add(site, table(tmp_path))
    submit = ("submit", "--experiment", "own", "--dataset")
    assert "4 jobs submitted" in site.mlpq(*submit, "shapes", *JOBS).out
    second = add(site, table(tmp_path, seed=1))
    assert "4 jobs submitted" in site.mlpq(*submit, "shapes", *JOBS).out
    assert "0 jobs submitted, 4 already there" in site.mlpq(*submit, f"shapes@{first[:8]}", *JOBS).out
    with site.worker():
        site.mlpq("watch", "own")
    document = site.mlpq("compare", "own", "--by", "optimizer", "--format", "json").json
    labels = {side["arm"] for side in document["arms"]}
    assert labels == {f"{name}, shapes@{sha[:8]}" for name in ("sgd", "adam") for sha in (first, second)}
    listed = [each for each in site.mlpq("data", "list", "--format", "json").json if not each["built_in"]]
    assert [each["sha256"] for each in listed] == [second, first]
    assert "has 2 contents: name one of" in site.mlpq("data", "remove", "shapes", status=2).err


def test_worker_elsewhere_pulls_what_was_pushed(site: Site, tmp_path: Path) -> None:
    sha256 = add(site, table(tmp_path))
    elsewhere = {"MLPQ_DATA_DIR": str(tmp_path / "elsewhere")}
    (job,) = site.submit("--experiment", "far", "--dataset", "shapes", "--epochs", 1)
    with site.worker(env=elsewhere):
        waiting = site.mlpq("jobs", "far").out
        assert f"1 job waiting for a worker that has the data set shapes@{sha256[:8]}" in waiting
        assert "mlpq data push shapes@" in waiting
        assert "is not on this machine" in site.mlpq("data", "push", "shapes", env=elsewhere, status=2).err
        assert "workers pull it" in site.mlpq("data", "push", "shapes").out
        site.wait_for(job["id"], "succeeded")
    assert (tmp_path / "elsewhere" / "own" / f"{sha256}.safetensors").is_file()
    there = {"MLPQ_DATA_DIR": str(tmp_path / "third")}
    assert "pulled into" in site.mlpq("data", "pull", "shapes", env=there).out
    assert "is here" in site.mlpq("data", "pull", "shapes", env=there).out


def test_data_set_is_removed_once_no_job_needs_it(alone: Site, tmp_path: Path) -> None:
    sha256 = add(alone, table(tmp_path))
    (job,) = alone.submit("--experiment", "own", "--dataset", "shapes")
    refused = alone.mlpq("data", "remove", "shapes", status=2).err
    assert refused == f"mlpq: 1 unfinished job of shapes@{sha256[:8]}: wait until finished, or mlpq cancel first\n"
    alone.mlpq("cancel", job["id"])
    assert "and its file deleted" in alone.mlpq("data", "remove", "shapes").out
    assert not (alone.folder / "home" / "data" / "own" / f"{sha256}.safetensors").exists()
    assert "unknown data set 'shapes'" in alone.mlpq("submit", "--dataset", "shapes", status=2).err
    assert alone.mlpq("show", job["id"]).out


def test_show_and_doctor_know_the_file(alone: Site, tmp_path: Path) -> None:
    sha256 = add(alone, table(tmp_path))
    shown = alone.mlpq("data", "show", "shapes").out
    assert sha256 in shown
    assert "standardize" in shown
    assert "your" in alone.mlpq("doctor").out.split()  # "1 file of your own data sets", in the lines of a narrow cell
    path = alone.folder / "home" / "data" / "own" / f"{sha256}.safetensors"
    path.write_bytes(b"x")
    assert "damaged:" in alone.mlpq("doctor", status=None).out.split()
    assert "damaged:" in alone.mlpq("data", "list").out.split()
    for name in ("mnist", "shapes@12345678", "nothing", "../x"):
        assert len(alone.mlpq("data", "show", name, status=2).err.splitlines()) == 1


def test_unknown_data_set_is_one_line_and_creates_no_database(alone: Site, tmp_path: Path) -> None:
    env = {"MLPQ_HOME": str(tmp_path / "new")}
    done = alone.mlpq("submit", "--dataset", "shapes", env=env, status=2)
    assert done.err.startswith("mlpq: unknown data set 'shapes' (choose from: digits, fashion-mnist")
    assert not (tmp_path / "new").exists()


@pytest.mark.xdist_group("ranks")  # tests with ranks at the same time would only wait for each other
def test_ranks_record_and_show_errors_among_300_classes(alone: Site, tmp_path: Path) -> None:
    draws = np.random.default_rng(0)
    labels = np.arange(1201) % 300
    images = draws.integers(0, 200, (300, 4, 4, 3))[labels] + draws.integers(0, 50, (1201, 4, 4, 3))
    labels[::7] = (labels[::7] + 1) % 300  # wrong ones, which no network predicts
    np.savez(tmp_path / "many.npz", X=images.astype(np.uint8), y=labels)
    alone.mlpq("data", "add", "many", tmp_path / "many.npz", "--test", "0.25")
    model = ("--dataset", "many", "--hidden", 64, "--activation", "relu", "--optimizer", "adam:lr=0.01")
    jobs = (*model, "--epochs", 6, "--batch-size", 100, "--seeds", 0, "--world-size", 2)
    alone.mlpq("submit", "--experiment", "ranks", *jobs, "--wait")
    (row,) = alone.mlpq("jobs", "ranks", "--format", "json").json
    result = alone.result(row["id"])
    assert (result.world_size, result.test_total) == (2, 300)
    (arm,) = alone.mlpq("errors", "ranks", "--format", "json").json["arms"]
    assert len(arm["classes"]) == 300
    assert arm["accuracy"] == pytest.approx(result.test_correct / 300)
    predicted = {image["predicted"] for image in arm["always_wrong"]}
    assert max(map(int, predicted)) > 255
    alone.mlpq("report", "ranks", "-o", tmp_path / "ranks.html")
    assert "data:image/png" in (tmp_path / "ranks.html").read_text()
