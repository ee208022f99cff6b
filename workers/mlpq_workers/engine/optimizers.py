"""The optimizers of specs, by torch.optim, and the L1 penalty, which torch.optim does not have."""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from mlpq.spec.job import JobSpec
from mlpq.spec.optimizers import OPTIMIZERS, arguments
from mlpq_workers.engine.formulas import STEPS, build_formula, in_double, rounded, run_vectors, scalar_values
from mlpq_workers.engine.muon import MuonWithAdamW
from mlpq_workers.engine.plugin_optimizer import build_plugin, put_plugin_state, take_plugin_state
from mlpq_workers.engine.stack import Shape


def build_optimizer(spec: JobSpec, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
    """A new optimizer for the spec, with the arithmetic of one that is created without implementation options.

    `foreach` is torch's own choice for the device; passing it saves torch from making the choice again at every step
    (3 % of a step of the textbook's network on a CPU).
    """
    parameters = list(parameters)
    if spec.formula is not None:
        return build_formula(spec, parameters)
    if spec.plugin is not None:
        return build_plugin(spec, parameters)
    settings = arguments(spec.optimizer_defaults, spec.optimizer_settings)
    if spec.optimizer == "muon":
        return MuonWithAdamW(parameters, spec.lr, settings)
    make = getattr(torch.optim, OPTIMIZERS[spec.optimizer].torch_name)
    foreach = parameters[0].device.type == "cuda"
    optimizer: torch.optim.Optimizer = make(parameters, lr=spec.lr, foreach=foreach, **settings)
    return optimizer


def rate_factors(optimizer: torch.optim.Optimizer, lr: float) -> list[float]:
    """The learning rate of each group of a new optimizer, divided by that of the spec."""
    return [float(group["lr"]) / lr for group in optimizer.param_groups]


def set_rate(optimizer: torch.optim.Optimizer, rate: float | Tensor, factors: Iterable[float] = ()) -> None:
    """Set the learning rate of the next steps, times the factor of each group where there are some."""
    for group, factor in itertools.zip_longest(optimizer.param_groups, factors):
        group["lr"] = rate if factor is None else rate * factor


def take_state(spec: JobSpec, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """A copy on the CPU of the optimizer's state; raises MlpqError for one of a plug-in that can't be copied.

    Of torch's optimizers, names are "PARAMETER NAME", with the number of the parameter.
    """
    if spec.plugin is not None:
        return take_plugin_state(optimizer)
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    return {
        f"{i} {name}": value.detach().to("cpu", copy=True)
        for i, parameter in enumerate(parameters)
        for name, value in optimizer.state[parameter].items()
        if isinstance(value, Tensor)
    }


def put_state(spec: JobSpec, optimizer: torch.optim.Optimizer, state: Mapping[str, Tensor]) -> None:
    """Restore what `take_state` returned in a new optimizer, whose parameters are on their device."""
    if spec.plugin is not None:
        put_plugin_state(optimizer, state)
    else:
        _put_tensors(optimizer, state)


def _put_tensors(optimizer: torch.optim.Optimizer, state: Mapping[str, Tensor]) -> None:
    parameters = [(parameter, group) for group in optimizer.param_groups for parameter in group["params"]]
    for name, value in state.items():
        number, _, own = name.partition(" ")
        parameter, group = parameters[int(number)]
        # torch's ASGD keeps its counters on the device in any case.
        counts_on_device = group.get("capturable") or group.get("fused") or isinstance(optimizer, torch.optim.ASGD)
        device = parameter.device if value.dim() or counts_on_device else "cpu"
        optimizer.state[parameter][own] = value.to(device, copy=True)


def l1_penalty(parameters: Iterable[Tensor], l1: float) -> Tensor:
    """l1 times the sum of |p| over all parameters; a scalar. Biases are included, as in weight_decay of torch.optim."""
    return l1 * torch.stack([p.abs().sum() for p in parameters]).sum()


def is_plain_descent(spec: JobSpec) -> bool:
    """Whether a step only subtracts lr times the gradient of the loss: plain gradient descent."""
    return (
        spec.optimizer == "sgd"
        and spec.clip_norm is None
        and not (spec.l1 or spec.optimizer_settings["momentum"] or spec.optimizer_settings["weight_decay"])
    )


def is_capturable(spec: JobSpec) -> bool:
    """Whether a step of the optimizer can be captured in a CUDA graph: it counts nothing on the CPU."""
    if spec.formula is not None:
        return False
    make = getattr(torch.optim, OPTIMIZERS[spec.optimizer].torch_name)
    return spec.optimizer == "sgd" or "capturable" in inspect.signature(make).parameters


def settings_key(spec: JobSpec, epochs: int) -> tuple[Any, ...]:
    """Equal for jobs that can share one parameter tensor of an optimizer; jobs with an L1 penalty sort last.

    `epochs` is how many the job has behind it when it joins: an optimizer counts the steps of all its rows together.
    """
    if (program := spec.program) is not None:  # rows of one formula have constants and rates of their own
        return (bool(spec.l1), spec.optimizer, [(str(spec.formula), program.operations)], (), epochs)
    varying = (spec.schedule, sorted(spec.schedule_settings.items()), spec.warmup, spec.epochs)
    rates = (spec.lr, *(varying if spec.has_varying_lr else ()))
    return (bool(spec.l1), spec.optimizer, sorted(spec.optimizer_settings.items()), rates, epochs)


class Rows:
    """The networks of jobs with equal settings as one parameter tensor, a row each, and its optimizer.

    Every optimizer used here works element by element, so each row gets the bits that it would get alone.
    """

    def __init__(self, spec: JobSpec, rows: Tensor, gradients: Tensor) -> None:
        self._rows = rows
        rows.grad = gradients
        make = getattr(torch.optim, OPTIMIZERS[spec.optimizer].torch_name)
        options = inspect.signature(make).parameters
        if rows.is_cuda:
            chosen = {"foreach": True} | ({"capturable": True} if "capturable" in options else {})
        else:
            chosen = {"fused": True} if "fused" in options else {"foreach": False}
        self._optimizer: torch.optim.Optimizer = make([rows], lr=spec.lr, **chosen, **spec.optimizer_settings)

    def set_rate(self, rate: float | Tensor) -> None:
        """Set the learning rate of the next steps; a tensor may change without another call."""
        set_rate(self._optimizer, rate)

    def step(self) -> None:
        self._optimizer.step()

    def take_state(self, row: int) -> dict[str, Tensor]:
        """A copy on the CPU of one row's part of the state."""
        state = self._optimizer.state[self._rows]
        return {
            name: (value[row] if value.shape == self._rows.shape else value).to("cpu", copy=True)
            for name, value in state.items()
            if isinstance(value, Tensor)
        }

    def put_state(self, states: Sequence[Mapping[str, Tensor]]) -> None:
        """Restore what `take_state` returned for each row, all after the same number of steps."""
        merged = {name: torch.stack([s[name] for s in states]) if v.dim() else v for name, v in states[0].items()}
        _put_tensors(self._optimizer, {f"0 {name}": value for name, value in merged.items()})

    def take_over(self, other: Rows, kept: Sequence[int]) -> None:
        """Take over the state of `other`. These rows are its rows `kept`, in order."""
        self._optimizer.state[self._rows] = {
            name: value[kept] if isinstance(value, Tensor) and value.shape == other._rows.shape else value
            for name, value in other._optimizer.state[other._rows].items()
        }


class FusedRows(Rows):
    """`Rows` by torch's fused kernels for SGD, Adam and AdamW, called directly.

    torch.optim calls these kernels too, after Python code that takes longer than the step of a small network.
    """

    NAMES = frozenset({"adam", "adamw", "sgd"})

    def __init__(self, spec: JobSpec, rows: Tensor, gradients: Tensor) -> None:
        self._rows, self._gradients, self._spec = rows, gradients, spec
        own = spec.optimizer_settings
        self._steps = torch.zeros((), device=rows.device)
        if spec.optimizer == "sgd":
            count = int(bool(own["momentum"]))
            names = ("weight_decay", "momentum", "dampening", "nesterov")
            self._kernel: Any = torch._fused_sgd_
            self._options: dict[str, Any] = {name: own[name] for name in names} | {"is_first_step": bool(count)}
        else:
            count = 3 if own["amsgrad"] else 2
            beta1, beta2 = own["betas"]  # type: ignore[misc]
            is_decoupled = spec.optimizer == "adamw" or own["decoupled_weight_decay"]
            self._kernel = torch._fused_adamw_ if is_decoupled else torch._fused_adam_
            self._options = {"beta1": beta1, "beta2": beta2} | {
                name: own[name] for name in ("weight_decay", "eps", "amsgrad")
            }
        self._options |= {"lr": spec.lr, "maximize": False}
        self._state = [torch.zeros_like(rows) for _ in range(count)]
        self._bind()

    def _bind(self) -> None:
        lists = [[tensor] for tensor in self._state]
        if self._spec.optimizer == "sgd":
            self._arguments = ([self._rows], [self._gradients], *(lists or [[]]))
        else:
            self._arguments = ([self._rows], [self._gradients], *lists, *([[]] * (3 - len(lists))), [self._steps])

    def set_rate(self, rate: float | Tensor) -> None:
        self._options["lr"] = rate

    def step(self) -> None:
        self._steps += 1
        self._kernel(*self._arguments, **self._options)
        if "is_first_step" in self._options:
            self._options["is_first_step"] = False

    def take_state(self, row: int) -> dict[str, Tensor]:
        rows = {str(i): tensor[row].to("cpu", copy=True) for i, tensor in enumerate(self._state)}
        return {"steps": self._steps.to("cpu", copy=True), **rows}

    def put_state(self, states: Sequence[Mapping[str, Tensor]]) -> None:
        for i, tensor in enumerate(self._state):
            tensor.copy_(torch.stack([state[str(i)] for state in states]))
        self._steps.copy_(states[0]["steps"])
        if "is_first_step" in self._options:
            self._options["is_first_step"] = False

    def take_over(self, other: Rows, kept: Sequence[int]) -> None:
        assert isinstance(other, FusedRows)
        self._state = [tensor[kept] for tensor in other._state]
        self._steps.copy_(other._steps)
        self._options = {**other._options, "lr": self._options["lr"]}
        self._bind()


class FormulaRows(Rows):
    """`Rows` by a formula: one program, with constants and a learning rate of each row's own."""

    def __init__(self, specs: Sequence[JobSpec], rows: Tensor, gradients: Tensor) -> None:
        self._rows, self._gradients = rows, gradients
        self._programs = [program for spec in specs if (program := spec.program) is not None]
        self._program = self._programs[0]
        self._rates: Sequence[float] | Tensor = [spec.lr for spec in specs]
        self._steps = 0
        self._states = [torch.zeros_like(rows) for _ in range(self._program.states)]
        self._is_parameter = None
        if self._program.uses_norm_g or self._program.uses_norm_p:
            self._is_parameter = torch.zeros(rows.shape[1], dtype=torch.bool)
            for start, outputs, inputs in Shape.of(specs[0]).layers:
                self._is_parameter[start : start + outputs * inputs] = True
            self._is_parameter = self._is_parameter.to(rows.device)

    def set_rates(self, rates: Sequence[float] | Tensor) -> None:
        """Set the learning rate of each row in the next steps; a tensor may change without another call."""
        self._rates = rates

    def step(self) -> None:
        self._steps += 1
        rates = self._rates.tolist() if isinstance(self._rates, Tensor) else self._rates
        none = [0.0] * len(self._programs)
        norms_g = self._norms(self._gradients) if self._program.uses_norm_g else none
        norms_p = self._norms(self._rows) if self._program.uses_norm_p else none
        each = zip(self._programs, rates, norms_g, norms_p, strict=True)
        values = [scalar_values(program, self._steps, *of_row) for program, *of_row in each]
        columns = rounded(values, self._rows).T.unsqueeze(2).unbind()
        run_vectors(self._program, self._rows, self._gradients, self._states, columns)

    def _norms(self, rows: Tensor) -> list[float]:
        assert self._is_parameter is not None, "the program reads a norm"
        squares = in_double(rows).square()
        norms: list[float] = torch.where(self._is_parameter, squares, 0).sum(1).sqrt().tolist()
        return norms

    def take_state(self, row: int) -> dict[str, Tensor]:
        states = {str(i): tensor[row].to("cpu", copy=True) for i, tensor in enumerate(self._states)}
        return {STEPS: torch.tensor(self._steps), **states}

    def put_state(self, states: Sequence[Mapping[str, Tensor]]) -> None:
        self._steps = int(states[0][STEPS])
        for i, tensor in enumerate(self._states):
            tensor.copy_(torch.stack([state[str(i)] for state in states]))

    def take_over(self, other: Rows, kept: Sequence[int]) -> None:
        assert isinstance(other, FormulaRows)
        self._steps = other._steps
        self._states = [tensor[kept] for tensor in other._states]


def _row_optimizer(specs: Sequence[JobSpec], rows: Tensor, gradients: Tensor) -> Rows:
    if specs[0].formula is not None:
        return FormulaRows(specs, rows, gradients)
    make = FusedRows if specs[0].optimizer in FusedRows.NAMES else Rows
    return make(specs[0], rows, gradients)


class StackOptimizer:
    """The optimizers of networks that are rows of one matrix, and their L1 penalties.

    `specs` and `keys` (see `settings_key`) are those of the rows. Rows with equal keys are consecutive.
    """

    def __init__(self, specs: Sequence[JobSpec], keys: Sequence[Any], rows: Tensor, gradients: Tensor) -> None:
        self._rows, self._gradients = rows, gradients
        sizes = [len(list(group)) for _, group in itertools.groupby(keys)]
        self._parts = [slice(end - size, end) for size, end in zip(sizes, itertools.accumulate(sizes), strict=True)]
        self._varying = [any(spec.has_varying_lr for spec in specs[part]) for part in self._parts]
        self._groups: list[Rows] = []
        for part in self._parts:
            self._groups.append(_row_optimizer(specs[part], rows[part], gradients[part]))
        penalized = [i for i, spec in enumerate(specs) if spec.l1]
        self._penalized = slice(penalized[0], len(specs)) if penalized else None
        if self._penalized:
            self._l1 = rows.new_tensor([spec.l1 for spec in specs[self._penalized]])[:, None]
            self._sign = torch.empty_like(rows[self._penalized])

    def set_rates(self, rates: Sequence[float] | Tensor) -> None:
        """Set the learning rates, one for each row, where they vary. A tensor may change without another call."""
        for part, group, varies in zip(self._parts, self._groups, self._varying, strict=True):
            if varies and isinstance(group, FormulaRows):
                group.set_rates(rates[part])
            elif varies:
                group.set_rate(rates[part.start])

    def add_penalties(self) -> None:
        """Add the gradients of the L1 penalties to the gradients."""
        if self._penalized:
            torch.sign(self._rows[self._penalized], out=self._sign)
            self._gradients[self._penalized].add_(self._sign.mul_(self._l1))

    def step(self) -> None:
        """Take one step of every optimizer."""
        for group in self._groups:
            group.step()

    def take_state(self, row: int) -> dict[str, Tensor]:
        """A copy on the CPU of one row's part of the state."""
        i = next(i for i, part in enumerate(self._parts) if row < part.stop)
        return self._groups[i].take_state(row - self._parts[i].start)

    def put_state(self, states: Sequence[Mapping[str, Tensor] | None]) -> None:
        """Restore what `take_state` returned for each row; None for a row that starts."""
        for part, group in zip(self._parts, self._groups, strict=True):
            given = [state for state in states[part] if state is not None]
            if given:
                group.put_state(given)

    def take_over(self, other: StackOptimizer, kept: Sequence[int]) -> None:
        """Take over the state of `other`. These rows are its rows `kept`, in order."""
        for part, group in zip(self._parts, self._groups, strict=True):
            first = kept[part.start]
            old = next(i for i, old_part in enumerate(other._parts) if first < old_part.stop)
            group.take_over(other._groups[old], [i - other._parts[old].start for i in kept[part]])
