"""Exported scripts: they reproduce the bits of the plain engine, and have only the lines that their job needs."""

from __future__ import annotations

import io
import re
import runpy
import subprocess
import sys
from collections.abc import Iterator
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import pytest
import torch

from mlpq.jobs import Engine
from mlpq.records import JobRecord
from mlpq.report.script_export import script
from mlpq.spec.datasets import DATASETS
from mlpq.spec.job import JobSpec
from mlpq.spec.sweep import Sweep
from mlpq_workers.engine.training_state import Trained
from tests.support.gang_training import OPTIMIZERS_AND_OPTIONS, Record, digits, job, train_plain
from tests.support.result_rows import failed_job, job_record, with_figures

ENVIRONMENT = {"torch": "2.13.0+cpu", "code_version": "0.1.0", "threads": 1}
EARLY = {"optimizer": "adam:lr=0.05", "batch_size": 64, "epochs": 15, "validation": 0.3, "patience": 2}


@pytest.fixture(autouse=True)
def own_random_state(one_thread: None) -> Iterator[None]:
    with torch.random.fork_rng(devices=[]):
        yield


def chain_of(*jobs: dict[str, Any]) -> list[JobSpec]:
    """Jobs of which each continues from the one before."""
    chain: list[JobSpec] = []
    for keys in jobs:
        chain.append(job(*chain[-1:], **keys))
    return chain


def exported(chain: list[JobSpec]) -> str:
    *ancestors, last = [job_record(spec, number, 450) for number, spec in enumerate(chain)]
    return script(last, ancestors[::-1], ENVIRONMENT)


def trained_by(engine: Engine, device: str = "cpu") -> JobRecord:
    return with_figures(job_record(job(), 1, 450), engine=engine, device=device)


def by_engine(chain: list[JobSpec]) -> Trained:
    trained = train_plain(chain[0], digits())
    for spec in chain[1:]:
        trained = train_plain(spec, digits(), start=trained.final)
    return trained


def run(text: str, folder: Path) -> tuple[list[torch.Tensor], str]:
    """The final weights of a script, and what it prints."""
    file = folder / "script.py"
    file.write_text(text)
    with redirect_stdout(io.StringIO()) as printed:
        model = runpy.run_path(str(file))["model"]
    return list(model.state_dict().values()), printed.getvalue()


CHAINS: dict[str, list[dict[str, Any]]] = {
    "default": [{}],
    "logistic": [{"hidden": "none", "optimizer": "sgd:lr=0.5", "batch_size": 100}],
    "momentum, dropout": [
        {"hidden": "16,8", "activation": "relu", "dropout": 0.3, "optimizer": "sgd:lr=0.1,momentum=0.9"}
    ],
    "penalties, no bias": [{"bias": False, "l1": 0.001, "weight_decay": 0.01, "optimizer": "adamw", "dropout": 0.5}],
    "split": [{"validation": 0.1, "optimizer": "adam", "seeds": 7}],
    "early": [{**EARLY, "dropout": 0.2}],
    "truncated normal": [{"initialisation": "truncated-normal", "activation": "relu", "optimizer": "sgd:lr=0.5"}],
    "truncated normal, no bias, dropout": [
        {"initialisation": "truncated-normal", "activation": "tanh", "bias": False, "dropout": 0.2, "optimizer": "adam"}
    ],
    "deep": [{"hidden": "16,15,14,13,12,11,10", "activation": "tanh", "optimizer": "adam:lr=0.01", "dropout": 0.1}],
    "chain": [{}, {"optimizer": "adam", "epochs": 3}],
    "chain of dropouts and sizes": [
        {"optimizer": "adam", "dropout": 0.2},
        {"batch_size": 100},
        {"dropout": 0.5, "l1": 0.001, "optimizer": "rmsprop"},
    ],
    "chain from the best epoch": [
        {**EARLY, "dropout": 0.2},
        {"validation": 0.3, "optimizer": "sgd:lr=0.1", "dropout": 0.2},
        {"validation": 0.3, "optimizer": "adam:lr=0.05", "epochs": 15, "patience": 3},
    ],
}


@pytest.mark.parametrize("jobs", CHAINS.values(), ids=CHAINS)
def test_a_script_reproduces_the_bits_of_the_engine(jobs: list[dict[str, Any]], tmp_path: Path) -> None:
    chain = chain_of(*jobs)
    expected = by_engine(chain)
    weights, printed = run(exported(chain), tmp_path)
    assert all(torch.equal(mine, theirs) for mine, theirs in zip(weights, expected.final.weights.values(), strict=True))
    correct = expected.best.test_correct
    assert f"\n{correct} of 500 test images correct ({correct / 500:.2%})\n" in printed


def test_a_script_stops_early_as_its_job_does(tmp_path: Path) -> None:
    chain = chain_of(EARLY)
    expected = by_engine(chain)
    assert expected.best.epoch < expected.epochs_run < 15
    _, printed = run(exported(chain), tmp_path)
    assert printed.count("epoch ") == expected.epochs_run


