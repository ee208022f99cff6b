"""The files of jobs: final weights and checkpoints. Each is a safetensors file, either complete or absent, and hashed.

The name of a checkpoint contains its attempt, its epoch and the SHA-256 of its content. Its content says whose it is.
"""

from __future__ import annotations

import base64
import ctypes
import dataclasses
import hashlib
import io
import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError
from safetensors import SafetensorError
from safetensors.numpy import load as from_safetensors
from safetensors.numpy import save as to_safetensors

from mlpq import regular_files
from mlpq.errors import DataError
from mlpq.records import EpochMetrics
from mlpq.spec.formula_program import MAX_STATES
from mlpq.spec.parsing import MAX_PARAMETERS
from mlpq.weights_format import STATES, largest_file, predictions_metadata, read_header, states_sha256
from mlpq_workers.engine.training_state import (
    Array,
    Arrays,
    Checkpoint,
    Predictions,
    Snapshot,
    Trained,
    weights_sha256,
)
from mlpq_workers.kernel.library import GeneratorState

NAME = re.compile(r"attempt-(\d+)-epoch-(\d+)-([0-9a-f]{64})\.safetensors")
KEPT = 2  # checkpoints of an attempt
# The last and the best weights and the optimizer's state, which has the most values for each in a formula; the curve.
LARGEST_CHECKPOINT = (2 + MAX_STATES) * largest_file(MAX_PARAMETERS) + 2**26

Owner = Mapping[str, str]


@dataclasses.dataclass(frozen=True)
class About:
    """What a checkpoint contains beside arrays."""

    whose: dict[str, str]
    curve: list[EpochMetrics]
    best_epoch: int


ABOUT = TypeAdapter(About)


def save(trained: Trained, spec_hash: str, path: Path) -> None:
    """Write the final weights, with the generator states and the predictions as metadata; raises OSError."""
    final = trained.final
    assert final.predictions is not None, "a result has predictions"
    states = {
        "shuffle_state": base64.b64encode(final.shuffle_state.tobytes()).decode(),
        "dropout_state": base64.b64encode(final.dropout_state.tobytes()).decode(),
    }
    metadata = {
        "spec_hash": spec_hash,
        "weights_sha256": trained.weights_sha256,
        "states_sha256": states_sha256(states),
        **states,
        **predictions_metadata(final.predictions.classes.tobytes()),
    }
    regular_files.write(path, to_safetensors(dict(final.weights), metadata))


def load_start(path: Path, expected_sha256: str, artifacts_dir: Path) -> Snapshot:
    """What `save` wrote, checked against the SHA-256 of the weights in the database; raises DataError with one line.

    Only a regular file in `artifacts_dir` is read, whatever path the database has.
    """
    remedy = "run the job that wrote it again with mlpq submit --again, then this one"
    if not path.exists():
        raise DataError(f"the parent's weights {path} are missing: set MLPQ_ARTIFACTS_DIR to their folder, or {remedy}")
    try:
        regular_files.check_inside(path, artifacts_dir)
        content = regular_files.read(path, largest_file(MAX_PARAMETERS))
    except OSError as error:
        raise DataError(f"the parent's weights {path} can't be read: {error.strerror}") from error
    try:
        weights, metadata = from_safetensors(content), read_header(io.BytesIO(content))["__metadata__"]
        dropout_state, shuffle_state = (metadata[name] for name in STATES)
        states_match = states_sha256(metadata) == metadata["states_sha256"]
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise DataError(f"the parent's weights {path} can't be read, the file is damaged: {remedy}") from error
    if weights_sha256(weights) != expected_sha256:
        raise DataError(f"the parent's weights {path} were changed, their SHA-256 is not the recorded one: {remedy}")
    if not states_match:
        raise DataError(f"the generator states in {path} were changed, their SHA-256 is not the saved one: {remedy}")
    return Snapshot(weights, _array(base64.b64decode(shuffle_state)), _array(base64.b64decode(dropout_state)))


def save_checkpoint(checkpoint: Checkpoint, owner: Owner, folder: Path, attempt: int) -> None:
    """Write a checkpoint, and remove all older ones of this attempt but one; raises OSError.

    `owner` identifies the job and what it was computed on: only a job with an equal owner resumes from the checkpoint.
    """
    about = About(dict(owner), list(checkpoint.curve), checkpoint.best_epoch)
    arrays = {
        "about": _array(json.dumps(dataclasses.asdict(about)).encode()),
        **_named("last", checkpoint.last),
        **_named("best", checkpoint.best),
        **{f"optimizer {name}": array for name, array in checkpoint.optimizer.items()},
    }
    content = to_safetensors(arrays)
    epoch, sha256 = checkpoint.curve[-1].epoch, hashlib.sha256(content).hexdigest()
    regular_files.write(folder / f"attempt-{attempt}-epoch-{epoch}-{sha256}.safetensors", content)
    own = [path for of_attempt, _, path in _checkpoints(folder) if of_attempt == attempt]
    for path in own[KEPT:]:
        path.unlink(missing_ok=True)


