"""The plain engine: one job, one process, nn.Sequential with autograd and torch.optim. The oracle of faster ones.

It trains as the source's script does (MMiDS 8.5): the same initial weights, batch order and dropout masks from the same
seed, so on a CPU it gives the same bits. All draws come from two generators on the CPU, whatever the device.
"""

from __future__ import annotations

import base64
import hashlib
import math
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_safetensors
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from mlpq.errors import DataError
from mlpq.spec import JobSpec
from mlpq_workers.data import Data, epoch_order, split
from mlpq_workers.model import build, weights_sha256
from mlpq_workers.optim import build_optimizer, l1_penalty

# Float32 values in the widest layer's output while evaluating: 64 MB. Fewer rows at a time for wide networks only.
EVALUATION_FLOATS = 2**24


@dataclass(frozen=True)
class Epoch:
    """What one epoch brought. Losses are mean cross-entropies, without any penalty; `epoch` counts from 1.

    `train_loss` is the mean over the epoch's batches as they were trained on; the others are taken after the epoch.
    The validation figures are None without a validation split. `seconds` covers training and evaluation.
    """

    epoch: int
    train_loss: float
    validation_loss: float | None
    validation_correct: int | None
    validation_total: int | None
    test_loss: float
    test_correct: int
    test_total: int
    seconds: float


@dataclass(frozen=True)
class Start:
    """Where a job goes on from: CPU weights, and the states of both generators (see torch.Generator.get_state)."""

    weights: Mapping[str, Tensor]
    shuffle_state: Tensor
    dropout_state: Tensor


@dataclass(frozen=True)
class Trained:
    """A finished training. Weights, generator states, losses and counts are all those at the end of `best_epoch`.

    That is the last epoch, unless the spec asks for early stopping. `train_seconds` covers all `epochs_run`.
    """

    weights: Mapping[str, Tensor]
    shuffle_state: Tensor
    dropout_state: Tensor
    weights_sha256: str
    best_epoch: int
    epochs_run: int
    validation_loss: float | None
    validation_correct: int | None
    validation_total: int | None
    test_loss: float
    test_correct: int
    test_total: int
    train_seconds: float


class Stopped(Exception):  # noqa: N818 (an answer to should_stop, not an error)
    """Training was told to stop; there is no result."""


class Diverged(Exception):  # noqa: N818 (a finding, not an error)
    """A loss is no longer a finite number: a finding about the settings, not a fault of the program."""

    def __init__(self, epoch: int, loss: float) -> None:
        super().__init__(epoch, loss)
        self.epoch = epoch
        self.loss = loss

    def __str__(self) -> str:
        return f"the loss became {self.loss} in epoch {self.epoch}"


