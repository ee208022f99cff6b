"""Gradient clipping of networks in a stack, as torch.nn.utils.clip_grad_norm_ does it for one network."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from mlpq.spec.job import JobSpec
from mlpq_workers.engine.stack import Parameters

EPSILON = 1e-6  # that of torch


class Clipping:
    """Scales the gradient of each network down to the norm that its spec allows."""

    def __init__(self, specs: Sequence[JobSpec], gradients: Parameters) -> None:
        limits = [math.inf if spec.clip_norm is None else spec.clip_norm for spec in specs]
        self._limits = gradients.rows.new_tensor(limits)
        self._gradients = gradients
        # One row vector for each network; without the gaps between layers, which may hold anything.
        self._vectors = [layer.flatten(1)[:, None] for layer in gradients.layers]

    def run(self) -> None:
        """Clip all gradients. A product for each network, so that no norm depends on the others."""
        squares = torch.zeros_like(self._limits)
        for vector in self._vectors:
            squares += torch.bmm(vector, vector.transpose(1, 2)).flatten()
        factors = (self._limits / (squares.sqrt() + EPSILON)).clamp(max=1)
        # Networks without a limit keep their gradients also where the norm is infinite or NaN.
        factors.masked_fill_(self._limits.isinf(), 1)
        self._gradients.rows.mul_(factors[:, None])
