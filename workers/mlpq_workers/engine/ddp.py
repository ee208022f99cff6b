"""The gradients of a stack over the ranks of a world: the stack as the module that DistributedDataParallel wraps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from mlpq_workers.engine.stack import Parameters, Step
from mlpq_workers.engine.world import World


class Gradients(torch.autograd.Function):
    """A step as autograd sees it: what it returns depends on the parameters, and `backward` gives their gradients."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, gradients: Tensor, run: Callable[[], None]) -> Tensor:
        run()
        ctx.gradients = gradients
        return rows.new_zeros(())

    @staticmethod
    def backward(ctx: Any, *_: Tensor) -> tuple[Tensor, None, None]:
        return ctx.gradients, None, None


class StackModule(nn.Module):
    """A stack's parameters, and its step as the forward pass."""

    def __init__(self, parameters: Parameters, gradients: Parameters) -> None:
        super().__init__()
        self.rows = nn.Parameter(parameters.rows)  # the same memory
        self.gradients = gradients.rows

    def forward(self, step: Step, labels: Tensor, losses: Tensor) -> Tensor:
        """Run the step. Zero, of which `backward` brings the gradients."""
        zero: Tensor = Gradients.apply(self.rows, self.gradients, lambda: self._run(step, labels, losses))
        return zero

    def _run(self, step: Step, labels: Tensor, losses: Tensor) -> None:
        step.run(labels, losses)
        if not losses.numel():  # the batch is smaller than the world; a product over nothing may leave what was there
            self.gradients.zero_()


class Together:
    """Steps whose gradients are those of all ranks: the sum of what each one's step computes."""

    def __init__(self, parameters: Parameters, gradients: Parameters, world: World) -> None:
        self._module = StackModule(parameters, gradients)
        self._wrapped = world.wrap(self._module)

    def run(self, step: Step, labels: Tensor, losses: Tensor) -> None:
        """Run the step, and leave all ranks' gradients where its own were."""
        with torch.enable_grad():
            self._wrapped(step, labels, losses).backward()
        assert self._module.rows.grad is not None, "after backward"
        self._module.gradients.copy_(self._module.rows.grad)
        self._module.rows.grad = None