def train(
    spec: JobSpec,
    data: Data,
    device: str,
    start: Start | None = None,
    on_epoch: Callable[[Epoch], None] = lambda epoch: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> Trained:
    """Train the job of `spec` on `device` ("cpu", "cuda", "mps") and evaluate it after each epoch.

    With `start`, weights and generators go on from there; the optimizer is always new. `on_epoch` hears of every epoch
    and `should_stop` is asked before every batch. Raises Stopped, and Diverged at the end of an epoch whose loss is not
    finite, which `on_epoch` then does not hear of.
    """
    model, dropout = build(spec)
    shuffle = torch.Generator().manual_seed(spec.seed)
    if start:
        model.load_state_dict(start.weights)
        shuffle.set_state(start.shuffle_state)
        dropout.set_state(start.dropout_state)
    model.to(device, data.dtype)
    optimizer = build_optimizer(spec, model.parameters())

    data = data.to(device)
    n = len(data.train_y)
    rows, held_out = split(n, spec.validation_size, spec.seed) if spec.validation else (torch.arange(n), None)
    validation = None if held_out is None else (data.train_x[held_out], data.train_y[held_out])

    seconds = 0.0
    best: Epoch | None = None
    for number in range(1, spec.epochs + 1):
        began = time.perf_counter()
        order = rows[epoch_order(len(rows), shuffle)].to(device)
        train_loss = _train_epoch(spec, model, optimizer, data, order, should_stop)
        epoch = _evaluated(number, train_loss, model, validation, (data.test_x, data.test_y), data.scale, began)
        seconds += epoch.seconds
        on_epoch(epoch)
        if best is None or spec.patience is None or _lower(epoch.validation_loss, best.validation_loss):
            best = epoch
            kept = Start(_copied(model), shuffle.get_state(), dropout.get_state())
        elif number - best.epoch >= spec.patience:
            break

    assert best is not None  # a spec has at least one epoch
    return Trained(
        weights=kept.weights,
        shuffle_state=kept.shuffle_state,
        dropout_state=kept.dropout_state,
        weights_sha256=weights_sha256(kept.weights),
        best_epoch=best.epoch,
        epochs_run=number,
        validation_loss=best.validation_loss,
        validation_correct=best.validation_correct,
        validation_total=best.validation_total,
        test_loss=best.test_loss,
        test_correct=best.test_correct,
        test_total=best.test_total,
        train_seconds=seconds,
    )


def evaluate(model: nn.Module, x: Tensor, y: Tensor, scale: int = 1) -> tuple[float, int]:
    """Mean cross-entropy and number of right answers over all rows of x / scale; draws from no generator."""
    model.eval()
    widest = max(len(p) for p in model.parameters())
    chunk = max(1, EVALUATION_FLOATS // widest)
    loss, correct = 0.0, 0
    with torch.inference_mode():
        for some_x, some_y in zip(x.split(chunk), y.split(chunk), strict=True):
            logits = model(some_x / scale)
            # Summed in double, on the CPU because MPS has none: the figure must not depend on the chunks.
            loss += cross_entropy(logits, some_y, reduction="none").cpu().double().sum().item()
            correct += int((logits.argmax(1) == some_y).sum())
    return loss / len(y), correct


def save(trained: Trained, spec_hash: str, path: Path) -> None:
    """Write weights and generator states to a safetensors file that either is complete or is not there.

    Also after a crash or a power cut, hence: temporary name, fsync, rename, fsync the folder.
    """
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
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with temporary.open("wb") as file:
            file.write(to_safetensors(dict(trained.weights), metadata))
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


def _train_epoch(
    spec: JobSpec,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    data: Data,
    order: Tensor,
    should_stop: Callable[[], bool],
) -> float:
    """One pass over the rows in `order`; returns the mean cross-entropy over them."""
    model.train()
    parameters = list(model.parameters())
    batches = order.split(spec.batch_size)
    losses = []
    for batch in batches:
        if should_stop():
            raise Stopped
        x, y = data.train_x.index_select(0, batch) / data.scale, data.train_y.index_select(0, batch)
        loss = cross_entropy(model(x), y)
        # Kept as tensors: reading each one's value would make a GPU wait after every batch.
        losses.append(loss.detach())
        if spec.l1:
            loss = loss + l1_penalty(parameters, spec.l1)
        # optimizer.zero_grad() does the same by way of the profiler, at 7 % of a step of the textbook's model.
        for parameter in parameters:
            parameter.grad = None
        loss.backward()
        optimizer.step()
    sizes = torch.tensor([len(batch) for batch in batches], dtype=torch.float64)
    return float(torch.stack(losses).cpu().double() @ sizes) / len(order)


def _evaluated(
    number: int,
    train_loss: float,
    model: nn.Module,
    validation: tuple[Tensor, Tensor] | None,
    test: tuple[Tensor, Tensor],
    scale: int,
    began: float,
) -> Epoch:
    """The figures after an epoch, the held-out ones taken on the weights as they now are; raises Diverged."""
    _check_finite(number, train_loss)
    validation_loss, validation_correct = evaluate(model, *validation, scale) if validation else (None, None)
    if validation_loss is not None:
        _check_finite(number, validation_loss)
    test_loss, test_correct = evaluate(model, *test, scale)
    _check_finite(number, test_loss)
    return Epoch(
        epoch=number,
        train_loss=train_loss,
        validation_loss=validation_loss,
        validation_correct=validation_correct,
        validation_total=len(validation[1]) if validation else None,
        test_loss=test_loss,
        test_correct=test_correct,
        test_total=len(test[1]),
        seconds=time.perf_counter() - began,
    )


def _check_finite(epoch: int, loss: float) -> None:
    if not math.isfinite(loss):
        raise Diverged(epoch, loss)


def _lower(loss: float | None, best: float | None) -> bool:
    return loss is not None and best is not None and loss < best


def _copied(model: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.detach().to("cpu", copy=True) for name, tensor in model.state_dict().items()}


def _states_sha256(states: Mapping[str, str]) -> str:
    return hashlib.sha256("\n".join(states[name] for name in sorted(states)).encode()).hexdigest()


def _state(text: str) -> Tensor:
    return torch.frombuffer(bytearray(base64.b64decode(text)), dtype=torch.uint8)
