"""Between torch's tensors and the arrays of mlpq_workers.engine.training_state."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from mlpq_workers.engine.training_state import Array, Arrays, Predictions, Snapshot
from mlpq_workers.engine.world import World


def to_tensor(array: Array) -> Tensor:
    """A copy on the CPU."""
    return torch.tensor(array)


def to_tensors(arrays: Arrays) -> dict[str, Tensor]:
    """Copies on the CPU."""
    return {name: to_tensor(array) for name, array in arrays.items()}


def to_arrays(tensors: Mapping[str, Tensor]) -> dict[str, Array]:
    """Tensors on the CPU as arrays, which share their memory."""
    return {name: tensor.detach().numpy() for name, tensor in tensors.items()}


def snapshot(weights: Mapping[str, Tensor], shuffle: torch.Generator, dropout: torch.Generator) -> Snapshot:
    """A job's state: its weights, on the CPU and its own, and the states of its generators."""
    return Snapshot(to_arrays(weights), shuffle.get_state().numpy(), dropout.get_state().numpy())


def gather_predictions(classes: Tensor, log_confidences: Tensor, n: int, among: int, world: World) -> Predictions:
    """Predictions for all n images, from this rank's part of them, [part]: class indices and logarithms; collective.

    There are `among` classes.
    """
    whole, logs = world.whole(classes.short(), n), world.whole(log_confidences, n)
    return Predictions.of(whole.cpu().numpy(), logs.cpu().exp().numpy(), among)
