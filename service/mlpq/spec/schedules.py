"""Learning-rate schedules, with the options that torch.optim.lr_scheduler's classes of these names have.

The rate of each batch is computed by `mlpq_workers.engine.rates`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from mlpq.errors import SpecError, nearest
from mlpq.spec.optimizers import Value

CONSTANT = "constant"


@dataclass(frozen=True)
class Option:
    """A number or a flag of a schedule; `default` is None where it must be given, as `example` shows."""

    default: float | bool | None
    rule: str = ""
    test: Callable[[float], bool] = lambda _: True
    example: str = ""


def _factor(default: float) -> Option:
    return Option(default, "from 0 to 1", lambda x: 0 <= x <= 1)


def _gamma(default: float | None) -> Option:
    return Option(default, "above 0 and at most 1", lambda x: 0 < x <= 1, "0.95")


_size = Option(None, "of epochs, a whole one of 1 or more", lambda x: x >= 1 and x == int(x), "10")
_divisor = "of 1 or more", lambda x: x >= 1
SCHEDULES: Mapping[str, Mapping[str, Option]] = {
    CONSTANT: {},
    "linear": {"start_factor": _gamma(1.0), "end_factor": _factor(0.0)},
    "cosine": {"eta_min": Option(0.0, "of 0 or more", lambda x: x >= 0)},
    "step": {"size": _size, "gamma": _gamma(0.1)},
    "exponential": {"gamma": _gamma(None)},
    "one-cycle": {
        "pct_start": _factor(0.3), "div_factor": Option(25.0, *_divisor), "final_div_factor": Option(1e4, *_divisor),
        "three_phase": Option(False),
    },
}  # fmt: skip


def complete_schedule(name: str, given: Mapping[str, object]) -> dict[str, Value]:
    """Every option of the schedule: those in `given` (text or numbers) checked, the others at their defaults."""
    if name not in SCHEDULES:
        raise SpecError(f"unknown schedule '{name}'{nearest(name, SCHEDULES)}")
    options = SCHEDULES[name]
    for option in given:
        if not options:
            raise SpecError(f"the schedule {name} has no options: leave '{option}' out")
        if option not in options:
            raise SpecError(f"the schedule {name} has no option '{option}'{nearest(option, options)}")
    return {key: _value(name, key, option, given.get(key, option.default)) for key, option in options.items()}


def warmup_batches(warmup: float, batches: int, epochs: int) -> int:
    """How many batches a warmup takes: of so many epochs of `batches` each or, below 1, of that fraction of all."""
    total = batches * epochs
    return min(total, round(warmup * (batches if warmup >= 1 else total)))


def _value(name: str, key: str, option: Option, value: object) -> Value:
    if value is None:
        raise SpecError(f"the schedule {name} needs {key}, as {name}:{key}={option.example}")
    if isinstance(option.default, bool):
        if str(value).lower() not in ("true", "false"):
            raise SpecError(f"{name}:{key} must be true or false, not '{value}'")
        return str(value).lower() == "true"
    try:
        number = math.nan if isinstance(value, bool) else float(str(value))
    except ValueError:
        number = math.nan
    if not math.isfinite(number) or not option.test(number):
        raise SpecError(f"{name}:{key} must be a number {option.rule}, not '{value}'")
    return number + 0.0  # -0.0 becomes 0.0: one canonical form
