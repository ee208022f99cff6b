"""Exported scripts: they reproduce the bits of the plain engine, and have only the lines that their job needs."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import math
import re
import runpy
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import nbformat
import numpy as np
import pytest
import torch

from mlpq.jobs import Engine
from mlpq.records import JobRecord
from mlpq.report.notebook_export import notebook
from mlpq.report.script_export import DIGITS, script
from mlpq.spec.datasets import DATASETS, FILES
from mlpq.spec.job import JobSpec
from mlpq.spec.sweep import Sweep
from mlpq_workers.engine.training_state import Trained
from tests.support.gang_training import OPTIMIZERS_AND_OPTIONS, Record, digits, job, train_plain
from tests.support.optimizer_options import OF_MATRICES_AND_OPTIONS
from tests.support.own_optimizers import EVERY_OPERATION, LIKE_TORCH, formula_keys
from tests.support.result_rows import failed_job, job_record, with_figures

pytestmark = pytest.mark.slow

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
    "linear, clipping, smoothing": [
        {"schedule": "linear:end_factor=0.1", "clip_norm": 0.2, "label_smoothing": 0.1, "optimizer": "sgd:lr=0.5"}
    ],
    "cosine, warmup": [{"schedule": "cosine:eta_min=0.001", "warmup": 0.3, "optimizer": "adam:lr=0.01", "epochs": 3}],
    "step": [{"schedule": "step:size=1,gamma=0.3", "warmup": 1, "optimizer": "sgd:lr=0.5,momentum=0.9", "epochs": 5}],
    "exponential": [{"schedule": "exponential:gamma=0.5", "optimizer": "adam", "validation": 0.1, "epochs": 4}],
    "one cycle": [{"schedule": "one-cycle:three_phase=true", "optimizer": "adamw:lr=0.01", "epochs": 3}],
    "warmup, early": [{**EARLY, "warmup": 2, "schedule": "cosine"}],
    "chain of schedules": [
        {"schedule": "cosine", "optimizer": "sgd:lr=0.5", "clip_norm": 0.3, "label_smoothing": 0.2},
        {"optimizer": "adam", "clip_norm": None, "label_smoothing": 0.0},
        {"schedule": "one-cycle", "optimizer": "sgd:lr=0.5", "epochs": 3},
    ],
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
    **{name: [formula_keys(name, statements, constants)] for name, (statements, constants, _) in LIKE_TORCH.items()},
    "formula of every operation": [formula_keys("every", EVERY_OPERATION, "lr=0.1,c=1")],
    "formula of awkward names and numbers": [
        formula_keys(
            "path",
            "l = g - l; k = 2; self = t/3 - 0*(2 > 1); p = p - lr*l**k*sign(l)*max(0.1, self)*2**0.5/group; m = t*m; "
            "p = p - 0.001*l**5*sqrt(2)/(1 + abs(l)**(1 - k)) + 0*m",
            "lr=0.1,group=3",
        )
    ],
    "chain of formulas": [
        formula_keys("mine", "p = p - lr*g**k", "lr=0.1,k=3"),
        {**formula_keys("mine", "p = p - lr*g**k", "lr=0.5,k=1"), "batch_size": 100},
        formula_keys("mine", "p = p - lr*g**k", "lr=0.2,k=1"),
        formula_keys("other", "p = p - 0.01*sign(g)", ""),
    ],
}


@pytest.mark.parametrize("jobs", CHAINS.values(), ids=CHAINS)
def test_a_script_reproduces_the_bits_of_the_engine(jobs: list[dict[str, Any]], tmp_path: Path) -> None:
    chain = chain_of(*jobs)
    expected = by_engine(chain)
    weights, printed = run(exported(chain), tmp_path)
    assert all(map(np.array_equal, weights, expected.final.weights.values()))
    assert len(weights) == len(expected.final.weights)
    correct = expected.best.test_correct
    assert f"\n{correct} of 500 test images correct ({correct / 500:.2%})\n" in printed


def test_a_script_stops_early_as_its_job_does(tmp_path: Path) -> None:
    chain = chain_of(EARLY)
    expected = by_engine(chain)
    assert expected.best.epoch < expected.epochs_run < 15
    _, printed = run(exported(chain), tmp_path)
    assert printed.count("epoch ") == expected.epochs_run


PLUGINS = ("slowstart:lr=0.05,steps=7,betas=0.5/0.6,nesterov=true", "jitter:noise=0.1")


@pytest.mark.parametrize("optimizer", [*OPTIMIZERS_AND_OPTIONS, *OF_MATRICES_AND_OPTIONS, *PLUGINS])
def test_a_script_has_every_setting_of_an_optimizer(optimizer: str, tmp_path: Path) -> None:
    chain = chain_of({"optimizer": optimizer, "batch_size": 650})
    expected = by_engine(chain)
    weights, _ = run(exported(chain), tmp_path)
    assert all(map(np.array_equal, weights, expected.final.weights.values()))
    assert len(weights) == len(expected.final.weights)


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
        "torchvision",
        "random_split",
        "Dropout",
        "eval",
        "l1",
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
    "schedule": "cosine:eta_min=1.25e-06", "warmup": 12.5, "clip_norm": 0.125, "label_smoothing": 0.0625,
}  # fmt: skip
LONGEST_CHAIN: list[dict[str, Any]] = [MOST, {**MOST, "dropout": 0.5, "patience": None}, {**MOST, "dropout": 0.0}]


@pytest.mark.parametrize("dataset", DATASETS)
@pytest.mark.parametrize(
    "jobs", [[{}], [MOST], LONGEST_CHAIN, *CHAINS.values()], ids=["default", "most", "longest chain", *CHAINS]
)
def test_scripts_are_short_and_narrow(dataset: str, jobs: list[dict[str, Any]]) -> None:
    text = exported(chain_of(*({**keys, "dataset": dataset} for keys in jobs)))
    compile(text, "script.py", "exec")
    formulas = sum("formula" in keys for keys in jobs)
    assert len(text.splitlines()) < (101 if len(jobs) < 3 else 120) + 40 * formulas
    assert max(map(len, text.splitlines())) <= 100


def test_scripts_pass_ruff(tmp_path: Path) -> None:
    for number, jobs in enumerate([*CHAINS.values(), LONGEST_CHAIN]):
        for dataset in ("digits", "mnist"):
            text = exported(chain_of(*({**keys, "dataset": dataset} for keys in jobs)))
            (tmp_path / f"{dataset}_{number}.py").write_text(text)
    command = [sys.executable, "-m", "ruff", "check", "--isolated", "--no-cache", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def idx(kind: int, *sizes: int) -> bytes:
    """An idx file with these sizes, of bytes that differ."""
    header = bytes((0, 0, 8, len(sizes))) + b"".join(size.to_bytes(4, "big") for size in sizes)
    return header + bytes(n * kind % 10 for n in range(math.prod(sizes)))


PUBLISHED = DATASETS["fashion-mnist"].url
SMALL = {FILES[0]: idx(3, 60, 28, 28), FILES[1]: idx(7, 60), FILES[2]: idx(9, 20, 28, 28), FILES[3]: idx(1, 20)}
FORMS: dict[str, Callable[[bytes], bytes]] = {
    "{name}.gz": gzip.compress,
    "{name}": bytes,
    "{dotted}": bytes,
    "FashionMNIST/raw/{name}.gz": gzip.compress,
    "fashion-mnist/{name}": bytes,
}


@pytest.fixture
def run_as_user(monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Runs a script in a folder with arguments, and returns what it prints; one that refuses raises SystemExit."""

    def run_in(text: str, folder: Path, *arguments: str) -> str:
        (folder / "job.py").write_text(text)
        monkeypatch.chdir(folder)
        monkeypatch.setattr(sys, "argv", ["job.py", *arguments])
        with redirect_stdout(io.StringIO()) as printed:
            runpy.run_path("job.py", run_name="__main__")
        return printed.getvalue()

    return run_in


