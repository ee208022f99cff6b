"""The learning rates of a stack whose networks follow schedules."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from mlpq.spec.job import JobSpec
from mlpq_workers.engine.optimizers import StackOptimizer
from mlpq_workers.engine.rates import epoch_rates
from mlpq_workers.engine.stack import Step


class StackRates:
    """Sets the rates of each batch in the steps and the optimizers of a stack, where any of them varies.

    The first `descending` networks are trained by plain gradient descent; `optimizer` has the others. Where `in_graph`,
    optimizers read their rates from a tensor, so that a CUDA graph sees them change.
    """

    def __init__(
        self, specs: Sequence[JobSpec], descending: int, optimizer: StackOptimizer, like: Tensor, in_graph: bool
    ) -> None:
        self._specs, self._descending, self._optimizer, self._like = specs, descending, optimizer, like
        self.vary = any(spec.has_varying_lr for spec in specs)
        self._current: Tensor | None = None
        if self.vary and in_graph:
            # In single precision whatever the parameters have: torch's fused kernels read nothing else.
            self._current = torch.zeros(len(specs) - descending, dtype=torch.float32, device=like.device)
            optimizer.set_rates(self._current)

    def begin(self, epochs: Sequence[int], n: int) -> None:
        """Compute the rates of an epoch over `n` images; `epochs` has its number in each network's training."""
        if not self.vary:
            return
        rates = np.stack([epoch_rates(spec, epoch, n) for spec, epoch in zip(self._specs, epochs, strict=True)], 1)
        size = self._specs[0].batch_size
        sizes = np.minimum(size, n - size * np.arange(len(rates)))
        self._factors = self._like.new_tensor(-rates[:, : self._descending] / sizes[:, None])
        rest = rates[:, self._descending :]
        self._rates = rest.tolist() if self._current is None else self._current.new_tensor(rest)

    def apply(self, batch: int, step: Step) -> None:
        """Set the rates of a batch of the epoch, counted from 0, which `step` trains."""
        if not self.vary:
            return
        step.set_rates(self._factors[batch])
        if self._current is None:
            self._optimizer.set_rates(self._rates[batch])
        else:
            self._current.copy_(self._rates[batch])
