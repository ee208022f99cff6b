"""Muon on a network: torch's Muon for the matrices, and torch's AdamW for the biases, as its authors do."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import nn

from mlpq.spec.optimizers import muon_arguments


class MuonWithAdamW(torch.optim.Optimizer):
    """Both optimizers as one: their groups, matrices first, and one state."""

    def __init__(self, parameters: Iterable[nn.Parameter], lr: float, settings: Mapping[str, Any]) -> None:
        parameters = list(parameters)
        super().__init__(parameters, {"lr": lr})
        muon, adamw = muon_arguments(settings)
        matrices, biases = ([p for p in parameters if (p.dim() == 2) is wanted] for wanted in (True, False))
        self._parts: list[torch.optim.Optimizer] = [torch.optim.Muon(matrices, lr=lr, **muon)]
        if biases:
            foreach = biases[0].device.type == "cuda"
            self._parts.append(torch.optim.AdamW(biases, foreach=foreach, **adamw))
        self.param_groups = [group for part in self._parts for group in part.param_groups]
        for part in self._parts:
            part.state = self.state

    def step(self, closure: Callable[[], Any] | None = None) -> None:  # type: ignore[override]
        assert closure is None, "Muon evaluates the loss once"
        for part in self._parts:
            part.step()
