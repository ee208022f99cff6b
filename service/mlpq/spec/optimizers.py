"""The optimizers of torch.optim that a job may use, with their options and torch's own defaults.

The service must not import torch, so the options are listed here; a test compares them with the signatures in
torch.optim. Options that choose an implementation (foreach, fused, capturable …) are left out: they change the speed,
not the method. Two of torch's optimizers are not offered, see NOT_OFFERED.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from mlpq.errors import SpecError, nearest

Value = float | bool | tuple[float, ...]

DECAY: dict[str, Value] = {"weight_decay": 0.0}
BETAS: dict[str, Value] = {"betas": (0.9, 0.999), "eps": 1e-8}


@dataclass(frozen=True)
class Optimizer:
    """`torch_name` is the class in torch.optim, `lr` its default learning rate; `defaults` has the other options.

    An optimizer `of_matrices` treats each weight matrix as a whole, so that neither the kernel nor a stack can train
    with it: torch's plain engine does, one job after another.
    """

    torch_name: str
    lr: float
    defaults: Mapping[str, Value]
    of_matrices: bool = False


ADAMW = "adamw_"  # before the names of Muon's options that are AdamW's
FLOAT32_EPS = 2.0**-23  # the first eps of Adafactor where torch has None

OPTIMIZERS = {
    "adadelta": Optimizer("Adadelta", 1.0, {"rho": 0.9, "eps": 1e-6, **DECAY}),
    "adafactor": Optimizer(
        "Adafactor", 1e-2, {"beta2_decay": -0.8, "eps": (FLOAT32_EPS, 1e-3), "d": 1.0, **DECAY}, of_matrices=True
    ),
    "adagrad": Optimizer("Adagrad", 1e-2, {"lr_decay": 0.0, **DECAY, "initial_accumulator_value": 0.0, "eps": 1e-10}),
    "adam": Optimizer("Adam", 1e-3, {**BETAS, **DECAY, "amsgrad": False, "decoupled_weight_decay": False}),
    "adamax": Optimizer("Adamax", 2e-3, {**BETAS, **DECAY}),
    "adamw": Optimizer("AdamW", 1e-3, {**BETAS, "weight_decay": 1e-2, "amsgrad": False}),
    "asgd": Optimizer("ASGD", 1e-2, {"lambd": 1e-4, "alpha": 0.75, "t0": 1e6, **DECAY}),
    # Muon takes matrices only. The biases are trained by torch's AdamW, with the options that begin with adamw_.
    "muon": Optimizer(
        "Muon",
        1e-3,
        {
            "weight_decay": 0.1,
            "momentum": 0.95,
            "nesterov": True,
            "ns_coefficients": (3.4445, -4.775, 2.0315),
            "eps": 1e-7,
            "ns_steps": 5,
            "match_rms_adamw": False,
            "adamw_lr": 1e-3,
            "adamw_betas": (0.9, 0.999),
            "adamw_eps": 1e-8,
            "adamw_weight_decay": 1e-2,
        },
        of_matrices=True,
    ),
    "nadam": Optimizer("NAdam", 2e-3, {**BETAS, **DECAY, "momentum_decay": 4e-3, "decoupled_weight_decay": False}),
    "radam": Optimizer("RAdam", 1e-3, {**BETAS, **DECAY, "decoupled_weight_decay": False}),
    "rmsprop": Optimizer("RMSprop", 1e-2, {"alpha": 0.99, "eps": 1e-8, **DECAY, "momentum": 0.0, "centered": False}),
    "rprop": Optimizer("Rprop", 1e-2, {"etas": (0.5, 1.2), "step_sizes": (1e-6, 50.0)}),
    "sgd": Optimizer("SGD", 1e-3, {"momentum": 0.0, "dampening": 0.0, **DECAY, "nesterov": False}),
}

BELOW_ONE = {"momentum", "betas", "rho", "adamw_betas"}
OF_ANY_SIGN = {"ns_coefficients", "beta2_decay"}
NOT_OFFERED = {
    "lbfgs": "it evaluates the loss many times in a step, so that its epochs are not those of other optimizers",
    "sparseadam": "it takes sparse gradients only, and those of these networks are dense",
}


def optimizer(name: str, others: Iterable[str] = ()) -> Optimizer:
    """The optimizer of that name; raises SpecError that suggests the closest name, also among `others`."""
    try:
        return OPTIMIZERS[name.lower()]
    except KeyError:
        if (why := NOT_OFFERED.get(name.lower())) is not None:
            raise SpecError(f"torch's {name} is not offered: {why}") from None
        known = nearest(name, [*OPTIMIZERS, *others])
        own = "declare an own one by --formula, or install its package"
        raise SpecError(f"unknown optimizer '{name}'{known}; {own}") from None


def complete(name: str, given: Mapping[str, object]) -> dict[str, Value]:
    """Every option of the optimizer: those in `given` (text or numbers) checked, the others at torch's defaults."""
    settings = complete_options(name, optimizer(name).defaults, given, _number)
    _check_together(name, settings)
    return settings


