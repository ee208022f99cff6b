"""Files of weights read without torch: the hash equals the workers', and every damaged byte is detected."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlpq.errors import DataError
from mlpq.records import EpochMetrics
from mlpq.verification import weights
from mlpq_workers.engine.training_state import Predictions, Snapshot, Trained, weights_sha256
from mlpq_workers.trainer import checkpoints

SHAPES = {"layer0.weight": (3, 4), "layer0.bias": (3,), "layer10.weight": (2, 3), "layer2.weight": (0, 5), "one": ()}


def saved(folder: Path, dtype: torch.dtype = torch.float32) -> tuple[Path, str]:
    """A file as a worker writes it, and the SHA-256 that the worker records."""
    generator = torch.Generator().manual_seed(7)
    arrays = {name: torch.randn(shape, generator=generator).to(dtype).numpy() for name, shape in SHAPES.items()}
    state = generator.get_state().numpy()
    metrics = EpochMetrics(1, 0.5, None, None, None, 0.5, 1, 2, 0.1)
    predictions = Predictions(np.array([1, 0], np.uint8), np.array([0.9, 0.6]))
    trained = Trained(Snapshot(arrays, state, state, predictions), weights_sha256(arrays), metrics, 1, 0.1)
    checkpoints.save(trained, "ab" * 32, folder / "weights.safetensors")
    return folder / "weights.safetensors", trained.weights_sha256


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_hash_equals_the_one_that_the_worker_records(tmp_path: Path, dtype: torch.dtype) -> None:
    path, sha256 = saved(tmp_path, dtype)
    read = weights.read(path)
    assert read.sha256 == sha256 == read.metadata["weights_sha256"]
    assert read.metadata["spec_hash"] == "ab" * 32
    assert read.predictions == bytes([1, 0])


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200)
@given(data=st.data())
def test_every_changed_byte_is_detected(tmp_path: Path, data: st.DataObject) -> None:
    path, sha256 = saved(tmp_path)
    content = bytearray(path.read_bytes())
    place = data.draw(st.integers(0, len(content) - 1))
    content[place] ^= data.draw(st.integers(128, 255))
    path.write_bytes(content)
    try:
        read = weights.read(path)
    except DataError:
        return
    assert read.sha256 != sha256


@pytest.mark.parametrize("kept", [0, 5, 8, 100, -1])
def test_truncated_file_is_damaged(tmp_path: Path, kept: int) -> None:
    path, _ = saved(tmp_path)
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(DataError, match=r"weights\.safetensors is damaged"):
        weights.read(path)


def test_file_with_extra_bytes_is_damaged(tmp_path: Path) -> None:
    path, _ = saved(tmp_path)
    path.write_bytes(path.read_bytes() + b"\0")
    with pytest.raises(DataError, match=r"weights\.safetensors is damaged"):
        weights.read(path)


def test_missing_file_is_not_reported_as_damaged(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        weights.read(tmp_path / "weights.safetensors")
