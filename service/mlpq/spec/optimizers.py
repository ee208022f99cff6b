"""The optimizers of torch.optim that a job may use, with their options and torch's own defaults.

The service must not import torch, so the options are listed here; a test compares them with the signatures in
torch.optim. Options that choose an implementation (foreach, fused, capturable …) are left out: they change the speed,
not the method.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from mlpq.errors import SpecError, nearest

Value = float | bool | tuple[float, ...]

DECAY: dict[str, Value] = {"weight_decay": 0.0}
BETAS: dict[str, Value] = {"betas": (0.9, 0.999), "eps": 1e-8}


@dataclass(frozen=True)
class Optimizer:
    """`torch_name` is the class in torch.optim, `lr` its default learning rate; `defaults` has the other options."""

    torch_name: str
    lr: float
    defaults: Mapping[str, Value]


OPTIMIZERS = {
    "adadelta": Optimizer("Adadelta", 1.0, {"rho": 0.9, "eps": 1e-6, **DECAY}),
    "adagrad": Optimizer("Adagrad", 1e-2, {"lr_decay": 0.0, **DECAY, "initial_accumulator_value": 0.0, "eps": 1e-10}),
    "adam": Optimizer("Adam", 1e-3, {**BETAS, **DECAY, "amsgrad": False, "decoupled_weight_decay": False}),
    "adamax": Optimizer("Adamax", 2e-3, {**BETAS, **DECAY}),
    "adamw": Optimizer("AdamW", 1e-3, {**BETAS, "weight_decay": 1e-2, "amsgrad": False}),
    "asgd": Optimizer("ASGD", 1e-2, {"lambd": 1e-4, "alpha": 0.75, "t0": 1e6, **DECAY}),
    "nadam": Optimizer("NAdam", 2e-3, {**BETAS, **DECAY, "momentum_decay": 4e-3, "decoupled_weight_decay": False}),
    "radam": Optimizer("RAdam", 1e-3, {**BETAS, **DECAY, "decoupled_weight_decay": False}),
    "rmsprop": Optimizer("RMSprop", 1e-2, {"alpha": 0.99, "eps": 1e-8, **DECAY, "momentum": 0.0, "centered": False}),
    "rprop": Optimizer("Rprop", 1e-2, {"etas": (0.5, 1.2), "step_sizes": (1e-6, 50.0)}),
    "sgd": Optimizer("SGD", 1e-3, {"momentum": 0.0, "dampening": 0.0, **DECAY, "nesterov": False}),
}

BELOW_ONE = {"momentum", "betas", "rho"}


def optimizer(name: str, formulas: Iterable[str] = ()) -> Optimizer:
    """The optimizer of that name; raises SpecError that suggests the closest name, also among those of formulas."""
    try:
        return OPTIMIZERS[name.lower()]
    except KeyError:
        known = nearest(name, [*OPTIMIZERS, *formulas])
        raise SpecError(f"unknown optimizer '{name}'{known}; declare an own one by --formula") from None


def complete(name: str, given: Mapping[str, object]) -> dict[str, Value]:
    """Every option of the optimizer: those in `given` (text or numbers) checked, the others at torch's defaults."""
    defaults = optimizer(name).defaults
    for option in given:
        if option not in defaults:
            raise SpecError(f"{name} has no option '{option}'{nearest(option, [*defaults, 'lr'])}")
    settings = {
        option: _checked(name, option, given[option], default) if option in given else default
        for option, default in defaults.items()
    }
    _check_together(name, settings)
    return settings


def _checked(name: str, option: str, value: object, default: Value) -> Value:
    if isinstance(default, bool):
        if isinstance(value, bool):
            return value
        if str(value).lower() in ("true", "false"):
            return str(value).lower() == "true"
        raise SpecError(f"{name}:{option} must be true or false, not '{value}'")
    if isinstance(default, tuple):
        parts = value.split("/") if isinstance(value, str) else value
        if not isinstance(parts, (list, tuple)) or len(parts) != len(default):
            raise SpecError(f"{name}:{option} takes {len(default)} numbers, as {option}={'/'.join(map(str, default))}")
        return tuple(_number(name, option, part) for part in parts)
    return _number(name, option, value)


def _number(name: str, option: str, value: object) -> float:
    limit = 1.0 if option in BELOW_ONE else float("inf")
    try:
        number = float(str(value))
    except ValueError:
        raise SpecError(f"{name}:{option} must be a number, not '{value}'") from None
    if not 0 <= number < limit:
        upper = " and below 1" if limit == 1.0 else ""
        raise SpecError(f"{name}:{option} must be 0 or more{upper}, not {value}")
    return number + 0.0  # -0.0 becomes 0.0: one canonical form


def _check_together(name: str, settings: Mapping[str, Value]) -> None:
    if settings.get("nesterov") and (not settings["momentum"] or settings["dampening"]):
        raise SpecError(
            "sgd:nesterov=true needs a momentum above 0 and no dampening, as sgd:momentum=0.9,nesterov=true"
        )
    if name == "rprop":
        lower, upper = settings["etas"]  # type: ignore[misc]
        if not 0 < lower < 1 < upper:
            raise SpecError(
                f"rprop:etas must be one value below 1 and one above 1, as etas=0.5/1.2, not {lower}/{upper}"
            )
        least, most = settings["step_sizes"]  # type: ignore[misc]
        if least > most:
            raise SpecError(
                f"rprop:step_sizes must be the smallest and the largest, as step_sizes=1e-06/50, not {least}/{most}"
            )