def newest_checkpoint(owner: Owner, folder: Path, warn: Callable[[str], None]) -> Checkpoint | None:
    """The newest valid checkpoint in a job's folder, of any attempt. `warn` is called for each that is skipped."""
    for _, _, path in _checkpoints(folder):
        try:
            return read_checkpoint(path, owner)
        except Exception as error:  # of whatever kind: training can go on without it
            warn(f"checkpoint {path.name} skipped: {error}")
    return None


def read_checkpoint(path: Path, owner: Owner) -> Checkpoint:
    """What `save_checkpoint` wrote; raises an error where the file is damaged, or has odd contents or another owner."""
    content = regular_files.read(path, LARGEST_CHECKPOINT)
    if hashlib.sha256(content).hexdigest() not in path.name:
        raise ValueError("the file is damaged")
    arrays = from_safetensors(content)
    about = _about(arrays)
    if about.whose != dict(owner):
        raise ValueError(_difference(about.whose, owner))
    last, best = _snapshot("last", arrays), _snapshot("best", arrays)
    epochs = [metrics.epoch for metrics in about.curve]
    has_best = best is not None and best.predictions is not None
    is_whole = last is not None and (has_best or (best is None and about.best_epoch == len(epochs)))
    if last is None or not is_whole or not epochs or epochs != list(range(1, len(epochs) + 1)):
        raise ValueError("parts of it are missing")
    if not 1 <= about.best_epoch <= len(epochs):
        raise ValueError(f"its best epoch is {about.best_epoch} of {len(epochs)}")
    optimizer = {name.removeprefix("optimizer "): a for name, a in arrays.items() if name.startswith("optimizer ")}
    return Checkpoint(tuple(about.curve), last, optimizer, about.best_epoch, best, path)


def _about(arrays: Arrays) -> About:
    """The part that is not of arrays; raises ValueError where it is not as `save_checkpoint` writes it."""
    if "about" not in arrays or arrays["about"].dtype != np.uint8:
        raise ValueError("it does not say whose it is")
    try:
        return ABOUT.validate_json(arrays["about"].tobytes(), strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "its description"
        raise ValueError(f"{where}: {first['msg']}") from None


def _checkpoints(folder: Path) -> list[tuple[int, int, Path]]:
    """Attempt, epoch and path of each checkpoint, the latest epoch first."""
    named = ((NAME.fullmatch(path.name), path) for path in folder.glob("attempt-*-epoch-*.safetensors"))
    found = [(int(match[1]), int(match[2]), path) for match, path in named if match]
    return sorted(found, key=lambda each: (each[1], each[0]), reverse=True)


def _difference(theirs: Owner, ours: Owner) -> str:
    names = sorted(name for name in {*theirs, *ours} if theirs.get(name) != ours.get(name))
    return "; ".join(f"{name} was {theirs.get(name)}, now {ours.get(name)}" for name in names)


def _named(prefix: str, snapshot: Snapshot | None) -> dict[str, Array]:
    if snapshot is None:
        return {}
    arrays: dict[str, Array] = {
        f"{prefix} shuffle": snapshot.shuffle_state,
        f"{prefix} dropout": snapshot.dropout_state,
    }
    if snapshot.predictions is not None:
        arrays |= {
            f"{prefix} classes": snapshot.predictions.classes,
            f"{prefix} confidences": snapshot.predictions.confidences,
        }
    return {**arrays, **{f"{prefix} weights {name}": array for name, array in snapshot.weights.items()}}


def _snapshot(prefix: str, arrays: Arrays) -> Snapshot | None:
    if f"{prefix} shuffle" not in arrays:
        return None
    weights = f"{prefix} weights "
    found = {name.removeprefix(weights): array for name, array in arrays.items() if name.startswith(weights)}
    shuffle_state, dropout_state = (arrays[f"{prefix} {which}"] for which in ("shuffle", "dropout"))
    for state in (shuffle_state, dropout_state):
        if state.dtype != np.uint8 or state.shape != (ctypes.sizeof(GeneratorState),):
            raise ValueError("the state of a generator is not one")
    predictions = None
    if f"{prefix} classes" in arrays:
        predictions = Predictions(arrays[f"{prefix} classes"], arrays[f"{prefix} confidences"])
    return Snapshot(found, shuffle_state, dropout_state, predictions)


def _array(content: bytes) -> NDArray[np.uint8]:
    return np.frombuffer(content, np.uint8)
