"""The files of jobs: final weights, and checkpoints. All are safetensors, complete or not there, and hashed.

A checkpoint's name carries its attempt, its epoch and the SHA-256 of its content; its metadata, whose it is.
"""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import json
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load as from_safetensors
from safetensors.torch import save as to_safetensors
from torch import Tensor

from mlpq.errors import DataError
from mlpq_workers.engine.network import weights_sha256
from mlpq_workers.engine.training_state import Checkpoint, Epoch, Start, Trained

NAME = re.compile(r"attempt-(\d+)-epoch-(\d+)-([0-9a-f]{64})\.safetensors")
KEPT = 2  # checkpoints of an attempt

Whose = Mapping[str, str]


def save(trained: Trained, spec_hash: str, path: Path) -> None:
    """Write weights and generator states."""
    states = {
        "shuffle_state": base64.b64encode(trained.shuffle_state.numpy().tobytes()).decode(),
        "dropout_state": base64.b64encode(trained.dropout_state.numpy().tobytes()).decode(),
    }
    metadata = {
        "spec_hash": spec_hash,
        "weights_sha256": trained.weights_sha256,
        "states_sha256": _states_sha256(states),
        **states,
    }
    _write(path, to_safetensors(dict(trained.weights), metadata))


def load_start(path: Path, expected_sha256: str) -> Start:
    """What `save` wrote, checked against the weights' SHA-256 from the database; raises DataError with one line."""
    again = "run the job that made it again with mlpq submit --again, then this one"
    if not path.is_file():
        raise DataError(
            f"{path}, the weights to go on from, is missing: set MLPQ_ARTIFACTS_DIR to its folder, or {again}"
        )
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
        states = {name: metadata[name] for name in ("shuffle_state", "dropout_state")}
        states_right = _states_sha256(states) == metadata["states_sha256"]
    except (SafetensorError, OSError, KeyError) as error:
        raise DataError(f"{path}, the weights to go on from, can't be read, it is damaged: {again}") from error
    if weights_sha256(weights) != expected_sha256:
        raise DataError(f"{path} does not hold the weights that its job recorded, they were changed: {again}")
    if not states_right:
        raise DataError(f"{path} does not hold the generator states that were saved, they were changed: {again}")
    return Start(weights, _state(states["shuffle_state"]), _state(states["dropout_state"]))


def _states_sha256(states: Mapping[str, str]) -> str:
    return hashlib.sha256("\n".join(states[name] for name in sorted(states)).encode()).hexdigest()


def _state(text: str) -> Tensor:
    return _bytes(base64.b64decode(text))


def save_checkpoint(checkpoint: Checkpoint, whose: Whose, folder: Path, attempt: int) -> None:
    """Write a checkpoint and remove the older ones of this attempt but the last.

    `whose` says of what it is the state and on what that was computed; only what says the same may go on from it.
    """
    about = {
        "whose": dict(whose),
        "curve": [dataclasses.asdict(epoch) for epoch in checkpoint.curve],
        "best_epoch": checkpoint.best_epoch,
    }
    tensors = {
        "about": _bytes(json.dumps(about).encode()),
        **_named("last", checkpoint.last),
        **_named("best", checkpoint.best),
        **{f"optimizer {name}": tensor for name, tensor in checkpoint.optimizer.items()},
    }
    content = to_safetensors(tensors)
    epoch, sha256 = checkpoint.curve[-1].epoch, hashlib.sha256(content).hexdigest()
    _write(folder / f"attempt-{attempt}-epoch-{epoch}-{sha256}.safetensors", content)
    mine = [path for of, _, path in _checkpoints(folder) if of == attempt]
    for path in mine[KEPT:]:
        path.unlink(missing_ok=True)


def newest_checkpoint(whose: Whose, folder: Path, warn: Callable[[str], None]) -> Checkpoint | None:
    """The newest sound checkpoint in the folder of a job, whatever its attempt; `warn` hears what is passed over."""
    for _, _, path in _checkpoints(folder):
        try:
            return read_checkpoint(path, whose)
        except (OSError, SafetensorError, LookupError, TypeError, ValueError) as error:
            warn(f"the checkpoint {path.name} is passed over: {error}")
    return None


def read_checkpoint(path: Path, whose: Whose) -> Checkpoint:
    """What `save_checkpoint` wrote; raises ValueError where it is damaged or another's."""
    content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() not in path.name:
        raise ValueError("it is damaged")
    tensors = from_safetensors(content)
    about = json.loads(tensors["about"].numpy().tobytes())
    if about["whose"] != dict(whose):
        raise ValueError(_difference(about["whose"], whose))
    last = _start("last", tensors)
    assert last is not None
    optimizer = {name.removeprefix("optimizer "): t for name, t in tensors.items() if name.startswith("optimizer ")}
    curve = tuple(Epoch(**epoch) for epoch in about["curve"])
    return Checkpoint(curve, last, optimizer, about["best_epoch"], _start("best", tensors), path)


def _checkpoints(folder: Path) -> list[tuple[int, int, Path]]:
    """Attempt, epoch and path of each checkpoint, the latest epoch first."""
    named = ((NAME.fullmatch(path.name), path) for path in folder.glob("attempt-*-epoch-*.safetensors"))
    found = [(int(match[1]), int(match[2]), path) for match, path in named if match]
    return sorted(found, key=lambda one: (one[1], one[0]), reverse=True)


def _difference(theirs: Whose, ours: Whose) -> str:
    names = sorted(name for name in {*theirs, *ours} if theirs.get(name) != ours.get(name))
    return "; ".join(f"{name} was {theirs.get(name)} and is {ours.get(name)}" for name in names)


def _named(prefix: str, start: Start | None) -> dict[str, Tensor]:
    if start is None:
        return {}
    states = {f"{prefix} shuffle": start.shuffle_state, f"{prefix} dropout": start.dropout_state}
    return {**states, **{f"{prefix} weights {name}": tensor for name, tensor in start.weights.items()}}


def _start(prefix: str, tensors: Mapping[str, Tensor]) -> Start | None:
    if f"{prefix} shuffle" not in tensors:
        return None
    weights = f"{prefix} weights "
    found = {name.removeprefix(weights): tensor for name, tensor in tensors.items() if name.startswith(weights)}
    return Start(found, tensors[f"{prefix} shuffle"], tensors[f"{prefix} dropout"])


def _bytes(content: bytes) -> Tensor:
    return torch.frombuffer(bytearray(content), dtype=torch.uint8)


def _write(path: Path, content: bytes) -> None:
    """Write a file that either is complete or is not there, also after a crash or a power cut."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