def md5_of(content: bytes) -> str:
    return hashlib.md5(content).hexdigest()


def small_script(data_dir: Path, md5: Callable[[bytes], str] = md5_of, url: str = "http://127.0.0.1:1/") -> str:
    """The script of a job on Fashion-MNIST, with the checksums of smaller files, which are published at `url`."""
    (spec,) = Sweep.parse({"epochs": 1, "hidden": "8"}).jobs()
    text = script(job_record(spec, 1, 450), [], ENVIRONMENT, data_dir)
    for name, known in (DATASETS["fashion-mnist"].md5 or {}).items():
        text = text.replace(known, md5(SMALL[name]))
    return text.replace("'/usr/share/datasets/fashion-mnist'", "'/nowhere'").replace(str(PUBLISHED), url)


@contextmanager
def served_folder(folder: Path) -> Iterator[str]:
    """The URL of a server of the files in a folder."""
    handler = partial(QuietHandler, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


class QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None: ...


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("place", ["argument", "data", "data_dir"])
def test_script_finds_files_where_mlpq_finds_them(
    form: str, place: str, tmp_path: Path, run_as_user: Callable[..., str]
) -> None:
    data_dir, home = tmp_path / 'it\'s "data" $1', tmp_path / "home"
    home.mkdir()
    root = {"argument": tmp_path / "given", "data": home / "data", "data_dir": data_dir}[place]
    for name, content in SMALL.items():
        file = root / form.format(name=name, dotted=name.replace("-idx", ".idx"))
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(FORMS[form](content))
    printed = run_as_user(small_script(data_dir), home, *([str(root)] if place == "argument" else []))
    assert re.search(r"^\d+ of 20 test images correct", printed, re.MULTILINE)


def test_script_does_not_train_on_other_bytes(tmp_path: Path, run_as_user: Callable[..., str]) -> None:
    for name, content in SMALL.items():
        (tmp_path / name).write_bytes(content)
    with pytest.raises(SystemExit, match=rf"^{FILES[0]} is in none of .*python job\.py FOLDER$"):
        run_as_user(small_script(tmp_path, lambda _: "0" * 32), tmp_path)


def test_script_downloads_what_is_on_no_machine_and_verifies_it(
    tmp_path: Path, run_as_user: Callable[..., str]
) -> None:
    published, home = tmp_path / "published", tmp_path / "home"
    published.mkdir()
    home.mkdir()
    for name, content in SMALL.items():
        (published / f"{name}.gz").write_bytes(gzip.compress(content))
    with served_folder(published) as url:
        printed = run_as_user(small_script(tmp_path / "none", url=url), home)
    assert re.search(r"^\d+ of 20 test images correct", printed, re.MULTILINE)
    assert run_as_user(small_script(tmp_path / "none"), home) == printed  # without the server
    damaged = home / "data" / f"{FILES[2]}.gz"
    damaged.write_bytes(gzip.compress(SMALL[FILES[2]] + b"0"))
    with pytest.raises(SystemExit, match=rf"^data/{damaged.name} is damaged: remove it$"):
        run_as_user(small_script(tmp_path / "none"), home)


def test_checksum_of_the_digits_is_that_of_their_file() -> None:
    (folder,) = DATASETS["digits"].system_dirs
    (name,) = DIGITS
    assert md5_of(gzip.decompress((folder / f"{name}.gz").read_bytes())) == DIGITS[name]


@pytest.mark.parametrize("name", DATASETS)
def test_script_imports_torch_and_numpy_only(name: str) -> None:
    (spec,) = Sweep.parse({"dataset": name}).jobs()
    imported = re.findall(r"^(?:import|from) (\w+)", exported([spec]), re.MULTILINE)
    assert {*imported} - sys.stdlib_module_names == {"torch", *(["numpy"] if name == "digits" else [])}


@pytest.mark.parametrize("jobs", CHAINS.values(), ids=CHAINS)
def test_notebook_has_the_code_of_the_script_in_cells(jobs: list[dict[str, Any]]) -> None:
    *ancestors, last = [job_record(spec, number, 450) for number, spec in enumerate(chain_of(*jobs))]
    document = json.loads(notebook(last, ancestors[::-1], ENVIRONMENT))
    nbformat.validate(document)
    code = "\n".join("".join(cell["source"]) for cell in document["cells"] if cell["cell_type"] == "code")
    titles = ["".join(cell["source"]) for cell in document["cells"] if cell["cell_type"] == "markdown"]
    assert titles[1:] == ["## Data", "## Model", "## Training", "## Test"]
    lines = [line for line in script(last, ancestors[::-1], ENVIRONMENT).splitlines() if line]
    own = {"import sys", *(line for line in lines if "sys.argv" in line)}
    assert [line for line in lines if line not in own] == [
        line for line in code.splitlines() if line and not line.startswith("roots = ") and "add its folder" not in line
    ]
    assert "sys." not in code
