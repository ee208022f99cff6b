"""Gradients of a stack over all ranks: the stack as a module that DistributedDataParallel can wrap."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from mlpq_workers.engine.stack import Parameters, Step
from mlpq_workers.engine.world import World


class StepFunction(torch.autograd.Function):
    """A training step as autograd sees it: a zero that depends on the parameters, with the step's own gradients."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, gradients: Tensor, run: Callable[[], None]) -> Tensor:
        run()
        ctx.gradients = gradients
        return rows.new_zeros(())

    @staticmethod
    def backward(ctx: Any, *_: Tensor) -> tuple[Tensor, None, None]:
        return ctx.gradients, None, None


class StackModule(nn.Module):
    """The parameters of a stack, and its training step as the forward pass."""

    def __init__(self, parameters: Parameters, gradients: Parameters) -> None:
        super().__init__()
        self.rows = nn.Parameter(parameters.rows)  # shares its memory
        self.gradients = gradients.rows

    def forward(self, step: Step, labels: Tensor, losses: Tensor) -> Tensor:
        """Run the step. Returns a zero whose `backward` gives the step's gradients."""
        zero: Tensor = StepFunction.apply(self.rows, self.gradients, lambda: self._run(step, labels, losses))
        return zero

    def _run(self, step: Step, labels: Tensor, losses: Tensor) -> None:
        step.run(labels, losses)
        # With fewer images than ranks this one has none; a product over nothing may leave the last gradients in place.
        if not losses.numel():
            self.gradients.zero_()


class StackDDP:
    """Runs steps whose gradients are the sums of those of all ranks."""

    def __init__(self, parameters: Parameters, gradients: Parameters, world: World) -> None:
        self._module = StackModule(parameters, gradients)
        self._wrapped = world.wrap(self._module)

    def run(self, step: Step, labels: Tensor, losses: Tensor) -> None:
        """Run the step, and replace its gradients by the sums over all ranks."""
        with torch.enable_grad():
            self._wrapped(step, labels, losses).backward()
        assert self._module.rows.grad is not None, "backward sets it"
        self._module.gradients.copy_(self._module.rows.grad)
        self._module.rows.grad = None
