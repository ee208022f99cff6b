"""The Python interface does what the commands do: spec files, lists, errors, exports, retries and data sets."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import mlpq
from tests.support.installations import EMBEDDED, Site
from tests.support.job_steps import claim_one, fail
from tests.support.python_interface import SWEEP, lab_of

FILE = "dataset: digits\nepochs: 2\noptimizer:\n- {name: sgd, lr: [0.5, 0.1]}\nseeds: 0..2\n"


@pytest.fixture(scope="module")
def finished(served: Site) -> Iterator[mlpq.Lab]:
    """A lab that has the experiment "listed" with two optimizers and two seeds, and "diverged" with one job."""
    with lab_of(served) as lab:
        lab.submit(experiment="listed", **SWEEP, seeds=range(2)).wait()
        with pytest.warns(UserWarning, match="1 diverged of 1 job: results.. has the errors, retry.. runs failed jobs"):
            lab.submit(experiment="diverged", **{**SWEEP, "activation": "relu", "optimizer": "sgd:lr=1e30"}).wait()
        yield lab


def test_spec_file_is_submitted_and_keys_take_precedence(alone: Site, tmp_path: Path) -> None:
    lab = lab_of(alone)
    file = tmp_path / "rates.yaml"
    file.write_text(FILE)
    run = lab.submit(file)
    assert (run.experiment, run.new) == ("rates", 6)
    assert alone.mlpq("submit", file).out.startswith("experiment rates: 0 jobs submitted, 6 already there")
    fewer = lab.submit(str(file), seeds=[0], epochs=3, experiment="fewer")
    assert set(fewer.results()["epochs"]) == {3}
    assert fewer.new == 2
    for name in ("none.yaml", "-"):
        with pytest.raises(mlpq.SpecError, match=f"can't read {name}: No such file"):
            lab.submit(name)


def test_sweeps_given_as_a_key_replace_those_of_the_file(alone: Site, tmp_path: Path) -> None:
    (tmp_path / "list.yaml").write_text("dataset: digits\nsweeps:\n- optimizer: sgd\n- optimizer: adam\n")
    run = lab_of(alone).submit(tmp_path / "list.yaml", sweeps=[{"optimizer": "rmsprop", "lr": [0.1, 0.2]}])
    assert list(run.results()["optimizer"]) == ["rmsprop"] * 2


def test_failed_jobs_are_retried_by_run_by_experiment_and_by_job(alone: Site) -> None:
    lab = lab_of(alone)
    run = lab.submit(experiment="failing", dataset="digits", seeds=range(2), attempts=1)
    for _ in run.ids:
        assert fail(alone.store, claim_one(alone.store)) == "failed"
    (first, other) = run.ids
    by_job = lab.retry(first)
    assert (by_job.new, by_job.experiment) == (1, "failing")
    assert lab.retry(first).new == 0
    rest = lab.retry("failing")
    assert rest.new == 1
    assert run.retry().ids == ()
    assert repr(lab.retry("failing").wait()) == "Run of 0 jobs in the experiment failing"
    assert {*lab.experiment("failing").ids} == {first, other, *by_job.ids, *rest.ids}
    with pytest.raises(mlpq.NotFoundError, match="no experiment is called 'nobody'"):
        lab.retry("nobody")


def test_jobs_are_cancelled_by_experiment_and_by_job(alone: Site) -> None:
    lab = lab_of(alone)
    run = lab.submit(experiment="waiting", dataset="digits", seeds=range(3))
    assert lab.cancel(run.ids[0][:12]) == {"cancelled": 1}
    assert lab.cancel("waiting") == {"cancelled": 2}
    assert lab.cancel("waiting") == {}
    assert lab.experiment("waiting").counts == {"cancelled": 3}
    assert lab.retry(run.ids[0]).new == 1


@pytest.mark.parametrize("served", [EMBEDDED], indirect=True)
def test_experiments_and_workers_are_frames(finished: mlpq.Lab, served: Site) -> None:
    listed = finished.experiments(1000).set_index("experiment")
    row = listed.loc["listed"]
    assert (row["jobs"], row["succeeded"], row["queued"], row["n"], row["arms"]) == (4, 4, 0, 2, 2)
    (found,) = [each for each in served.mlpq("experiments", "--limit", 1000, "--format", "json").json
                if each["experiment"] == "listed"]  # fmt: skip
    for column in ("best_arm", "test_accuracy", "sd", "owner"):
        assert row[column] == found[column] is not None
    assert len(finished.experiments(1)) == 1
    workers = finished.workers()
    assert list(workers["device"]) == ["cpu"]
    assert str(workers.dtypes["beat_at"]) == "datetime64[us, UTC]"


@pytest.mark.parametrize("served", [EMBEDDED], indirect=True)
def test_job_shows_itself_with_its_curve_attempts_and_logs(finished: mlpq.Lab, served: Site) -> None:
    run = finished.experiment("listed")
    job = finished.show(run.ids[0][:8])
    assert (job.id, job.experiment, job.status) == (run.ids[0], "listed", "succeeded")
    assert list(job.epochs()["epoch"]) == [1, 2]
    assert list(job.attempts["outcome"]) == ["succeeded"]
    assert job.logs + "\n" == served.mlpq("logs", job.id).out
    weights = run.results()["weights_sha256"][0]
    for shown in (repr(job), job._repr_html_()):
        assert job.id in shown
        assert weights in shown.replace("\n", "")
    assert "<summary>Environment of the last attempt</summary>" in job._repr_html_()
    (diverged,) = finished.experiment("diverged").ids
    assert finished.show(diverged).status == "diverged"
    assert "the loss became" in finished.show(diverged).logs
    assert finished.retry("diverged").ids == ()


@pytest.mark.parametrize("served", [EMBEDDED], indirect=True)
def test_errors_are_those_of_the_command(finished: mlpq.Lab, served: Site) -> None:
    found = finished.errors("listed", by="optimizer")
    shown = served.mlpq("errors", "listed", "--by", "optimizer", "--format", "json").json
    assert found.arms[["arm", "accuracy", "churn"]].to_dict("records") == [
        {name: arm[name] for name in ("arm", "accuracy", "churn")} for arm in shown["arms"]
    ]
    assert list(found.arms["n"]) == [2, 2]
    assert list(found.pairs["churn"]) == [pair["churn"] for pair in shown["pairs"]]
    assert len(found.classes) == 20
    assert found.classes["images"].sum() == 1000
    wrong = found.always_wrong
    assert len(wrong) == sum(len(arm["always_wrong"]) for arm in shown["arms"])
    assert list(found.arms["always_wrong"]) == list(wrong.groupby("arm", sort=False).size())
    per_seed = found.confusions.groupby("arm")["images_per_seed"].sum() / 500
    for arm in shown["arms"]:
        assert per_seed[arm["arm"]] == pytest.approx(1 - arm["accuracy"])
    assert "true class \\ predicted" in repr(found)
    assert found._repr_html_().count("data:image/svg+xml") == 3
    with pytest.raises(mlpq.SpecError):
        finished.errors("listed", by="colour")


@pytest.mark.parametrize("served", [EMBEDDED], indirect=True)
def test_job_is_exported_by_the_name_of_the_file(finished: mlpq.Lab, served: Site, tmp_path: Path) -> None:
    job = finished.experiment("listed").ids[0]
    for name, option in (("job.py", "--script"), ("job.ipynb", "--notebook"), ("job.yaml", "--spec")):
        assert finished.export(job[:10], tmp_path / name) == tmp_path / name
        assert (tmp_path / name).read_text() == served.mlpq("export", job, option).out
    assert finished.submit(tmp_path / "job.yaml").ids == (job,)
    with pytest.raises(mlpq.MlpqError, match=r"name the file NAME\.py or NAME\.ipynb or NAME\.yaml"):
        finished.export(job, "job.txt")


def test_own_data_set_is_added_listed_and_submitted(alone: Site, tmp_path: Path) -> None:
    lab = lab_of(alone)
    table = tmp_path / "flowers.csv"
    lines = [f"{i % 7},{i % 5 + 0.5},{'ab'[i % 2]}" for i in range(60)]
    table.write_text("\n".join(["length,width,kind", *lines]) + "\n")
    added = lab.add_data("flowers", table, target="kind", test=0.2)
    assert (added.train + added.test, added.features, added.classes) == (60, 2, 2)
    assert "test rows: 0.2 of each class, drawn by split seed 0" in added.notes
    shown = alone.mlpq("data", "show", "flowers", "--format", "json").json
    assert (added.sha256, dict(added.about)) == (shown["sha256"], shown["about"])
    assert lab.data_set("flowers").reference == added.reference
    listed = lab.data_sets().set_index("name")
    assert listed.loc["flowers", "sha256"] == added.sha256
    assert list(listed.index) == [each["name"] for each in alone.mlpq("data", "list", "--format", "json").json]
    assert list(listed.loc["digits", ["built_in", "train", "test"]]) == [True, 1297, 500]
    assert lab.submit(dataset="flowers", epochs=1).new == 1
    with pytest.raises(mlpq.SpecError, match=r"unknown scale 'units' \(did you mean 'unit'"):
        lab.add_data("flowers", table, target="kind", test=0.2, scale="units")
    with pytest.raises(mlpq.DataError, match="is built in"):
        lab.data_set("digits")