def muon_arguments(settings: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Some of Muon's options as arguments of torch's Muon, and of torch's AdamW, which trains the biases."""
    muon: dict[str, Any] = {name: value for name, value in settings.items() if not name.startswith(ADAMW)}
    if muon.pop("match_rms_adamw", False):
        muon["adjust_lr_fn"] = "match_rms_adamw"
    return muon, {name.removeprefix(ADAMW): value for name, value in settings.items() if name.startswith(ADAMW)}


ParseNumber = Callable[[str, str, object], float]  # of the optimizer, the option, and its value


def complete_options(
    name: str, defaults: Mapping[str, Value], given: Mapping[str, object], number: ParseNumber
) -> dict[str, Value]:
    """Every option in `defaults`, with the values in `given` where there are some; raises SpecError.

    The value of an option has the type of its default. Whole numbers are floats too, with a value that is whole.
    """
    for option in given:
        if option not in defaults:
            raise SpecError(f"{name} has no option '{option}'{nearest(option, [*defaults, 'lr'])}")
    return {
        option: _checked(name, option, given.get(option, default), default, number)
        for option, default in defaults.items()
    }


def arguments(defaults: Mapping[str, Value], settings: Mapping[str, Value]) -> dict[str, Value]:
    """The settings as the class of the optimizer takes them: whole numbers where the default is one."""
    return {
        option: int(value) if is_whole(defaults[option]) else value  # type: ignore[arg-type]
        for option, value in settings.items()
    }


def is_whole(default: Value) -> bool:
    """Whether the option of this default takes whole numbers only."""
    return isinstance(default, int) and not isinstance(default, bool)


def _checked(name: str, option: str, value: object, default: Value, number: ParseNumber) -> Value:
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
        return tuple(number(name, option, part) for part in parts)
    found = number(name, option, value)
    if is_whole(default) and found != int(found):
        raise SpecError(f"{name}:{option} must be a whole number, not {value}")
    return found


def parse_number(name: str, option: str, value: object) -> float:
    """The value of an option that takes any finite number; raises SpecError."""
    try:
        number = math.nan if isinstance(value, bool) else float(str(value))
    except ValueError:
        raise SpecError(f"{name}:{option} must be a number, not '{value}'") from None
    if not math.isfinite(number):
        raise SpecError(f"{name}:{option} must be a finite number, not '{value}'")
    return number + 0.0  # -0.0 becomes 0.0: one canonical form


def _number(name: str, option: str, value: object) -> float:
    if option in OF_ANY_SIGN:
        return parse_number(name, option, value)
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
    if name == "sgd" and settings["nesterov"] and (not settings["momentum"] or settings["dampening"]):
        raise SpecError(
            "sgd:nesterov=true needs a momentum above 0 and no dampening, as sgd:momentum=0.9,nesterov=true"
        )
    if name == "muon" and not 1 <= settings["ns_steps"] <= 99:  # type: ignore[operator]
        raise SpecError(f"muon:ns_steps must be a whole number from 1 to 99, not {settings['ns_steps']}")
    if name == "adafactor" and settings["beta2_decay"] > 0:  # type: ignore[operator]
        raise SpecError(f"adafactor:beta2_decay must be 0 or less, not {settings['beta2_decay']}")
    if name == "adafactor" and settings["d"] < 1:  # type: ignore[operator]
        raise SpecError(f"adafactor:d must be 1 or more, not {settings['d']}")
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
