"""The Python interface, over a real database and real workers."""

from __future__ import annotations

import asyncio
import builtins
import html
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import mlpq
from tests.support.installations import EMBEDDED, ROOT, SERVICES, Site
from tests.support.linked_environment import linked_environment

SWEEP: dict[str, Any] = {"dataset": "digits", "optimizer": ["sgd:lr=0.5", "adam:lr=0.01"], "epochs": 2, "hidden": 8}


def lab_of(site: Site, **settings: Any) -> mlpq.Lab:
    given = {name.removeprefix("MLPQ_").lower(): value for name, value in site.env.items()}
    return mlpq.Lab(**{"progress": False, "threads": 1, **given, **settings})


@pytest.fixture
def lab(served: Site) -> Iterator[mlpq.Lab]:
    with lab_of(served) as opened:
        yield opened


@pytest.mark.parametrize("served", [EMBEDDED, SERVICES], indirect=True)
def test_sweep_from_submission_to_a_report(lab: mlpq.Lab, served: Site, tmp_path: Path) -> None:
    run = lab.submit(experiment="in python", **SWEEP, seeds=range(8))
    assert (len(run), run.new, run.experiment) == (16, 16, "in python")
    assert run.wait() is run
    assert run.has_succeeded
    assert lab.submit(experiment="in python", **SWEEP, seeds="0..7").new == 0
    comparison = lab.compare("in python", by="optimizer")
    shown = served.mlpq("compare", "in python", "--by", "optimizer", "--format", "json").json
    assert comparison.verdict == shown["pairs"][0]["verdict"]
    assert list(comparison.arms["arm"]) == [arm["arm"] for arm in shown["arms"]]
    assert list(comparison.arms["mean"]) == [arm["mean"] for arm in shown["arms"]]
    (pair,) = comparison.pairs.to_dict("records")
    assert (pair["difference"], pair["p"]) == (shown["pairs"][0]["difference"], shown["pairs"][0]["p_holm"])
    for format_, text in (("md", comparison.to_markdown()), ("latex", comparison.to_latex())):
        assert served.mlpq("compare", "in python", "--by", "optimizer", "--format", format_).out == text + "\n"
    page = comparison.report(tmp_path / "report.html")
    assert comparison.verdict in page.read_text()


@pytest.mark.parametrize("served", [EMBEDDED], indirect=True)
def test_frames_have_typed_columns(lab: mlpq.Lab) -> None:
    run = lab.submit(experiment="frames", **SWEEP, seeds=(0, 1)).wait()
    results = lab.results("frames")
    assert results.shape[0] == 4
    pd.testing.assert_frame_equal(results, run.results())
    kinds = results.dtypes.astype(str)
    assert kinds[["seed", "test_correct", "patience"]].eq("Int64").all()
    assert kinds[["lr", "test_accuracy", "validation_accuracy"]].eq("float64").all()
    assert kinds[["status", "outcome", "engine"]].eq("category").all()
    assert kinds["finished_at"] == "datetime64[us, UTC]"
    assert kinds["bias"] == "boolean"
    assert set(results["hidden"]) == {"8"}
    epochs = lab.epochs("frames")
    assert list(epochs["epoch"]) == [1, 2] * 4
    assert set(epochs["arm"]) == {"sgd lr=0.5", "adam lr=0.01"}
    last = epochs.groupby("job", sort=False)["test_accuracy"].last()
    assert list(last) == list(results["test_accuracy"])
    found = lab.sql("SELECT optimizer, count(*) AS n, max(finished_at) AS at FROM results GROUP BY optimizer")
    assert found.dtypes.astype(str)["n"] == "Int64"


@pytest.mark.parametrize("served", [EMBEDDED], indirect=True)
def test_charts_are_saved_for_screens_paper_and_slides(lab: mlpq.Lab, tmp_path: Path) -> None:
    lab.submit(experiment="drawn", **SWEEP, seeds=range(3)).wait()
    comparison = lab.compare("drawn")
    for suffix, begin in ((".png", b"\x89PNG"), (".svg", b"<svg"), (".pdf", b"%PDF"), (".html", b"<!doctype html")):
        for style in (None, "paper", "slides"):
            file = comparison.plot("differences", style=style).save(tmp_path / f"{style}{suffix}")
            assert file.read_bytes().startswith(begin)
    narrow = comparison.plot("curves", width="8cm").save(tmp_path / "narrow.svg").read_text()
    assert 'width="226.' in narrow  # points
    with pytest.raises(mlpq.NotFoundError, match="there is no chart race of drawn: no question is registered"):
        comparison.plot("race")
    with pytest.raises(mlpq.SpecError, match="unknown chart 'rats'"):
        comparison.plot("rats")
    with pytest.raises(mlpq.MlpqError, match=r"the suffix of 'x\.gif' is not a supported format"):
        comparison.plot().save("x.gif")


