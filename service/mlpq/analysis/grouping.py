"""Which arms stand side by side in a comparison, what they are called, and which setting stands for several."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mlpq import formatting
from mlpq.analysis.arms import Arm
from mlpq.errors import SpecError, nearest
from mlpq.jobs import Status
from mlpq.spec.job import JobSpec
from mlpq.spec.optimizers import OPTIMIZERS

Row = Mapping[str, Any]
Fields = tuple[str, ...]

OPTIONS = {option for known in OPTIMIZERS.values() for option in known.defaults}
FIELDS = tuple(sorted({*JobSpec.model_fields, *OPTIONS} - {"seed", "parent", "optimizer_settings"}))
NEVER_TUNED = ("dataset", "validation")  # figures on other data are no choice between settings
TOLD_APART = ("dataset", "epochs", "batch_size", "validation", "patience")


@dataclass(frozen=True)
class Choice:
    """`arm` stands for the arms in `tried`, itself among them; `ranked` of them were compared, on `seeds`.

    `seeds` is empty where there was nothing to choose.
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
            raise SpecError(
                "arms differ in more than the seed: compare --by optimizer, or by another field of the spec"
            )
        if name not in FIELDS:
            raise SpecError(f"the spec has no field '{name}'{nearest(name, FIELDS)}")
    return names


def field_of(row: Row, name: str) -> Any:
    """A field of the spec, or an option of the optimizer; None where its optimizer has no such option."""
    return row[name] if name in JobSpec.model_fields else row["optimizer_settings"].get(name)


def choose(found: Sequence[Arm], by: Fields) -> tuple[list[Choice], bool]:
    """The sides that `by` makes of arms, and whether somewhere no setting could be chosen: each is a side then.

    Without `by` each arm is one. With it the arms that agree in those fields, and in the data, are settings of one.
    """
    if not by:
        return [Choice(label, arm, (arm,)) for label, arm in zip(_labels(found, found), found, strict=True)], False
    apart = [name for name in NEVER_TUNED if name not in by and len({arm.first[name] for arm in found}) > 1]
    groups: dict[tuple[str, ...], list[Arm]] = {}
    for arm in found:
        groups.setdefault(tuple(str(field_of(arm.first, name)) for name in (*by, *apart)), []).append(arm)
    sides, unchosen = [], False
    for group in groups.values():
        label = ", ".join(
            [by_label(group[0].first, by), *(formatting.field(name, group[0].first[name]) for name in apart)]
        )
        choice = Choice(label, group[0], (group[0],)) if len(group) == 1 else _best(label, group)
        if choice is not None:
            sides.append(choice)
        else:
            sides += [Choice(name, arm, (arm,)) for name, arm in zip(_labels(group, found), group, strict=True)]
            unchosen = True
    return sides, unchosen


def _best(label: str, group: Sequence[Arm]) -> Choice | None:
    """The setting with the best mean validation accuracy, on the seeds that all settings have that are ranked.

    Ranked are those without a failed seed, or if there is none, all; so a lucky seed that survived decides nothing.
    """
    sound = [arm for arm in group if not any(row["status"] in (Status.FAILED, Status.CANCELLED) for row in arm.rows)]
    ranked = [(arm, figures) for arm in sound or group if (figures := _validated(arm))]
    seeds = sorted(set.intersection(*(set(figures) for _, figures in ranked))) if ranked else []
    if not seeds:
        return None
    arm, _ = max(ranked, key=lambda one: statistics.fmean(one[1][seed] for seed in seeds))
    return Choice(label, arm, tuple(group), len(ranked), tuple(seeds))


def _validated(arm: Arm) -> dict[int, float]:
    """Validation accuracies by seed: the only figures by which a setting may be chosen."""
    return {row["seed"]: row["validation_accuracy"] for row in arm.rows if row["validation_accuracy"] is not None}


def by_label(row: Row, by: Fields) -> str:
    """ "adam", "sgd momentum=0.9": the values of these fields.

    Of options those that the optimizer has, and where it is named itself those that are not its defaults.
    """
    defaults = OPTIMIZERS[row["optimizer"]].defaults if "optimizer" in by else {}
    values = {name: field_of(row, name) for name in by}
    has = [name for name in by if values[name] is not None]
    told = [name for name in has if name not in defaults or values[name] != defaults[name]]
    return " ".join(formatting.field(name, values[name]) for name in told) or f"without {', '.join(by)}"


def arm_label(arm: Arm, among: Sequence[Arm], optimizer: Callable[[Row], str] = formatting.optimizer) -> str:
    """What sets the arm apart from the others: the optimizer, and whichever other field is not the same in all."""
    parts = [optimizer(arm.first)]
    if len({formatting.model(other.first) for other in among}) > 1:
        parts.insert(0, formatting.model(arm.first))
    for name in TOLD_APART:
        if len({other.first[name] for other in among}) > 1:
            parts.append(formatting.field(name, arm.first[name]))
    if arm.parent is not None:
        parts.append(f"on from {formatting.optimizer(arm.parent)}")
    return ", ".join(parts)


def _labels(arms: Sequence[Arm], among: Sequence[Arm]) -> list[str]:
    """A label for each; those that would be the same get the number of a job."""
    found = [arm_label(arm, among) for arm in arms]
    times = Counter(found)
    return [
        label if times[label] == 1 else f"{label} [{formatting.short_id(arm.first['id'])}]"
        for label, arm in zip(found, arms, strict=True)
    ]
