"""Short words for jobs and figures, the same in every table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mlpq.optimizers import OPTIMIZERS
from mlpq.stats import Summary


def short_id(job: str) -> str:
    """The first eight digits: enough to type in all but huge databases."""
    return job[:8]


def model(row: Mapping[str, Any]) -> str:
    """ "MLP 1000,500 relu", or "logistic" without a hidden layer; what is not the default is added."""
    name = f"MLP {','.join(map(str, row['hidden']))} {row['activation']}" if row["hidden"] else "logistic"
    extras = [] if row["bias"] else ["no bias"]
    extras += [f"{key} {row[key]:g}" for key in ("dropout", "l1") if row[key]]
    return ", ".join([name, *extras])


def optimizer(row: Mapping[str, Any]) -> str:
    """ "sgd lr=0.1 momentum=0.9": the learning rate, and the settings that are not torch's defaults."""
    defaults = OPTIMIZERS[row["optimizer"]].defaults
    words = [row["optimizer"], f"lr={row['lr']:g}"]
    for key, value in row["optimizer_settings"].items():
        value = tuple(value) if isinstance(value, list) else value
        if value != defaults[key]:
            words.append(f"{key}={_value(value)}")
    return " ".join(words)


def count_of(number: int, noun: str) -> str:
    """ "1 job", "3 jobs"."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def count(correct: int | None, total: int | None) -> str:
    """ "8705 of 10000", or nothing."""
    return "" if correct is None else f"{correct} of {total}"


def percent(fraction: float | None) -> str:
    """ "87.05 %", or nothing."""
    return "" if fraction is None else f"{100 * fraction:.2f} %"


def spread(summary: Summary) -> str:
    """ "85.91 ± 0.23" over several seeds, "85.91" for one; in percent."""
    sd = "" if summary.sd is None else f" ± {100 * summary.sd:.2f}"
    return f"{100 * summary.mean:.2f}{sd}"


def seconds(value: float | None) -> str:
    """ "40 ms", "0.4 s", "12 s", "3:05" or "1:02:03"; nothing for None."""
    if value is None:
        return ""
    if value < 0.1:
        return f"{1000 * value:.0f} ms"
    if value < 60:
        return f"{value:.1f} s" if value < 10 else f"{value:.0f} s"
    minutes, rest = divmod(round(value), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def seeds(values: Sequence[int]) -> str:
    """ "0..9" for a run of seeds, else "1,2,5"; a long list is cut."""
    if len(values) > 2 and list(values) == list(range(values[0], values[0] + len(values))):
        return f"{values[0]}..{values[-1]}"
    return ",".join(map(str, values[:8])) + (",…" if len(values) > 8 else "")


def status(row: Mapping[str, Any]) -> str:
    """The status, with "diverged" where that is why a job failed."""
    return "diverged" if row["outcome"] == "diverged" else str(row["status"])


def waiting_for(asked: Mapping[str, Any]) -> str:
    """What jobs that no live worker can run are waiting for, by the `device` and `world_size` that they ask for."""
    device, ranks = asked["device"], asked["world_size"] or 1
    kind = "worker" if device == "auto" else f"{device} worker"
    able = f" that can train by {ranks} processes" if ranks > 1 else ""
    start = "mlpq worker" if device == "auto" else f"mlpq worker --device {device}"
    return f"waiting for a {kind}{able}; none is alive: {start}"


def _value(value: object) -> str:
    if isinstance(value, tuple):
        return "/".join(f"{part:g}" for part in value)
    return str(value).lower() if isinstance(value, bool) else f"{value:g}"
