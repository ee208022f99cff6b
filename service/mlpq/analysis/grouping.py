"""The sides of a comparison: arms grouped by fields, the setting that represents each group, and their labels."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from mlpq import formatting
from mlpq.analysis.arms import Arm
from mlpq.errors import SpecError, nearest
from mlpq.jobs import Status
from mlpq.spec.job import JobSpec
from mlpq.spec.optimizers import OPTIMIZERS, Value

Fields = tuple[str, ...]
FieldValue = Value | str | tuple[int, ...] | None

OPTIONS = {option for known in OPTIMIZERS.values() for option in known.defaults}
FIELDS = tuple(sorted({*JobSpec.model_fields, *OPTIONS} - {"seed", "parent", "optimizer_settings"}))
DATA_FIELDS = ("dataset", "validation")  # figures on other data can't rank settings
LABEL_FIELDS = ("dataset", "epochs", "batch_size", "validation", "patience")  # not in the names of model and optimizer


@dataclass(frozen=True, slots=True)
class Selection:
    """The setting that represents a group of settings: `arm` is the best of `tried` by mean validation accuracy.

    `ranked` of them could be compared, on `seeds`, which is empty where there was nothing to select.
    """

    label: str
    arm: Arm
    tried: tuple[Arm, ...]
    ranked: int = 1
    seeds: tuple[int, ...] = ()


def parse_by(text: str | None) -> Fields:
    """Fields of the spec or options of optimizers, separated by commas. Raises SpecError."""
    names = tuple(dict.fromkeys(name.strip() for name in text.split(","))) if text else ()
    for name in names:
        if name == "seed":
            raise SpecError("arms can't be compared by seed: use --by optimizer, or another field of the spec")
        if name not in FIELDS:
            raise SpecError(f"the spec has no field '{name}'{nearest(name, FIELDS)}")
    return names


def field_of(spec: JobSpec, name: str) -> FieldValue:
    """A field of the spec, or an option of the optimizer; None where its optimizer has no such option."""
    value: FieldValue = getattr(spec, name) if name in JobSpec.model_fields else spec.optimizer_settings.get(name)
    return value


def select_settings(found: Sequence[Arm], by: Fields) -> tuple[list[Selection], bool]:
    """The arms to compare, and whether some settings had no validation figures to select by.

    Without `by`, every arm is compared. With it, arms that agree in those fields and in the data are settings of one
    group, represented by the best of them by validation accuracy; without validation figures, each setting is compared.
    """
    if not by:
        return [Selection(label, arm, (arm,)) for label, arm in zip(_labels(found, found), found, strict=True)], False
    differing = [
        name for name in DATA_FIELDS if name not in by and len({field_of(arm.spec, name) for arm in found}) > 1
    ]
    groups: dict[tuple[str, ...], list[Arm]] = {}
    for arm in found:
        groups.setdefault(tuple(str(field_of(arm.spec, name)) for name in (*by, *differing)), []).append(arm)
    selections: list[Selection] = []
    has_unselected = False
    for settings in groups.values():
        spec = settings[0].spec
        data = [formatting.field(name, field_of(spec, name)) for name in differing]
        label = ", ".join([by_label(spec, by), *data])
        selection = Selection(label, settings[0], (settings[0],)) if len(settings) == 1 else _best(label, settings)
        if selection is not None:
            selections.append(selection)
        else:
            labels = _labels(settings, found)
            selections += [Selection(name, arm, (arm,)) for name, arm in zip(labels, settings, strict=True)]
            has_unselected = True
    return selections, has_unselected


def _best(label: str, settings: Sequence[Arm]) -> Selection | None:
    """The setting with the best mean validation accuracy on the seeds that all ranked settings have; None without one.

    Settings with a failed seed are ranked only where all have one, so that a lucky seed that survived decides nothing.
    """
    sound = [arm for arm in settings if not any(_has_failed(job.status) for job in arm.records)]
    ranked = [(arm, figures) for arm in sound or settings if (figures := _validation_by_seed(arm))]
    seeds = sorted(set.intersection(*(set(figures) for _, figures in ranked))) if ranked else []
    if not seeds:
        return None
    arm, _ = max(ranked, key=lambda one: statistics.fmean(one[1][seed] for seed in seeds))
    return Selection(label, arm, tuple(settings), len(ranked), tuple(seeds))


def _has_failed(status: Status) -> bool:
    return status in (Status.FAILED, Status.CANCELLED)


def _validation_by_seed(arm: Arm) -> dict[int, float]:
    """Validation accuracies from 0 to 1 by seed: the only figures by which a setting may be selected."""
    return {
        job.spec.seed: accuracy
        for job in arm.records
        if job.result is not None and (accuracy := job.result.validation_accuracy) is not None
    }


def by_label(spec: JobSpec, by: Fields) -> str:
    """ "adam", "sgd momentum=0.9": the values of these fields.

    Options that the optimizer does not have are left out, and its defaults too where `by` has the optimizer itself.
    """
    defaults = OPTIMIZERS[spec.optimizer].defaults if "optimizer" in by else {}
    values = {name: field_of(spec, name) for name in by}
    present = [name for name in by if values[name] is not None]
    shown = [name for name in present if name not in defaults or values[name] != defaults[name]]
    return " ".join(formatting.field(name, values[name]) for name in shown) or f"without {', '.join(by)}"


def arm_label(arm: Arm, among: Sequence[Arm], optimizer: Callable[[JobSpec], str] = formatting.optimizer) -> str:
    """What distinguishes the arm from the others: its optimizer, and the fields in which they differ."""
    has_model = len({formatting.model(other.spec) for other in among}) > 1
    return _label(arm, among, [*([formatting.model(arm.spec)] if has_model else []), optimizer(arm.spec)])


def full_labels(arms: Sequence[Arm]) -> list[str]:
    """For each arm its model and its optimizer, and the other fields in which they differ."""
    return _distinct(
        arms, [_label(arm, arms, [formatting.model(arm.spec), formatting.optimizer(arm.spec)]) for arm in arms]
    )


def settings_labels(specs: Sequence[JobSpec], shown: Sequence[str] = ()) -> list[str]:
    """For each spec the fields in which they differ, as "batch size=64, patience=5".

    Fields that the names of model and optimizer contain are left out, and those in `shown`.
    """
    names = [name for name in _differing(specs) if name not in shown]
    return [", ".join(formatting.field(name, field_of(spec, name)) for name in names) for spec in specs]


def _label(arm: Arm, among: Sequence[Arm], names: Sequence[str]) -> str:
    differing = _differing([other.spec for other in among])
    parts = [*names, *(formatting.field(name, field_of(arm.spec, name)) for name in differing)]
    if arm.parent is not None:
        parts.append(f"continued from {formatting.optimizer(arm.parent.spec)}")
    return ", ".join(parts)


def _differing(specs: Sequence[JobSpec]) -> list[str]:
    return [name for name in LABEL_FIELDS if len({field_of(spec, name) for spec in specs}) > 1]


def _labels(arms: Sequence[Arm], among: Sequence[Arm]) -> list[str]:
    return _distinct(arms, [arm_label(arm, among) for arm in arms])


def _distinct(arms: Sequence[Arm], found: Sequence[str]) -> list[str]:
    """The labels; arms that would share one get the first digits of a job id."""
    times = Counter(found)
    return [
        label if times[label] == 1 else f"{label} [{formatting.short_id(arm.first.id)}]"
        for label, arm in zip(found, arms, strict=True)
    ]
