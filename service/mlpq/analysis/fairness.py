"""What makes a comparison unfair or incomplete, as sentences that precede its tables."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial

from mlpq import formatting
from mlpq.analysis.arms import Arm
from mlpq.analysis.choice import seeds_enough
from mlpq.analysis.comparison import ALPHA, Comparison, Side
from mlpq.analysis.grouping import FIELDS, Fields, Selection, field_of, group_settings
from mlpq.analysis.inference import fewest_pairs, is_skewed
from mlpq.analysis.labels import labels_among
from mlpq.analysis.metrics import Metric
from mlpq.jobs import Engine
from mlpq.spec.job import JobSpec

SETTINGS = (
    "dataset", "hidden", "bias", "initialisation", "activation", "dropout", "l1", "weight_decay", "epochs",
    "batch_size", "validation", "patience", "schedule", "warmup", "clip_norm", "label_smoothing",
)  # fmt: skip
LARGEST_SD_RATIO = 2
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
    """What is unequal between the sides, how settings were chosen, which seeds diverged or are missing, and where the
    tests' assumptions look wrong; empty where all is well."""
    sides, by = comparison.sides, comparison.by
    specs = [side.spec for side in sides]
    found = [
        _unequal(formatting.field_name(name), sides, partial(_setting, name, specs))
        for name in SETTINGS
        if name not in by
    ]
    found.append(_unequal("initial weights", sides, lambda side: _initial_weights(side.arm)))
    found += [_unequal("device", sides, _devices), _arithmetics(sides)]
    found += [_tuning_budgets(sides, by), *_choices(comparison)]
    found += [_unselected(comparison), _shapes(sides), _shared_time(comparison)]
    found += [line for side in sides for line in (*_worst_runs(side, comparison.metric), _missing_seeds(side))]
    found += _shapes_of_differences(comparison)
    found.append(_unreadable(comparison))
    found += [f"a registered question is left out: {reason}" for reason in comparison.odd_questions]
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


def _setting(name: str, specs: Sequence[JobSpec], side: Side) -> str:
    if name == "dataset":
        return formatting.data_set(side.spec, specs)
    if name == "weight_decay" and side.spec.definition is not None and field_of(side.spec, name) is None:
        return ""  # a formula or a plug-in decays weights, or not, under any name
    return formatting.schedule(side.spec) if name == "schedule" else formatting.value_of(field_of(side.spec, name))


def _initial_weights(arm: Arm) -> str:
    if arm.parent is None:
        return "drawn from the seed"
    return f"final weights of {formatting.optimizer(arm.parent.spec)}"


def _devices(side: Side) -> str:
    used = {formatting.ran_on(job.result) for job in side.arm.records if job.result is not None}
    return " and ".join(sorted(used))


def _arithmetics(sides: Sequence[Side]) -> str:
    """Whether results come from different arithmetics: then even equal specs give other bits."""
    results = [job.result for side in sides for job in side.arm.records if job.result is not None]
    counts = Counter(formatting.arithmetic(result) for result in results)
    if len(counts) < 2:
        return ""
    parts = ", ".join(f"{formatting.count_of(count, 'result')} of {name}" for name, count in sorted(counts.items()))
    return f"different arithmetics: {parts}; equal specs differ between them by rounding"


def _tuning_budgets(sides: Sequence[Side], by: Fields) -> str:
    """How many settings were tried of what is compared, or of each optimizer; empty where that is equal."""
    tried = [arm for side in sides for arm in side.selection.tried]
    counts = {label: len(settings) for label, settings in group_settings(tried, by).items()}
    if len(set(counts.values())) < 2 and (not by or "optimizer" in by):
        counts = Counter(arm.spec.optimizer for arm in tried)
    if len(set(counts.values())) < 2:
        return ""
    budgets = ", ".join(f"{name} with {formatting.count_of(count, 'setting')}" for name, count in counts.items())
    return f"unequal tuning budgets: {budgets}; more settings tried is an advantage"


def _choices(comparison: Comparison) -> list[str]:
    """Which setting represents a side, from how many it was chosen and how certainly, and what the choice costs."""
    chosen = [side.selection for side in comparison.sides if side.selection.seeds]
    found = [line for selection in chosen for line in choice_notes(selection)]
    if not chosen:
        return found
    seeds = formatting.seeds(comparison.choosing)
    most = max((len(pair.seeds) for pair in comparison.pairs), default=0)
    fewest = fewest_pairs(ALPHA / max(1, comparison.tests))
    if comparison.is_shared:
        found.append(
            f"{formatting.count_of(len(comparison.choosing), 'seed')} can't both choose settings and compare them: the "
            f"same seeds do both here, which favors the side with more settings; {seeds_enough(fewest)} seeds in every "
            "arm would be enough"
        )
        if comparison.metric.name in ON_VALIDATION:
            found.append("the settings were chosen by the validation figures that this metric uses, which favors them")
    else:
        found.append(f"the seeds that chose, {seeds}, are left out of the comparison")
        if comparison.pairs and most < fewest:
            enough = seeds_enough(fewest)
            found.append(
                f"the choice leaves {formatting.count_of(most, 'pair')}, and significance needs {fewest}: submit "
                f"{enough} seeds in every arm, or choose on fewer with --choose-seeds"
            )
    return found


