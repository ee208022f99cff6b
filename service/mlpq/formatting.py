"""Short words for jobs and figures, the same in every table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mlpq.analysis.summary import Summary
from mlpq.spec.optimizers import OPTIMIZERS


def short_id(job: str) -> str:
    """The first eight digits: enough to type in all but huge databases."""
    return job[:8]


def model(row: Mapping[str, Any]) -> str:
    """ "MLP 1000,500 relu", or "logistic" without a hidden layer; what is not the default is added."""
    name = f"MLP {','.join(map(str, row['hidden']))} {row['activation']}" if row["hidden"] else "logistic"
    extras = [] if row["bias"] else ["no bias"]
    extras += [] if row["initialisation"] == "torch" else [row["initialisation"]]
    extras += [f"{key} {row[key]:g}" for key in ("dropout", "l1") if row[key]]
    return ", ".join([name, *extras])


def optimizer(row: Mapping[str, Any]) -> str:
    """ "sgd lr=0.1 momentum=0.9": the learning rate, and the settings that are not torch's defaults."""
    return " ".join([row["optimizer"], f"lr={row['lr']:g}", *_settings(row)])


def optimizer_without_rate(row: Mapping[str, Any]) -> str:
    """ "sgd momentum=0.9"."""
    return " ".join([row["optimizer"], *_settings(row)])


def _settings(row: Mapping[str, Any]) -> list[str]:
    defaults = OPTIMIZERS[row["optimizer"]].defaults
    words = []
    for key, value in row["optimizer_settings"].items():
        value = tuple(value) if isinstance(value, list) else value
        if value != defaults[key]:
            words.append(f"{key}={value_of(value)}")
    return words


def field(name: str, value: Any) -> str:
    """ "adam", "lr=0.1", "batch size=32": a field of the spec or an option of an optimizer, as a label."""
    text = value_of(value)
    return text if name in ("optimizer", "dataset", "activation") else f"{field_name(name)}={text}"


def field_name(name: str) -> str:
    """ "batch size" for batch_size."""
    return name.replace("_", " ")


def listed(names: Sequence[str]) -> str:
    """ "a", "a and b", "a, b and c"."""
    return " and ".join(filter(None, [", ".join(names[:-1]), *names[-1:]]))


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
    """ "85.91 ± 0.23" over several seeds, "85.91" for one; in percent, of a fraction."""
    return spread_of(summary, 100)


def spread_of(summary: Summary, scale: float = 1) -> str:
    """ "85.91 ± 0.23" over several seeds, "85.91" for one."""
    sd = "" if summary.sd is None else f" ± {scale * summary.sd:.2f}"
    return f"{scale * summary.mean:.2f}{sd}"


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


def value_of(value: Any) -> str:
    """A field's value as it is typed: widths with commas, other numbers with slashes."""
    if value is None:
        return "none"
    if isinstance(value, (tuple, list)):
        separator = "," if all(isinstance(part, int) for part in value) else "/"
        return separator.join(f"{part:g}" for part in value) or "none"
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, (int, float)) else str(value)
