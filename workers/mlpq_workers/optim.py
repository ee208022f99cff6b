"""From the words of a spec to an optimizer of torch.optim, and the L1 penalty, which torch.optim does not have."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from mlpq.optimizers import OPTIMIZERS
from mlpq.spec import JobSpec


def build_optimizer(spec: JobSpec, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
    """The optimizer that the spec names, fresh, with the same arithmetic as one made without implementation options.

    `foreach` is what torch picks by itself for the device; said aloud, torch does not work it out again at every step
    (3 % of a step of the textbook's model on a CPU).
    """
    parameters = list(parameters)
    make = getattr(torch.optim, OPTIMIZERS[spec.optimizer].torch_name)
    foreach = parameters[0].device.type == "cuda"
    optimizer: torch.optim.Optimizer = make(parameters, lr=spec.lr, foreach=foreach, **spec.optimizer_settings)
    return optimizer


def l1_penalty(parameters: Iterable[Tensor], l1: float) -> Tensor:
    """l1 times the sum of |p| over all parameters, biases too, as weight_decay of torch.optim takes all; a scalar."""
    return l1 * torch.stack([p.abs().sum() for p in parameters]).sum()
