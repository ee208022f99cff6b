"""What makes a comparison unfair, or leaves something out: said above its table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from mlpq import formatting
from mlpq.analysis.arms import Arm
from mlpq.analysis.comparison import Comparison, Side
from mlpq.analysis.grouping import arm_label, field_of
from mlpq.spec.datasets import DATASETS

Row = Mapping[str, Any]

SETTINGS = (
    "dataset", "hidden", "bias", "initialisation", "activation", "dropout", "l1", "weight_decay", "epochs",
    "batch_size", "validation", "patience",
)  # fmt: skip
ON_VALIDATION = ("validation", "epochs", "seconds")
NO_CHOICE = (
    "no validation figures, so no setting may be chosen, and each stands for itself; submit with --validation 0.1 to "
    "choose without looking at the test set"
)


def notes(comparison: Comparison) -> list[str]:
    """Lines on what is not equal between the sides, on tuning, and on missing seeds; none where all is well."""
    sides, by = comparison.sides, comparison.by
    found = [
        _difference(formatting.field_name(name), sides, partial(_setting, name)) for name in SETTINGS if name not in by
    ]
    found.append(_difference("initial weights", sides, lambda side: _start(side.arm)))
    found.append(_difference("device", sides, _devices))
    found += [_tuning(sides), *_choices(comparison), NO_CHOICE if comparison.unchosen else "", _weights(sides)]
    found.append(_shared_time(comparison))
    found += [_lacking(side) for side in sides]
    return [note for note in found if note]


def _difference(name: str, sides: Sequence[Side], value: Callable[[Side], str]) -> str:
    groups: dict[str, list[str]] = {}
    for side in sides:
        groups.setdefault(value(side), []).append(side.label)
    groups.pop("", None)
    if len(groups) < 2:
        return ""
    told = "; ".join(f"{value} in {_list(labels)}" for value, labels in groups.items())
    return f"unequal {name}: {told}"


def _setting(name: str, side: Side) -> str:
    return formatting.value_of(field_of(side.arm.first, name))


def _start(arm: Arm) -> str:
    return "from the seed" if arm.parent is None else f"those that {formatting.optimizer(arm.parent)} left"


def _devices(side: Side) -> str:
    used = {
        f"{row['device']} by {row['world_size']} processes" if row["world_size"] > 1 else str(row["device"])
        for row in side.arm.rows
        if row["device"]
    }
    return " and ".join(sorted(used))


def _tuning(sides: Sequence[Side]) -> str:
    """How many settings each optimizer was tried with, where that is not the same."""
    counts: Counter[str] = Counter()
    for side in sides:
        counts[side.arm.first["optimizer"]] += len(side.choice.tried)
    if len(set(counts.values())) < 2:
        return ""
    told = ", ".join(f"{name} with {formatting.count_of(count, 'setting')}" for name, count in counts.items())
    return f"unequal tuning: {told}; who was tried with more had more chances to look good"


def _choices(comparison: Comparison) -> list[str]:
    """Which setting stands for a side, from how many, chosen on what."""
    found = []
    for choice in (side.choice for side in comparison.sides if side.choice.seeds):
        tried = formatting.count_of(len(choice.tried), "setting")
        if choice.ranked < len(choice.tried):
            tried = f"{choice.ranked} of {tried} (the others have seeds that failed, or no result)"
        name, seeds = arm_label(choice.arm, choice.tried), formatting.seeds(choice.seeds)
        found.append(f"{choice.label} is {name}, chosen from {tried} by mean validation accuracy on seeds {seeds}")
    if found and comparison.metric.name in ON_VALIDATION and comparison.sides[0].arm.first["validation"]:
        found.append("settings were chosen by the validation figures that they are compared by: that flatters them")
    return found


def _weights(sides: Sequence[Side]) -> str:
    rows = [side.arm.first for side in sides]
    shapes = {(_widths(row), row["bias"], row["initialisation"]) for row in rows}
    return "the models are not of one shape: pairs share the seed, not the initial weights" if len(shapes) > 1 else ""


def _widths(row: Row) -> tuple[int, ...]:
    data = DATASETS[row["dataset"]]
    return (data.features, *row["hidden"], data.classes)


def _shared_time(comparison: Comparison) -> str:
    """Jobs of one gang have equal shares of its time, whatever their optimizers cost."""
    in_gangs = any((row["gang_size"] or 1) > 1 for side in comparison.sides for row in side.arm.rows)
    if comparison.metric.name != "seconds" or not in_gangs:
        return ""
    return (
        "jobs that were trained in one gang have equal shares of its time: to compare seconds, train them by a worker "
        "that was started with --gang 1"
    )


def _lacking(side: Side) -> str:
    reasons: dict[str, list[int]] = {}
    for seed, reason in side.lacking.items():
        reasons.setdefault(reason, []).append(seed)
    told = [
        f"{'seed' if len(seeds) == 1 else 'seeds'} {formatting.seeds(seeds)} {why}" for why, seeds in reasons.items()
    ]
    return f"{side.label}: {', '.join(told)}: left out" if told else ""


def _list(labels: Sequence[str]) -> str:
    return ", ".join(labels) if len(labels) < 5 else f"{', '.join(labels[:3])} and {len(labels) - 3} more"
