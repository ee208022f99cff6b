"""Checkpoints with a right hash and odd contents: a job passes over them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load, save

from mlpq_workers.engine.training_state import EngineJob
from mlpq_workers.trainer.checkpoints import newest_checkpoint, save_checkpoint
from tests.support.gang_training import Interrupt, few, job, train_together
from tests.support.messages import JSON

pytestmark = pytest.mark.usefixtures("one_thread")

OWNER = {"job": "a job"}
Change = Callable[[dict[str, torch.Tensor]], object]


@pytest.fixture(scope="module")
def content() -> bytes:
    """A valid checkpoint after two epochs."""
    record = Interrupt({"0": 2})
    train_together(EngineJob(job(epochs=4, optimizer="adam")), data=few(), observer=record)
    return save_to_bytes(record)


def save_to_bytes(record: Interrupt) -> bytes:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        save_checkpoint(record.taken["0"], OWNER, Path(folder), 1)
        (file,) = Path(folder).iterdir()
        return file.read_bytes()


def write(folder: Path, content: bytes, epoch: int = 2) -> None:
    """A checkpoint file with this content and its right hash."""
    folder.mkdir(exist_ok=True)
    for file in folder.iterdir():
        file.unlink()
    (folder / f"attempt-1-epoch-{epoch}-{hashlib.sha256(content).hexdigest()}.safetensors").write_bytes(content)


def passed_over(folder: Path) -> list[str]:
    """The warnings; there must be no checkpoint to resume from."""
    warnings: list[str] = []
    assert newest_checkpoint(OWNER, folder, warnings.append) is None
    return warnings


def about_of(content: bytes) -> dict[str, Any]:
    found = json.loads(load(content)["about"].numpy().tobytes())
    assert isinstance(found, dict)
    return found


def with_about(content: bytes, about: bytes) -> bytes:
    return save({**load(content), "about": torch.frombuffer(bytearray(about or b" "), dtype=torch.uint8)})


def test_valid_checkpoint_is_found(content: bytes, tmp_path: Path) -> None:
    write(tmp_path, content)
    found = newest_checkpoint(OWNER, tmp_path, pytest.fail)
    assert found is not None
    assert [metrics.epoch for metrics in found.curve] == [1, 2]


ANY_TIME = settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])


@ANY_TIME
@given(about=JSON.map(lambda value: json.dumps(value).encode()) | st.binary(max_size=50) | st.just(b"[" * 100_000))
def test_any_description_is_passed_over(content: bytes, tmp_path: Path, about: bytes) -> None:
    write(tmp_path / "any", with_about(content, about))
    assert len(passed_over(tmp_path / "any")) == 1


@ANY_TIME
@given(data=st.data())
def test_description_with_an_odd_part_is_passed_over(content: bytes, tmp_path: Path, data: st.DataObject) -> None:
    about = about_of(content)
    where, name = data.draw(
        st.sampled_from(
            [
                *((about, name) for name in about),
                *((about["whose"], name) for name in about["whose"]),
                *(
                    (about["curve"][0], name)
                    for name in ("epoch", "train_loss", "test_loss", "test_correct", "seconds")
                ),
                (about["curve"], 0),
                (about["curve"], 1),
            ]
        )
    )
    value = data.draw(JSON.filter(lambda value: not isinstance(value, int | float)) | st.just(-1.5))
    where[name] = value
    if name in ("train_loss", "test_loss", "seconds") and isinstance(value, float):
        return  # a number that a job may well have there
    write(tmp_path / "part", with_about(content, json.dumps(about).encode()))
    assert len(passed_over(tmp_path / "part")) == 1


ODD: dict[str, Change] = {
    "no description": lambda tensors: tensors.pop("about"),
    "a description of floats": lambda tensors: tensors.update(about=torch.ones(3)),
    "no state of a generator": lambda tensors: tensors.pop("last dropout"),
    "a short state of a generator": lambda tensors: tensors.update({"last shuffle": torch.zeros(3, dtype=torch.uint8)}),
    "a state of floats": lambda tensors: tensors.update({"last shuffle": torch.zeros(5056)}),
    "no last state": lambda tensors: [tensors.pop(name) for name in list(tensors) if name.startswith("last")],
}


@pytest.mark.parametrize("change", ODD.values(), ids=ODD.keys())
def test_checkpoint_with_odd_tensors_is_passed_over(content: bytes, tmp_path: Path, change: Change) -> None:
    tensors = load(content)
    change(tensors)
    write(tmp_path, save(tensors))
    assert len(passed_over(tmp_path)) == 1


@pytest.mark.parametrize("best_epoch", [-1, 0, 1, 3, 10**30])
def test_checkpoint_without_its_best_epoch_is_passed_over(content: bytes, tmp_path: Path, best_epoch: int) -> None:
    """Without a state of its own, the best epoch is the last one."""
    write(tmp_path, with_about(content, json.dumps({**about_of(content), "best_epoch": best_epoch}).encode()))
    assert len(passed_over(tmp_path)) == 1


@pytest.mark.parametrize("epochs", [[], [1], [2, 1], [1, 3], [0, 1], [1, 2, 2]])
def test_checkpoint_with_a_broken_curve_is_passed_over(content: bytes, tmp_path: Path, epochs: list[int]) -> None:
    about = about_of(content)
    about["curve"] = [{**about["curve"][0], "epoch": epoch} for epoch in epochs]
    write(tmp_path, with_about(content, json.dumps(about).encode()))
    assert len(passed_over(tmp_path)) == 1
