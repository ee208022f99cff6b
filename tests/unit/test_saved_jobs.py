"""Files of trained jobs: another job continues from them with the same bits, and changed ones are rejected."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mlpq.errors import DataError
from mlpq_workers.engine.training_state import Trained, weights_sha256
from mlpq_workers.trainer.checkpoints import load_start, save
from tests.support.gang_training import digits, job, train_plain

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def saved(tmp_path: Path) -> tuple[Trained, Path]:
    spec = job(dropout=0.5)
    outcome = train_plain(spec, digits())
    path = tmp_path / "artifacts" / "weights.safetensors"
    save(outcome, spec.hash, path)
    return outcome, path


def test_saved_state_is_loaded_bit_for_bit(saved: tuple[Trained, Path]) -> None:
    outcome, path = saved
    start = load_start(path, outcome.weights_sha256, path.parent)
    assert weights_sha256(start.weights) == outcome.weights_sha256
    assert np.array_equal(start.shuffle_state, outcome.final.shuffle_state)
    assert np.array_equal(start.dropout_state, outcome.final.dropout_state)
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_continuing_from_the_file_equals_continuing_from_memory(saved: tuple[Trained, Path]) -> None:
    outcome, path = saved
    spec = job(job(dropout=0.5), optimizer="adam", dropout=0.5)
    from_file = train_plain(spec, digits(), start=load_start(path, outcome.weights_sha256, path.parent))
    assert from_file.weights_sha256 == train_plain(spec, digits(), start=outcome.final).weights_sha256


def error_of(path: Path, sha256: str) -> str:
    with pytest.raises(DataError) as error:
        load_start(path, sha256, path.parent)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_missing_file_is_rejected(tmp_path: Path) -> None:
    assert "are missing" in error_of(tmp_path / "none.safetensors", "0" * 64)


def test_weights_with_another_hash_are_rejected(saved: tuple[Trained, Path]) -> None:
    assert "were changed, their SHA-256 is not the recorded one" in error_of(saved[1], "0" * 64)


def test_changed_weight_is_rejected(saved: tuple[Trained, Path]) -> None:
    outcome, path = saved
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    assert "were changed, their SHA-256 is not the recorded one" in error_of(path, outcome.weights_sha256)


def test_changed_generator_states_are_rejected(saved: tuple[Trained, Path]) -> None:
    outcome, path = saved
    content = path.read_bytes()
    at = content.index(b'"shuffle_state":"') + 1000
    path.write_bytes(content[:at] + (b"B" if content[at : at + 1] == b"A" else b"A") + content[at + 1 :])
    assert "generator states" in error_of(path, outcome.weights_sha256)


@pytest.mark.parametrize("keep", [0, 4, 5000, -1])
def test_truncated_file_is_rejected(keep: int, saved: tuple[Trained, Path]) -> None:
    outcome, path = saved
    path.write_bytes(path.read_bytes()[:keep])
    assert "damaged" in error_of(path, outcome.weights_sha256)


def test_file_of_another_format_is_rejected(tmp_path: Path) -> None:
    path = tmp_path / "other.safetensors"
    path.write_text("hello")
    assert "damaged" in error_of(path, "0" * 64)


def test_failed_save_leaves_no_file(saved: tuple[Trained, Path], tmp_path: Path) -> None:
    taken = tmp_path / "taken"
    (taken / "inside").mkdir(parents=True)
    with pytest.raises(OSError, match="taken"):
        save(saved[0], "0" * 64, taken)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["artifacts", "taken"]
