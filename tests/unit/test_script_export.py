"""A job as a script: what is exported, run as it is, has the bits of the plain engine, and no line too many."""

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

from mlpq.report.script_export import script
from mlpq.spec.datasets import DATASETS
from mlpq.spec.job import JobSpec, Sweep
from mlpq_workers.engine.plain import train
from mlpq_workers.engine.training_state import Trained
from tests.support.gang_training import OPTIMIZERS_AND_OPTIONS, digits, goes_on, job

ENVIRONMENT = {"torch": "2.13.0+cpu", "code_version": "0.1.0", "threads": 1}
ID = "d9dfe446-6b1f-5b79-a8fa-1896e9a23c04"
EARLY = {"optimizer": "adam:lr=0.05", "batch_size": 64, "epochs": 15, "validation": 0.3, "patience": 2}


@pytest.fixture(autouse=True)
def own_random_state(one_thread: None) -> Iterator[None]:
    with torch.random.fork_rng(devices=[]):
        yield


def chain_of(*jobs: dict[str, Any]) -> list[JobSpec]:
    """Jobs of which each goes on from the one before."""
    chain: list[JobSpec] = []
    for keys in jobs:
        chain.append(job(*chain[-1:], **keys))
    return chain


def row(spec: JobSpec, **more: object) -> dict[str, Any]:
    """What a script needs of the row of a job."""
    done = {"status": "succeeded", "outcome": "succeeded", "device": "cpu", "engine": "plain"}
    return {"id": ID, "spec_hash": spec.hash, "test_correct": 450, "test_total": 500, **done, **more}


def exported(chain: list[JobSpec]) -> str:
    return script(chain, row(chain[-1]), ENVIRONMENT)


def by_engine(chain: list[JobSpec]) -> Trained:
    outcome = train(chain[0], digits(), "cpu")
    for spec in chain[1:]:
        outcome = train(spec, digits(), "cpu", start=goes_on(outcome))
    return outcome


def run(text: str, folder: Path) -> tuple[list[torch.Tensor], str]:
    """The final weights of a script and what it prints."""
    file = folder / "script.py"
    file.write_text(text)
    with redirect_stdout(io.StringIO()) as printed:
        model = runpy.run_path(str(file))["model"]
    return list(model.state_dict().values()), printed.getvalue()


CHAINS = {
    "as it comes": [{}],
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
def test_the_script_has_the_bits_of_the_engine(jobs: list[dict[str, Any]], tmp_path: Path) -> None:
    chain = chain_of(*jobs)
    expected = by_engine(chain)
    weights, printed = run(exported(chain), tmp_path)
    assert all(torch.equal(mine, theirs) for mine, theirs in zip(weights, expected.weights.values(), strict=True))
    assert f"\n{expected.test_correct} of 500 test images right ({expected.test_correct / 500:.2%})\n" in printed


def test_early_stopping_stops_the_script_too(tmp_path: Path) -> None:
    chain = chain_of(EARLY)
    expected = by_engine(chain)
    assert expected.best_epoch < expected.epochs_run < 15
    _, printed = run(exported(chain), tmp_path)
    assert printed.count("epoch ") == expected.epochs_run


@pytest.mark.parametrize("optimizer", OPTIMIZERS_AND_OPTIONS)
def test_every_setting_of_an_optimizer_is_in_the_script(optimizer: str, tmp_path: Path) -> None:
    chain = chain_of({"optimizer": optimizer, "batch_size": 650})
    expected = by_engine(chain)
    weights, _ = run(exported(chain), tmp_path)
    assert all(torch.equal(mine, theirs) for mine, theirs in zip(weights, expected.weights.values(), strict=True))


def test_each_epochs_loss_is_printed_as_it_was_recorded(tmp_path: Path) -> None:
    losses: list[float] = []
    spec = job(epochs=3, l1=0.1)
    train(spec, digits(), "cpu", on_epoch=lambda epoch: losses.append(epoch.train_loss))
    _, printed = run(exported([spec]), tmp_path)
    assert re.findall(r"train loss (\S+)", printed) == [f"{loss:.4f}" for loss in losses]


def test_the_script_says_what_it_stands_for() -> None:
    spec = job()
    head = exported([spec]).split("import")[0].replace("\n# ", " ")
    for piece in (ID, spec.hash, "mlpq 0.1.0 with torch 2.13.0+cpu on cpu: 450 of 500 right"):
        assert piece in head


@pytest.mark.parametrize("status", ["queued", "failed"])
def test_a_job_without_a_result_is_exported_without_a_count(status: str, tmp_path: Path) -> None:
    spec = job()
    without = row(spec, status=status, outcome=None, device=None, engine=None, test_correct=None, test_total=None)
    text = script([spec], without, None)
    assert f"mlpq has no result of it: its status is {status}." in text
    assert "set_num_threads" not in text
    assert f"{by_engine([spec]).test_correct} of 500" in run(text, tmp_path)[1]


@pytest.mark.parametrize(("engine", "threads"), [("gang", 1), ("plain", 3)])
def test_the_script_computes_with_as_many_threads_as_the_job(engine: str, threads: int) -> None:
    spec = job()
    text = script([spec], row(spec, engine=engine), {**ENVIRONMENT, "threads": 3})
    assert f"torch.set_num_threads({threads})" in text
    assert "set_num_threads" not in script([spec], row(spec, engine=engine, device="cuda"), ENVIRONMENT)


def test_only_the_lines_that_a_job_needs_are_there() -> None:
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


MOST = {
    "hidden": ",".join(["1024"] * 32), "dropout": 0.25, "bias": True, "initialisation": "truncated-normal",
    "optimizer": "nadam:lr=1.5e-05,betas=0.85/0.995,eps=1e-07,weight_decay=1e-05,momentum_decay=0.0045,"
                 "decoupled_weight_decay=true",
    "l1": 1e-05, "validation": 0.125, "patience": 10, "epochs": 1000, "batch_size": 10_000, "seeds": 2**32 - 1,
}  # fmt: skip
LONGEST_CHAIN = [MOST, {**MOST, "dropout": 0.5, "patience": None}, {**MOST, "dropout": 0.0}]


@pytest.mark.parametrize("dataset", DATASETS)
@pytest.mark.parametrize(
    "jobs", [[{}], [MOST], LONGEST_CHAIN, *CHAINS.values()], ids=["default", "most", "longest chain", *CHAINS]
)
def test_every_script_is_short_and_narrow(dataset: str, jobs: list[dict[str, Any]]) -> None:
    text = exported(chain_of(*({**keys, "dataset": dataset} for keys in jobs)))
    compile(text, "script.py", "exec")
    assert len(text.splitlines()) < (60 if len(jobs) < 3 else 70)
    assert max(map(len, text.splitlines())) <= 100


def test_ruff_finds_no_fault_with_the_scripts(tmp_path: Path) -> None:
    for number, jobs in enumerate([*CHAINS.values(), LONGEST_CHAIN]):
        for dataset in ("digits", "mnist"):
            text = exported(chain_of(*({**keys, "dataset": dataset} for keys in jobs)))
            (tmp_path / f"{dataset}_{number}.py").write_text(text)
    command = [sys.executable, "-m", "ruff", "check", "--isolated", "--no-cache", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_the_data_sets_are_torchvisions() -> None:
    for name, dataset in DATASETS.items():
        (spec,) = Sweep.parse({"dataset": name}).jobs()
        assert (f"from torchvision.datasets import {dataset.torchvision}\n" in exported([spec])) is not dataset.bundled
