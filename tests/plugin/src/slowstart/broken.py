"""Optimizers that fail."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn


class FailsAtStart(torch.optim.Optimizer):
    """Fails in its constructor."""

    def __init__(self, params: Iterable[nn.Parameter], lr: float) -> None:
        raise ValueError("no good start")


class FailsAtStep(torch.optim.SGD):
    """Fails in step `at`."""

    def __init__(self, params: Iterable[nn.Parameter], lr: float, at: int) -> None:
        super().__init__(params, lr=lr)
        self.left = at

    def step(self, closure: Callable[[], Any] | None = None) -> None:  # type: ignore[override]
        self.left -= 1
        if self.left == 0:
            raise ZeroDivisionError("a step too far")
        super().step()
