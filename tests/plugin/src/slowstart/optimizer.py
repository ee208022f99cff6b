"""Momentum whose rate rises over the first steps, and descent with noise. Both keep state of every kind."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn


class Slowstart(torch.optim.Optimizer):
    """Momentum; the rate of step t is lr * min(1, t / steps). `steps` must be an int.

    Its state has what torch's own optimizers don't: doubles, half-precision numbers, and Python's.
    """

    def __init__(
        self,
        params: Iterable[nn.Parameter],
        lr: float = 0.1,
        beta: float = 0.9,
        steps: int = 20,
        betas: tuple[float, float] = (0.5, 0.9),
        nesterov: bool = False,
        weight_decay: float = 0.0,
    ) -> None:
        if not isinstance(steps, int):
            raise TypeError("steps must be an int")
        defaults = {"lr": lr, "beta": beta, "steps": steps, "nesterov": nesterov, "weight_decay": weight_decay}
        super().__init__(params, {**defaults, "betas": tuple(betas), "step": 0})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            group["step"] += 1
            rate = group["lr"] * min(1.0, group["step"] / len(range(group["steps"])))
            for p in group["params"]:
                state = self.state[p]
                if not state:
                    state |= {"m": torch.zeros_like(p, dtype=torch.float64), "mean": p.bfloat16(), "norms": []}
                gradient = p.grad + group["weight_decay"] * p
                state["m"].mul_(group["beta"]).add_(gradient)
                state["mean"].lerp_(p.bfloat16(), 1 - group["betas"][1])
                state["norms"] = [*state["norms"][-2:], float(gradient.norm())]
                slow = sum(state["norms"]) / len(state["norms"]) + 1e-3 * float(state["mean"].float().norm())
                direction = state["m"] + gradient if group["nesterov"] else state["m"]
                p.sub_((rate / (1 + slow) * direction).to(p.dtype))


class Jitter(torch.optim.Optimizer):
    """Gradient descent with noise from torch's default generator, and no learning rate of its own for biases."""

    def __init__(self, params: Iterable[nn.Parameter], lr: float, noise: float) -> None:
        params = list(params)
        kinds = ([p for p in params if p.dim() > 1], [p for p in params if p.dim() == 1])
        groups = [{"params": kind, "lr": rate} for kind, rate in zip(kinds, (lr, lr / 2), strict=True) if kind]
        super().__init__(groups, {"noise": noise})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for p in group["params"]:
                p.sub_(group["lr"] * (p.grad + group["noise"] * torch.randn(p.shape).to(p)))