@pytest.mark.parametrize("served", [EMBEDDED], indirect=True)
def test_weights_are_arrays_that_give_the_recorded_accuracy(lab: mlpq.Lab) -> None:
    run = lab.submit(experiment="weights", dataset="digits", optimizer="adam:lr=0.01", hidden=16, seeds=3).wait()
    weights = run.weights()
    assert {name: array.shape for name, array in weights.items()} == {
        "layer0.weight": (16, 64), "layer0.bias": (16,), "layer1.weight": (10, 16), "layer1.bias": (10,),
    }  # fmt: skip
    assert np.array_equal(run.weights(run.ids[0][:8])["layer0.bias"], weights["layer0.bias"])
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    hidden = 1 / (1 + np.exp(-(images[1297:] / 16 @ weights["layer0.weight"].T + weights["layer0.bias"])))
    predicted = (hidden @ weights["layer1.weight"].T + weights["layer1.bias"]).argmax(1)
    assert abs(int((predicted == labels[1297:]).sum()) - int(run.results()["test_correct"][0])) <= 1
    with pytest.raises(mlpq.NotFoundError, match="0 jobs whose id begins with 'ffffffffff'"):
        run.weights("ffffffffff")


@pytest.mark.parametrize("served", [EMBEDDED], indirect=True)
def test_plan_decision_and_verification(lab: mlpq.Lab) -> None:
    keys = {**SWEEP, "optimizer": ["sgd:lr=0.01", "adam:lr=0.01"]}
    lab.submit(experiment="asked", **keys, seeds=range(6)).wait()
    plan = lab.plan("asked", 20)
    assert len(plan.seeds) == max(plan.pairs["seeds_needed"])
    assert plan.submit().new == plan.missing
    decision = lab.decide("asked", 5, max_seeds=30)
    assert decision.wait() is decision
    assert decision.is_over
    assert decision.best == "adam"
    assert "adam is better than sgd" in decision.verdict
    assert lab.decide("asked", 5, max_seeds=30).verdicts == decision.verdicts
    with pytest.raises(mlpq.SpecError, match="registered"):
        lab.decide("asked", 7)
    found = lab.verify("asked", sample=2, seed=1)
    assert found.all_verified
    assert (len(found.grades), found.sample_seed) == (2, 1)
    assert set(found.grades["grade"]) == {"same_bits"}


@pytest.mark.parametrize("served", [EMBEDDED], indirect=True)
def test_arms_are_ranked_over_several_experiments(lab: mlpq.Lab) -> None:
    for name, hidden in (("narrow", 4), ("wide", 32)):
        lab.submit(experiment=name, **{**SWEEP, "hidden": hidden}, seeds=range(3)).wait()
    found = lab.compare(["narrow", "wide"], by="optimizer")
    assert sorted(found.arms["arm"]) == ["adam", "sgd"]
    assert found.verdict in " ".join(repr(found).split())
    assert found.verdict in html.unescape(found._repr_html_())


def test_wait_starts_a_worker_and_so_does_a_with_block(alone: Site) -> None:
    with lab_of(alone) as lab:
        assert lab.submit(experiment="one", **SWEEP).wait().has_succeeded
        with lab.worker():
            assert lab.submit(experiment="two", **SWEEP).wait().has_succeeded
            assert lab.submit(experiment="three", **SWEEP).wait().has_succeeded
        by_worker = lab.sql("SELECT worker, count(*) AS n FROM results GROUP BY worker")
        assert sorted(by_worker["n"]) == [2, 4]


def test_jobs_are_cancelled(alone: Site) -> None:
    run = lab_of(alone).submit(experiment="queued", **SWEEP)
    assert not run.is_finished
    assert sum(run.cancel().values()) == 2
    assert run.counts == {"cancelled": 2}
    assert run.cancel() == {}
    with pytest.warns(UserWarning, match="2 cancelled of 2 jobs"):
        run.wait()


@pytest.mark.parametrize("served", [EMBEDDED], indirect=True)
def test_it_works_in_a_running_event_loop(lab: mlpq.Lab) -> None:
    async def main() -> mlpq.Run:
        return lab.submit(experiment="looped", **SWEEP).wait()

    assert asyncio.run(main()).has_succeeded


@pytest.mark.parametrize(
    "values",
    [range(3), [0, 1, 2], (0, 1, 2), "0..2", "0,1,2", np.arange(3), pd.Series([0, 1, 2]), {0, 1, 2}, iter([0, 1, 2])],
    ids=["range", "list", "tuple", "span", "text", "array", "series", "set", "iterator"],
)
def test_several_values_come_in_any_iterable(values: Any, alone: Site) -> None:
    run = lab_of(alone).submit(experiment="values", dataset="digits", seeds=values)
    assert sorted(run.results()["seed"]) == [0, 1, 2]


