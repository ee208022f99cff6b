"""The sides of a comparison: arms grouped by fields, and the setting that represents each group."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mlpq import formatting
from mlpq.analysis.arms import Arm
from mlpq.analysis.choice import Choice, choose, choosing_seeds
from mlpq.analysis.labels import arm_labels, distinct, labels_among
from mlpq.errors import SpecError, nearest
from mlpq.jobs import Status
from mlpq.records import JobRecord
from mlpq.spec.job import JobSpec
from mlpq.spec.optimizers import OPTIMIZERS, Value
from mlpq.spec.schedules import SCHEDULES

Fields = tuple[str, ...]
Seeds = tuple[int, ...]
FieldValue = Value | str | tuple[int, ...] | None

OPTIONS = {option for known in OPTIMIZERS.values() for option in known.defaults}
SCHEDULE_OPTIONS = {option for options in SCHEDULES.values() for option in options}
# The content is part of `dataset`, the declaration of `plugin`.
_NOT_FIELDS = {"seed", "parent", "optimizer_settings", "schedule_settings", "content", "declaration"}
FIELDS = tuple(sorted({*JobSpec.model_fields, *OPTIONS, *SCHEDULE_OPTIONS} - _NOT_FIELDS))
OWN_KINDS = ("formula", "plugin")  # what an optimizer's name stands for
DATA_FIELDS = ("dataset", "validation")  # figures on other data can't rank settings


@dataclass(frozen=True, slots=True)
class Selection:
    """The setting that represents a group of settings: `arm` is the best of `tried` by mean validation accuracy.

    `choice` numbers the settings as `ranked` has them, those of `tried` that could be compared, on `seeds`; it is None
    where that is a single one, and `seeds` is empty where there was nothing to select. The choice may still change
    while jobs of the seeds `pending` are not finished.
    """

    label: str
    arm: Arm
    tried: tuple[Arm, ...]
    ranked: tuple[Arm, ...] = ()
    choice: Choice | None = None
    seeds: Seeds = ()
    pending: Seeds = ()


@dataclass(frozen=True, slots=True)
class Selected:
    """The arms to compare. Settings were chosen on `choosing`, which is empty where nothing was chosen.

    `has_unselected`: some settings had no validation figures to select by, so each of them is compared. `is_shared`:
    there are so few seeds that those which chose must also compare.
    """

    selections: list[Selection]
    has_unselected: bool = False
    choosing: Seeds = ()
    is_shared: bool = False


def parse_by(text: str | None) -> Fields:
    """Fields of the spec or options of optimizers and schedules, separated by commas. Raises SpecError."""
    names = tuple(dict.fromkeys(name.strip() for name in text.split(","))) if text else ()
    for name in names:
        if name == "seed":
            raise SpecError("arms can't be compared by seed: use --by optimizer, or another field of the spec")
        if name not in FIELDS and not name.isidentifier():  # it may be a constant of a formula, see _check_fields
            raise SpecError(f"the spec has no field '{name}'{nearest(name, FIELDS)}")
    return names


def field_of(spec: JobSpec, name: str) -> FieldValue:
    """A field of the spec, or an option of the optimizer or schedule; None where its own has no such option."""
    if name == "dataset":
        return spec.data_reference
    options = {**spec.schedule_settings, **spec.optimizer_settings}
    value: FieldValue = getattr(spec, name) if name in JobSpec.model_fields else options.get(name)
    return value


def select_settings(
    found: Sequence[Arm], by: Fields, choosing: Sequence[int] = (), names: Mapping[str, str] | None = None
) -> Selected:
    """The arms to compare; with `by`, arms that agree in those fields and in the data are settings of one group.

    A group of several is represented by the best of them by validation accuracy on the seeds `choosing`, by default
    `choosing_seeds`; without validation figures, each setting is compared by itself. Raises SpecError where `choosing`
    leaves no seed to compare on. `names` are the labels of arms without `by`, by the id of their first job, for
    comparisons of several problems.
    """
    if not by:
        labels = distinct([names[arm.first.id] for arm in found], found) if names else arm_labels(found)
        return Selected([Selection(label, arm, (arm,)) for label, arm in zip(labels, found, strict=True)])
    groups = _groups(found, by)
    if choosing and all(len(group.settings) == 1 for group in groups):
        raise SpecError("no side has several settings to choose from: leave --choose-seeds out")
    seeds = tuple(choosing)
    if not seeds and any(group.has_choice for group in groups):
        seeds = choosing_seeds(_common_seeds(groups))
    selections: list[Selection] = []
    has_unselected = False
    for group in groups:
        if (chosen := _chosen(group, seeds)) is not None:
            selections.append(chosen)
        else:
            labels = labels_among(group.settings, found)
            selections += [Selection(name, arm, (arm,)) for name, arm in zip(labels, group.settings, strict=True)]
            has_unselected = True
    return _selected(selections, has_unselected, seeds, bool(choosing))


def group_settings(found: Sequence[Arm], by: Fields) -> dict[str, Sequence[Arm]]:
    """The settings of each side by its label; without `by`, each arm is a side."""
    if not by:
        return {label: [arm] for label, arm in zip(arm_labels(found), found, strict=True)}
    return {group.label: group.settings for group in _groups(found, by)}


def find_label(typed: str, labels: Sequence[str]) -> str:
    """The label that was typed, or its beginning; raises SpecError where there is none, or several."""
    found = [label for label in labels if label == typed] or [label for label in labels if label.startswith(typed)]
    if len(found) != 1:
        problem = "no arm is called" if not found else "several arms begin with"
        raise SpecError(f"{problem} '{typed}': type one of {'; '.join(labels)}")
    return found[0]


@dataclass(frozen=True, slots=True)
class _Group:
    """The settings of one side; `ranked` are those that it may choose from, empty without a validation split."""

    label: str
    settings: Sequence[Arm]
    ranked: Sequence[Arm]

    @property
    def has_choice(self) -> bool:
        return len(self.settings) > 1 and bool(self.ranked)


def _groups(found: Sequence[Arm], by: Fields) -> list[_Group]:
    _check_fields(found, by)
    kept_apart = [*DATA_FIELDS, *(_kinds_of_one_name(found) if "optimizer" in by else [])]
    differing = [name for name in kept_apart if name not in by and len({field_of(arm.spec, name) for arm in found}) > 1]
    by_values: dict[tuple[str, ...], list[Arm]] = {}
    for arm in found:
        by_values.setdefault(tuple(str(field_of(arm.spec, name)) for name in (*by, *differing)), []).append(arm)
    groups, specs = [], [arm.spec for arm in found]
    for settings in by_values.values():
        spec = settings[0].spec
        data = [_shown(spec, name, specs) for name in differing if field_of(spec, name) is not None]
        groups.append(_Group(", ".join([by_label(spec, by, specs), *data]), settings, _rankable(settings)))
    return groups


def _check_fields(found: Sequence[Arm], by: Fields) -> None:
    """Raise SpecError for a field that is neither one of every spec nor an option of one of the optimizers."""
    options = {name for arm in found for name in arm.spec.optimizer_settings}
    for name in by:
        if name not in FIELDS and name not in options:
            raise SpecError(f"the spec has no field '{name}'{nearest(name, {*FIELDS, *options})}")


def _kinds_of_one_name(found: Sequence[Arm]) -> list[str]:
    """Of `formula` and `plugin` those in which optimizers of one name differ."""
    specs, names = [arm.spec for arm in found], {arm.spec.optimizer for arm in found}
    return [kind for kind in OWN_KINDS if len({(spec.optimizer, getattr(spec, kind)) for spec in specs}) > len(names)]


def _rankable(settings: Sequence[Arm]) -> list[Arm]:
    """The settings that a side may choose from, in an order that does not depend on that of the jobs.

    None without a validation split. Settings with seeds that failed, other than by divergence, are ranked only where
    all have some.
    """
    sound = [arm for arm in settings if not any(_is_lost(job, arm) for job in arm.records)]
    ranked = [arm for arm in sound or settings if arm.spec.validation]
    return sorted(ranked, key=lambda arm: arm.spec.model_dump_json(exclude={"seed", "parent"}))


def _is_lost(job: JobRecord, arm: Arm) -> bool:
    return job.status in (Status.FAILED, Status.CANCELLED) and job.spec.seed not in arm.diverged


def _common_seeds(groups: Sequence[_Group]) -> list[int]:
    """The seeds submitted in every arm that may be compared; where there is none, in all settings to choose from."""
    every = [arm for group in groups for arm in (group.ranked or group.settings)]
    several = [arm for group in groups if group.has_choice for arm in group.ranked]
    for found in (every, several):
        seeds = [{job.spec.seed for job in arm.records if not _is_lost(job, arm)} for arm in found]
        if common := set.intersection(*seeds):
            return sorted(common)
    return []


def _chosen(group: _Group, choosing: Sequence[int]) -> Selection | None:
    """The setting with the best mean validation accuracy on the seeds of `choosing` that all ranked ones have; None
    where there is no such seed."""
    ranked, tried = tuple(group.ranked), tuple(group.settings)
    if len(tried) == 1:
        return Selection(group.label, tried[0], tried)
    scores = [_validation_by_seed(arm) for arm in ranked]
    seeds = tuple(seed for seed in choosing if all(seed in each for each in scores))
    if not seeds or not ranked:
        return None
    if len(ranked) == 1:
        return Selection(group.label, ranked[0], tried, ranked, seeds=seeds)
    choice = choose(scores, seeds)
    jobs = [job for arm in ranked for job in arm.records if job.spec.seed in choosing]
    pending = {job.spec.seed for job in jobs if not job.status.is_finished}
    return Selection(group.label, ranked[choice.best], tried, ranked, choice, seeds, tuple(sorted(pending)))


def _selected(selections: list[Selection], has_unselected: bool, seeds: Seeds, is_given: bool) -> Selected:
    if not any(selection.seeds for selection in selections):
        return Selected(selections, has_unselected)
    left = {job.spec.seed for selection in selections for job in selection.arm.records} - set(seeds)
    if not left and is_given:
        raise SpecError(
            f"--choose-seeds {formatting.seeds(seeds)} leaves no seed to compare on: name fewer, or submit more seeds"
        )
    return Selected(selections, has_unselected, seeds, is_shared=not left)


def _validation_by_seed(arm: Arm) -> dict[int, float]:
    """Validation accuracies from 0 to 1 by seed, that of chance for a diverged run: the only figures by which a setting
    may be selected."""
    scores = dict.fromkeys(arm.diverged, 1 / arm.spec.data.classes)
    for job in arm.records:
        if job.result is not None and (accuracy := job.result.validation_accuracy) is not None:
            scores[job.spec.seed] = accuracy
    return scores


def _shown(spec: JobSpec, name: str, among: Sequence[JobSpec]) -> str:
    """A field in a label; `among` are all specs that have one."""
    return formatting.data_set(spec, among) if name == "dataset" else formatting.field(name, field_of(spec, name))


def by_label(spec: JobSpec, by: Fields, among: Sequence[JobSpec] = ()) -> str:
    """ "adam", "sgd momentum=0.9": the values of these fields.

    Options that the optimizer does not have are left out, and its defaults too where `by` has the optimizer itself.
    """
    defaults = spec.optimizer_defaults if "optimizer" in by else {}
    values = {name: field_of(spec, name) for name in by}
    present = [name for name in by if values[name] is not None]
    shown = [name for name in present if name not in defaults or values[name] != defaults[name]]
    return " ".join(_shown(spec, name, among) for name in shown) or f"without {', '.join(by)}"
