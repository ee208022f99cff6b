"""Devices and environments are described as they are, and a missing device is never replaced silently."""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

import mlpq
from mlpq import doctor
from mlpq.errors import MlpqError
from mlpq.settings import read_settings, training_environ
from mlpq_workers.trainer import devices
from mlpq_workers.trainer.devices import (
    available,
    available_and_why,
    choose,
    device_name,
    most_ranks,
    world_size,
)
from mlpq_workers.trainer.environment import checkout_version, code_version, environment, files_version
from mlpq_workers.trainer.torch_engines import check_kernels, prepare, torch_facts


def git(folder: Path, *arguments: str) -> str:
    command = ["git", "-C", str(folder), "-c", "user.name=t", "-c", "user.email=t@localhost", *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A committed checkout with a package at service/mlpq."""
    folder = tmp_path / "checkout" / "service" / "mlpq"
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text("")
    checkout = tmp_path / "checkout"
    (checkout / ".gitignore").write_text("*.log\n")
    git(checkout, "init", "-q")
    git(checkout, "add", ".")
    git(checkout, "commit", "-q", "-m", "all")
    return folder


def test_cpu_is_always_available() -> None:
    assert available()[-1] == choose("cpu") == "cpu"
    assert device_name("cpu")


def test_auto_chooses_the_best_device() -> None:
    expected = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    assert choose("auto") == expected


def test_missing_device_is_an_error_of_one_line() -> None:
    absent = next(device for device in ("mps", "cuda") if device not in available())
    with pytest.raises(MlpqError) as error:
        choose(absent)
    assert f"no {absent} device on this machine" in str(error.value)
    assert "\n" not in str(error.value)


def test_tests_see_no_gpu() -> None:
    assert os.environ["CUDA_VISIBLE_DEVICES"] == ""
    assert not torch.cuda.is_available()


def test_device_that_runs_no_kernel_is_an_error_of_one_line() -> None:
    check_kernels("cpu")
    with pytest.raises(MlpqError, match=r"can't use cuda:0: .*; use --device cpu") as error:
        check_kernels("cuda:0")
    assert "\n" not in str(error.value)


@pytest.fixture
def old_driver(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A GPU with a driver that is too old for torch."""

    def is_available() -> bool:
        text = "CUDA initialization: The NVIDIA driver on your system is too old (Triggered internally at x.cpp:1.)"
        warnings.warn(text, stacklevel=1)
        return False

    monkeypatch.setattr(torch.cuda, "is_available", is_available)
    monkeypatch.setattr(devices, "may_have_gpu", lambda: True)
    available_and_why.cache_clear()
    yield
    available_and_why.cache_clear()


@pytest.mark.usefixtures("old_driver")
def test_reason_why_torch_sees_no_gpu_is_told(
    caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    reason = "CUDA initialization: The NVIDIA driver on your system is too old"
    with pytest.raises(MlpqError, match=rf"no cuda device on this machine: .* \({reason}\); use --device auto"):
        choose("cuda")
    assert choose("auto") == "cpu"
    assert [each.getMessage() for each in caplog.records] == [f"no GPU: {reason}; training on the cpu"]
    devices.main(1, "auto")
    assert json.loads(capsys.readouterr().out)["why_no_gpu"] == reason


def test_doctor_tells_why_torch_sees_no_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answer: dict[str, object] = {
        "devices": [], "environment": None, "kernel": None, "arithmetic": 1, "why_no_kernel": "", "torch": "2.13.0",
        "why_no_gpu": "the driver is too old", "problem": "torch can't use cuda:0: no kernel image",
    }  # fmt: skip
    checks = checked_by(f"print({json.dumps(answer)!r})", tmp_path, monkeypatch)
    assert [(each.ok, each.what, each.found) for each in checks][-2:] == [
        (None, "cuda", "the driver is too old"),
        (False, "training", "torch can't use cuda:0: no kernel image"),
    ]


def test_doctor_tells_the_last_line_of_a_process_that_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (check,) = checked_by("import sys; sys.exit('a library\\nis missing\\n')", tmp_path, monkeypatch)
    assert check.found == "does not start: is missing"


def checked_by(code: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[doctor.Check]:
    """What doctor says of devices where their process is this code."""
    monkeypatch.setattr(doctor, "python_module", lambda *_: [sys.executable, "-c", code])
    config = read_settings({"MLPQ_HOME": str(folder)})
    return doctor._devices(config, doctor._start_devices(config))


def test_prepare_keeps_the_number_of_threads_and_can_be_repeated() -> None:
    before = torch.get_num_threads()
    for _ in range(2):
        prepare("cpu")
        assert torch.get_num_threads() == before


def test_environment_names_everything_that_bits_may_depend_on() -> None:
    facts = {**environment("cpu", 1, 2), **torch_facts("cpu")}
    assert facts["torch"] == torch.__version__
    assert (facts["device"], facts["gpu"], facts["threads"], facts["world_size"]) == ("cpu", None, 1, 2)
    assert all(facts[name] for name in ("blas", "cpu", "cpu_capability"))
    assert (facts["python"], facts["os"]) == (sys.version.split()[0], platform.platform())
    assert str(facts["code_version"]).startswith("0.1.0+")
    assert json.loads(json.dumps(facts)) == facts


def test_environment_is_the_same_in_another_process() -> None:
    """An attempt that another worker of the machine continues has the same one."""
    code = "import json; from mlpq_workers.trainer.environment import *; print(json.dumps(environment('cpu', 1, 1)))"
    code_version.cache_clear()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == environment("cpu", 1, 1)


def test_world_size_of_a_cpu_is_one_by_default_and_limited_by_its_cores() -> None:
    assert world_size("cpu", None) == 1
    assert world_size("cpu", 2) == 2
    with pytest.raises(MlpqError, match="world size 1000 is too large: cpu on this machine allows"):
        world_size("cpu", 1000)
    assert (most_ranks("mps"), most_ranks("cpu")) == (1, max(2, os.cpu_count() or 1))


def test_devices_and_environment_are_printed_as_json() -> None:
    command = [sys.executable, "-m", "mlpq_workers.trainer.devices", "4", "auto"]
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=training_environ())
    found = json.loads(done.stdout)
    assert [device["device"] for device in found["devices"]] == available()
    assert found["environment"]["threads"] == 4 // found["environment"]["world_size"]


def test_code_version_starts_with_the_packages_version() -> None:
    assert code_version().startswith(mlpq.__version__)


def test_version_of_a_clean_checkout_is_its_commit(package: Path) -> None:
    assert checkout_version(package) == git(package, "rev-parse", "HEAD")[:12]


def test_uncommitted_changes_are_distinguished_by_content(package: Path) -> None:
    versions = [checkout_version(package)]
    for text in ("a = 1\n", "a = 2\n"):
        (package / "__init__.py").write_text(text)
        versions.append(checkout_version(package))
    (package / "__init__.py").write_text("a = 1\n")
    assert len(set(versions)) == 3
    assert checkout_version(package) == versions[1]
    assert str(versions[1]).startswith(f"{versions[0]}.changed.")


def test_staged_changes_count(package: Path) -> None:
    (package / "__init__.py").write_text("a = 1\n")
    before = checkout_version(package)
    git(package, "add", ".")
    assert checkout_version(package) == before != git(package, "rev-parse", "HEAD")[:12]


def test_untracked_files_count_by_content(package: Path) -> None:
    versions = {checkout_version(package)}
    for text in ("a = 1\n", "a = 2\n"):
        (package / "größe 1.py").write_text(text)
        versions.add(checkout_version(package))
    assert len(versions) == 3


def test_ignored_files_do_not_count(package: Path) -> None:
    clean = checkout_version(package)
    (package / "x.log").write_text("x")
    assert checkout_version(package) == clean


def test_repository_around_a_virtual_environment_is_not_a_checkout(package: Path) -> None:
    installed = package.parents[1] / ".venv" / "lib" / "site-packages" / "mlpq"
    shutil.copytree(package, installed)
    assert checkout_version(installed) is None


def test_folder_outside_any_repository_has_no_commit(tmp_path: Path) -> None:
    assert checkout_version(tmp_path) is None


def test_installed_packages_are_distinguished_by_their_files(package: Path, tmp_path: Path) -> None:
    versions = [files_version(package)]
    (package / "__pycache__").mkdir()
    (package / "__pycache__" / "x.pyc").write_bytes(b"x")
    copied = tmp_path / "site-packages" / "mlpq"
    shutil.copytree(package, copied)
    assert files_version(copied) == versions[0]
    for name in ("a.py", "b.py"):
        (copied / name).write_text("a = 1\n")
        versions.append(files_version(copied))
    (copied / "a.py").unlink()
    versions.append(files_version(copied))
    assert len(set(versions)) == 4
    assert all(re.fullmatch("files\\.[0-9a-f]{8}", version) for version in versions)


def test_repository_without_commits_has_no_version(tmp_path: Path) -> None:
    folder = tmp_path / "service" / "mlpq"
    folder.mkdir(parents=True)
    git(tmp_path, "init", "-q")
    assert checkout_version(folder) is None