def test_errors_are_those_of_the_command_line(alone: Site) -> None:
    lab = lab_of(alone)
    cases: list[tuple[Any, type[Exception], list[str]]] = [
        (lambda: lab.submit(lrs=0.1), mlpq.SpecError, []),  # type: ignore[call-arg]
        (lambda: lab.submit(dataset="mnits"), mlpq.SpecError, ["submit", "--dataset", "mnits"]),
        (lambda: lab.submit(seeds=range(10**9)), mlpq.SpecError, []),
        (lambda: lab.results("none"), mlpq.NotFoundError, ["results", "none"]),
        (lambda: lab.compare("none", metric="speed"), mlpq.SpecError, ["compare", "none", "--metric", "speed"]),
        (lambda: lab.sql("DROP TABLE jobs"), mlpq.QueryError, ["sql", "DROP TABLE jobs"]),
        (lambda: lab.plan("none", -1), mlpq.SpecError, ["plan", "none", "--difference", "-1"]),
        (lambda: lab.verify("abc123"), mlpq.NotFoundError, ["verify", "abc123"]),
        (lambda: lab.worker("tpu").__enter__(), mlpq.SpecError, []),
        (lambda: mlpq.Lab(hom="x"), mlpq.SettingsError, []),  # type: ignore[call-arg]
    ]
    for call, kind, command in cases:
        with pytest.raises(kind) as caught:
            call()
        assert isinstance(caught.value, mlpq.MlpqError)
        assert "\n" not in str(caught.value)
        if command:
            assert alone.mlpq(*command, status=2).err == f"mlpq: {caught.value}\n"


def test_frames_without_pandas_say_what_to_install(alone: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    original = builtins.__import__

    def without_pandas(name: str, *arguments: Any) -> Any:
        if name == "pandas":
            raise ImportError(name)
        return original(name, *arguments)

    run = lab_of(alone).submit(experiment="bare", **SWEEP)
    monkeypatch.setattr(builtins, "__import__", without_pandas)
    assert "2 queued" in repr(run)
    with pytest.raises(mlpq.MlpqError, match=r"need pandas: pip install 'mlpq\[notebook\]'"):
        run.results()


@pytest.mark.parametrize("served", [SERVICES], indirect=True)
def test_with_services_a_lab_starts_no_worker(lab: mlpq.Lab) -> None:
    with pytest.raises(mlpq.MlpqError, match="run mlpq worker"), lab.worker():
        pass


@pytest.mark.parametrize("served", [EMBEDDED], indirect=True)
def test_progress_goes_to_standard_error_and_can_be_silenced(served: Site, capsys: pytest.CaptureFixture[str]) -> None:
    lab = lab_of(served, progress=True)
    lab.submit(experiment="shown", **SWEEP).wait()
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "[2 of 2]" in shown.err
    lab.submit(experiment="silent", **SWEEP).wait(progress=False)
    assert capsys.readouterr() == ("", "")


GOOD = """\
import numpy as np
import mlpq

lab = mlpq.Lab(home="/tmp/x", threads=1)
run = lab.submit(
    experiment="sweep", dataset="digits", optimizer=["sgd", {"name": "adam", "lr": 0.01}], lr=[0.1, 0.01],
    hidden=[[32], [16, 8]], patience=None, seeds=range(10),
)
with lab.worker():
    run.wait(progress=False)
ids: tuple[str, ...] = run.ids
weights: dict[str, np.ndarray] = run.weights(ids[0])
verdict: str = lab.compare("sweep", by=["optimizer"], target=85, metric="epochs", choose_seeds=range(4)).verdict
best: str | None = lab.decide("sweep", 0.2, margin=0.1).wait().best
needed: list[int] = lab.plan("sweep", 0.5).seeds
verified: bool = lab.verify("sweep", sample=3).all_verified
ranks: str = lab.compare(["a", "b"]).verdict
try:
    lab.sql("SELECT 1")
except mlpq.MlpqError as error:
    print(error)
"""
BAD = """\
import mlpq

lab = mlpq.Lab()
lab.submit(optimiser="sgd")
lab.compare("sweep", by=3)
number: int = lab.compare("sweep").verdict
lab.decide("sweep")
mlpq.Labor()
"""


@pytest.mark.slow
def test_users_script_is_checked_by_mypy_against_the_installed_package(tmp_path: Path) -> None:
    (tmp_path / "good.py").write_text(GOOD)
    (tmp_path / "bad.py").write_text(BAD)
    python = linked_environment(tmp_path / "installed", ["mlpq"])
    (site,) = (tmp_path / "installed").glob("lib/python*/site-packages")
    (site / "mlpq").symlink_to(ROOT / "service" / "mlpq")  # the installation here is an editable one, unknown to mypy
    command = [sys.executable, "-m", "mypy", "--strict", "--python-executable", str(python), "good.py", "bad.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=280)
    faults = [line for line in done.stdout.splitlines() if ": error: " in line]
    assert not [line for line in faults if not line.startswith("bad.py:")], done.stdout
    assert sorted({int(line.split(":")[1]) for line in faults}) == [4, 5, 6, 7, 8], done.stdout