def choice_notes(selection: Selection) -> list[str]:
    """Which setting represents a side, how certainly, whether at the edge of the grid, and whether that is final."""
    return [note for note in (_choice(selection), _edges(selection), _pending(selection)) if note]


def _choice(selection: Selection) -> str:
    tried = formatting.count_of(len(selection.tried), "setting")
    if len(selection.ranked) < len(selection.tried):
        tried = f"{len(selection.ranked)} of {tried} (the others have failed seeds or no result)"
    (setting,), seeds = labels_among([selection.arm], selection.tried), formatting.seeds(selection.seeds)
    how = f"chosen from {tried} by mean validation accuracy on seeds {seeds}"
    line = f"{selection.label} is represented by {setting}, {how}"
    choice = selection.choice
    if choice is None:
        return line
    (other,) = labels_among([selection.ranked[choice.runner_up]], selection.tried)
    shares = " : ".join(f"{100 * choice.shares[setting]:.0f}" for setting in (choice.best, choice.runner_up))
    margin = f"{100 * choice.margin:.2f} points below"
    return f"{line}; runner-up {other}, {margin}; resampled seeds choose these two in {shares} %"


def _edges(selection: Selection) -> str:
    """Numbers of the chosen setting that are the least or the largest of those tried; 0 is no edge."""
    specs = [arm.spec for arm in selection.tried]
    found = []
    for name in FIELDS:
        values = {value for spec in specs if (value := _number(spec, name)) is not None}
        own = _number(selection.arm.spec, name)
        if not own or len(values) < 2 or min(values) < own < max(values):
            continue
        kind = "largest" if own == max(values) else "smallest"
        found.append(f"{formatting.field(name, own)} is the {kind} of {len(values)} tried")
    if not found:
        return ""
    return f"{selection.label} was chosen at the edge of its grid: {', '.join(found)}; widen the grid"


def _number(spec: JobSpec, name: str) -> float | None:
    value = field_of(spec, name)
    return value if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def _pending(selection: Selection) -> str:
    if not selection.pending:
        return ""
    return f"the choice for {selection.label} may change: seeds {formatting.seeds(selection.pending)} are not finished"


def _worst_runs(side: Side, metric: Metric) -> list[str]:
    """How many runs diverged or never reached the target, and as what they count."""
    found = []
    for seeds, what in ((side.diverged, "diverged"), (side.missed, f"never reached {metric.goal}")):
        if seeds:
            values = [side.values[seed] for seed in seeds]
            counted = (
                "counted as slower than any that reached it"
                if math.isinf(values[0])
                else f"counted with the {metric.phrase} of guessing, {metric.text(values[0])}"
            )
            of = formatting.count_of(len(side.values), "seed")
            found.append(f"{side.label}: {len(seeds)} of {of} {what} ({formatting.seeds(seeds)}), {counted}")
    return found


def _shapes_of_differences(comparison: Comparison) -> list[str]:
    """Pairs whose differences are skewed, or whose spreads are very unequal: the test assumes symmetric differences."""
    skewed, unequal = [], []
    for pair in comparison.pairs:
        label = f"{pair.a.label} − {pair.b.label}"
        if pair.paired is not None and is_skewed(pair.paired):
            skewed.append(f"{label} (skewness {pair.paired.skewness:.1f})")
        if pair.paired is not None and pair.paired.sd_ratio is not None and pair.paired.sd_ratio > LARGEST_SD_RATIO:
            ratio = f"{pair.paired.sd_ratio:.1f}" if math.isfinite(pair.paired.sd_ratio) else "∞"
            unequal.append(f"{label} ({ratio} : 1)")
    found = []
    if skewed:
        found.append(
            f"skewed differences: {_shortened(skewed)}; the tests assume symmetric ones, and are false more often here"
        )
    if unequal:
        found.append(
            f"very unequal standard deviations: {_shortened(unequal)}; the means do not show that one is less stable"
        )
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
    """The time of a stack is split equally between its jobs, whatever each optimizer costs."""
    results = (job.result for side in comparison.sides for job in side.arm.records)
    in_gangs = any(result and result.engine is Engine.GANG and result.gang_size > 1 for result in results)
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
