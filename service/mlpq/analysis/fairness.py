"""What makes a comparison unfair or incomplete, as sentences that precede its tables."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial

from mlpq import formatting
from mlpq.analysis.arms import Arm
from mlpq.analysis.comparison import Comparison, Side
from mlpq.analysis.grouping import arm_label, field_of

SETTINGS = (
    "dataset", "hidden", "bias", "initialisation", "activation", "dropout", "l1", "weight_decay", "epochs",
    "batch_size", "validation", "patience",
)  # fmt: skip
ON_VALIDATION = ("validation", "epochs", "seconds")  # metrics that use the validation split where there is one
UNSELECTED = (
    "no setting was chosen, since there are no validation figures: each setting is compared by itself; submit with "
    "--validation 0.1 to choose without looking at the test set"
)
UNFINISHED = (
    "no setting was chosen, since no seed has a validation figure in every setting yet: each setting is compared by "
    "itself; mlpq watch follows the unfinished jobs"
)


def notes(comparison: Comparison) -> list[str]:
    """What is unequal between the sides, how settings were chosen, which seeds are missing; empty where all is well."""
    sides, by = comparison.sides, comparison.by
    found = [
        _unequal(formatting.field_name(name), sides, partial(_setting, name)) for name in SETTINGS if name not in by
    ]
    found.append(_unequal("initial weights", sides, lambda side: _initial_weights(side.arm)))
    found.append(_unequal("device", sides, _devices))
    found += [_tuning_budgets(sides), *_choices(comparison)]
    found += [_unselected(comparison), _shapes(sides), _shared_time(comparison)]
    found += [_missing_seeds(side) for side in sides]
    found.append(_unreadable(comparison))
    return [note for note in found if note]


def _unequal(name: str, sides: Sequence[Side], value: Callable[[Side], str]) -> str:
    """The sides grouped by a value; empty where they agree. Sides with an empty value are left out."""
    groups: dict[str, list[str]] = {}
    for side in sides:
        groups.setdefault(value(side), []).append(side.label)
    groups.pop("", None)
    if len(groups) < 2:
        return ""
    return f"unequal {name}: " + "; ".join(f"{value} in {_shortened(labels)}" for value, labels in groups.items())


def _setting(name: str, side: Side) -> str:
    return formatting.value_of(field_of(side.spec, name))


def _initial_weights(arm: Arm) -> str:
    if arm.parent is None:
        return "drawn from the seed"
    return f"final weights of {formatting.optimizer(arm.parent.spec)}"


def _devices(side: Side) -> str:
    used = {formatting.ran_on(job.result) for job in side.arm.records if job.result is not None}
    return " and ".join(sorted(used))


def _tuning_budgets(sides: Sequence[Side]) -> str:
    """How many settings of each optimizer were tried; empty where that is equal."""
    counts: Counter[str] = Counter()
    for side in sides:
        counts[side.spec.optimizer] += len(side.selection.tried)
    if len(set(counts.values())) < 2:
        return ""
    budgets = ", ".join(f"{name} with {formatting.count_of(count, 'setting')}" for name, count in counts.items())
    return f"unequal tuning budgets: {budgets}; more settings tried is an advantage"


def _choices(comparison: Comparison) -> list[str]:
    """Which setting represents a side, from how many it was chosen and on which seeds."""
    found = []
    for selection in (side.selection for side in comparison.sides if side.selection.seeds):
        tried = formatting.count_of(len(selection.tried), "setting")
        if selection.ranked < len(selection.tried):
            tried = f"{selection.ranked} of {tried} (the others have failed seeds or no result)"
        setting, seeds = arm_label(selection.arm, selection.tried), formatting.seeds(selection.seeds)
        found.append(
            f"{selection.label} is {setting}, chosen from {tried} by mean validation accuracy on seeds {seeds}"
        )
    if found and comparison.metric.name in ON_VALIDATION and comparison.sides[0].spec.validation:
        found.append("the settings were chosen by the validation figures that this metric uses, which favors them")
    return found


def _unselected(comparison: Comparison) -> str:
    """Why settings are compared by themselves: without a validation split, or before their jobs are finished."""
    if not comparison.has_unselected:
        return ""
    return UNFINISHED if all(side.spec.validation for side in comparison.sides) else UNSELECTED


def _shapes(sides: Sequence[Side]) -> str:
    shapes = {(side.spec.widths, side.spec.bias, side.spec.initialisation) for side in sides}
    if len(shapes) < 2:
        return ""
    return "the models differ in shape or initialization: pairs share the seed, but not the initial weights"


def _shared_time(comparison: Comparison) -> str:
    """A gang's time is split equally between its jobs, whatever each optimizer costs."""
    results = (job.result for side in comparison.sides for job in side.arm.records)
    in_gangs = any(result is not None and result.gang_size > 1 for result in results)
    if comparison.metric.name != "seconds" or not in_gangs:
        return ""
    return (
        "the time of a gang is split equally between its jobs: to compare seconds, train with a worker that was "
        "started with --gang 1"
    )


def _missing_seeds(side: Side) -> str:
    seeds_by_reason: dict[str, list[int]] = {}
    for seed, missing in side.missing.items():
        seeds_by_reason.setdefault(missing.reason, []).append(seed)
    parts = [
        f"{'seed' if len(seeds) == 1 else 'seeds'} {formatting.seeds(seeds)} ({reason})"
        for reason, seeds in seeds_by_reason.items()
    ]
    return f"{side.label}: left out {', '.join(parts)}" if parts else ""


def _unreadable(comparison: Comparison) -> str:
    left_out = comparison.unreadable
    if not left_out:
        return ""
    jobs = _shortened([f"{formatting.short_id(job.id)} ({job.reason})" for job in left_out])
    return f"{formatting.count_of(len(left_out), 'job')} left out, unreadable: {jobs}"


def _shortened(labels: Sequence[str]) -> str:
    return ", ".join(labels) if len(labels) < 5 else f"{', '.join(labels[:3])} and {len(labels) - 3} more"