@pytest.mark.parametrize("optimizer", OPTIMIZERS_AND_OPTIONS)
def test_a_script_has_every_setting_of_an_optimizer(optimizer: str, tmp_path: Path) -> None:
    chain = chain_of({"optimizer": optimizer, "batch_size": 650})
    expected = by_engine(chain)
    weights, _ = run(exported(chain), tmp_path)
    assert all(torch.equal(mine, theirs) for mine, theirs in zip(weights, expected.final.weights.values(), strict=True))


def test_a_script_prints_the_recorded_loss_of_each_epoch(tmp_path: Path) -> None:
    spec, observer = job(epochs=3, l1=0.1), Record()
    train_plain(spec, digits(), observer=observer)
    _, printed = run(exported([spec]), tmp_path)
    assert re.findall(r"train loss (\S+)", printed) == [f"{epoch.train_loss:.4f}" for epoch in observer.epochs["0"]]


def test_a_script_identifies_its_job_and_its_result() -> None:
    record = job_record(job(), 7, 450)
    head = script(record, [], ENVIRONMENT).split("import")[0].replace("\n# ", " ")
    for piece in (record.id, record.spec_hash, "mlpq 0.1.0 with torch 2.13.0+cpu on cpu: 450 of 500 correct"):
        assert piece in head


@pytest.mark.parametrize("record", [job_record(job(), 1), failed_job(job(), 1)], ids=["queued", "failed"])
def test_a_script_of_a_job_without_a_result_says_so(record: JobRecord, tmp_path: Path) -> None:
    text = script(record, [], None)
    assert f"mlpq has no result of this job: its status is {record.status}." in text
    assert "set_num_threads" not in text
    assert f"{by_engine([record.spec]).best.test_correct} of 500" in run(text, tmp_path)[1]


@pytest.mark.parametrize(("engine", "threads"), [(Engine.GANG, 1), (Engine.PLAIN, 3)])
def test_a_script_uses_as_many_threads_as_its_job(engine: Engine, threads: int) -> None:
    assert f"torch.set_num_threads({threads})" in script(trained_by(engine), [], {**ENVIRONMENT, "threads": 3})
    assert "set_num_threads" not in script(trained_by(engine, device="cuda"), [], ENVIRONMENT)


def test_a_script_has_only_the_lines_that_its_job_needs() -> None:
    plain = exported([job()])
    for word in (
        "copy",
        "sys",
        "torchvision",
        "random_split",
        "Dropout",
        "eval",
        "l1",
        "def",
        "patience",
        "best",
        "init.",
    ):
        assert word not in plain
    assert "#:" not in plain


MOST: dict[str, Any] = {
    "hidden": ",".join(["1024"] * 32), "dropout": 0.25, "bias": True, "initialisation": "truncated-normal",
    "optimizer": "nadam:lr=1.5e-05,betas=0.85/0.995,eps=1e-07,weight_decay=1e-05,momentum_decay=0.0045,"
                 "decoupled_weight_decay=true",
    "l1": 1e-05, "validation": 0.125, "patience": 10, "epochs": 1000, "batch_size": 10_000, "seeds": 2**32 - 1,
}  # fmt: skip
LONGEST_CHAIN: list[dict[str, Any]] = [MOST, {**MOST, "dropout": 0.5, "patience": None}, {**MOST, "dropout": 0.0}]


@pytest.mark.parametrize("dataset", DATASETS)
@pytest.mark.parametrize(
    "jobs", [[{}], [MOST], LONGEST_CHAIN, *CHAINS.values()], ids=["default", "most", "longest chain", *CHAINS]
)
def test_scripts_are_short_and_narrow(dataset: str, jobs: list[dict[str, Any]]) -> None:
    text = exported(chain_of(*({**keys, "dataset": dataset} for keys in jobs)))
    compile(text, "script.py", "exec")
    assert len(text.splitlines()) < (60 if len(jobs) < 3 else 70)
    assert max(map(len, text.splitlines())) <= 100


def test_scripts_pass_ruff(tmp_path: Path) -> None:
    for number, jobs in enumerate([*CHAINS.values(), LONGEST_CHAIN]):
        for dataset in ("digits", "mnist"):
            text = exported(chain_of(*({**keys, "dataset": dataset} for keys in jobs)))
            (tmp_path / f"{dataset}_{number}.py").write_text(text)
    command = [sys.executable, "-m", "ruff", "check", "--isolated", "--no-cache", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_scripts_load_data_sets_from_torchvision() -> None:
    for name, dataset in DATASETS.items():
        (spec,) = Sweep.parse({"dataset": name}).jobs()
        assert (f"from torchvision.datasets import {dataset.torchvision}\n" in exported([spec])) is not dataset.bundled
