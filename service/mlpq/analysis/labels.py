"""Labels of arms, the same in every table, chart and page: only what distinguishes each arm from the others.

A field of the spec that this module does not know is shown with its name and value where arms differ in it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Hashable, Mapping, Sequence

from mlpq import formatting
from mlpq.analysis.arms import Arm
from mlpq.spec.job import JobSpec

_MODEL = ("hidden", "activation")  # named together, as "MLP 32 relu"
_OF_MODEL = ("bias", "initialisation", "dropout", "l1", "label_smoothing")
_RATES = ("lr",)
_OF_OPTIMIZER = ("schedule", "warmup", "clip_norm")  # named after the optimizer's options
# Fields that the other one names: shown where one name has several of them.
_NAMED = {"formula": "optimizer", "plugin": "optimizer", "content": "dataset"}
# Of no label, or part of another field.
_PARTS = {"seed", "parent", "optimizer_settings", "schedule_settings", "declaration"}
_OPTION = "option "  # before the names of the optimizer's options, which may be those of fields
_REQUIRED = object()  # the default of what has none
_ALONE = tuple(
    name
    for name in JobSpec.model_fields
    if name not in {*_MODEL, *_OF_MODEL, "optimizer", *_RATES, *_OF_OPTIMIZER, *_PARTS}
)


def arm_labels(arms: Sequence[Arm], without: Collection[str] = ()) -> list[str]:
    """For each arm what distinguishes it from the others; arms that would share a label get digits of a job id.

    A single arm has the name of its optimizer. The fields `without` are left out, and what they distinguish is not told
    apart.
    """
    labels = spec_labels([arm.spec for arm in arms], without)
    found = [", ".join(filter(None, parts)) for parts in zip(labels, _origins(arms, without), strict=True)]
    if without:
        return found
    return distinct(found, arms)


def distinct(labels: Sequence[str], arms: Sequence[Arm]) -> list[str]:
    """The labels of these arms; those that would share one get the first digits of a job id."""
    times = Counter(labels)
    return [
        label if times[label] == 1 else f"{label} [{formatting.short_id(arm.first.id)}]"
        for label, arm in zip(labels, arms, strict=True)
    ]


def labels_among(some: Sequence[Arm], among: Sequence[Arm]) -> list[str]:
    """The labels that some of these arms have among them all."""
    labels = {id(arm): label for arm, label in zip(among, arm_labels(among), strict=True)}
    return [labels[id(arm)] for arm in some]


def labels_over_problems(problems: Sequence[Sequence[Arm]]) -> dict[str, str]:
    """The labels of the arms of several problems, by the id of each arm's first job.

    They name what distinguishes arms within some problem, so that arms of equal settings have one label in all.
    """
    differing = {name for found in problems for name in _differing([_fields(arm.spec) for arm in found])}
    labels: dict[str, str] = {}
    for found in problems:
        for arm, origin in zip(found, _origins(found, ()), strict=True):
            label = _label(arm.spec, differing) or formatting.optimizer(arm.spec)
            labels[arm.first.id] = ", ".join(filter(None, [label, origin]))
    return labels


def spec_labels(specs: Sequence[JobSpec], without: Collection[str] = ()) -> list[str]:
    """For each spec the fields in which they differ, as "MLP 32 relu, adam lr=0.01, epochs=20".

    Where they differ in nothing, each has the name of its optimizer.
    """
    name = formatting.optimizer_without_rate if "lr" in without else formatting.optimizer
    differing = _differing([_fields(spec) for spec in specs]) - set(without)
    return [_label(spec, differing) or name(spec) for spec in specs]


def settings_labels(specs: Sequence[JobSpec], shown: Collection[str] = ()) -> list[str]:
    """For each spec the fields in which they differ, as "batch size=64, patience=5".

    Fields that the names of model and optimizer contain are left out, and those in `shown`.
    """
    fields = [_fields(spec) for spec in specs]
    names = [name for name in _ALONE if name in _differing(fields) - set(shown)]
    return [", ".join(_field(name, own[name]) for name in _shown(names, own)) for own in fields]


def shared(specs: Sequence[JobSpec]) -> str:
    """The fields in which all specs agree, as "digits, hidden=32, sgd, lr=0.1", without those left at a default."""
    differing, first = _differing([_fields(spec) for spec in specs]), _fields(specs[0])
    defaults = [_defaults(spec) for spec in specs]
    names = _shown([name for name in first if name not in differing], first)
    changed = [name for name in names if any(first[name] != own.get(name, _REQUIRED) for own in defaults)]
    return ", ".join(_field(name, first[name]) for name in changed)


def _label(spec: JobSpec, differing: Collection[str]) -> str:
    own, defaults = _fields(spec), _defaults(spec)
    shown = _shown([name for name in own if name in differing], own)
    hidden = ["MLP " + formatting.value_of(spec.hidden) if spec.hidden else "logistic"] if "hidden" in shown else []
    model = [*hidden, *([spec.activation] if "activation" in shown else [])]
    has_name = "optimizer" in shown
    options = [name for name in shown if name.startswith(_OPTION) and not (has_name and own[name] == defaults[name])]
    optimizer = [spec.optimizer] if has_name else []
    optimizer += [
        f"{name.removeprefix(_OPTION)}={formatting.value_of(own[name])}"
        for name in [*(name for name in _RATES if name in shown), *options, *_OF_OPTIMIZER]
        if name in shown
    ]
    parts = [" ".join(model), *(_field(name, own[name]) for name in _OF_MODEL if name in shown)]
    parts += [" ".join(optimizer), *(_field(name, own[name]) for name in _ALONE if name in shown)]
    return ", ".join(filter(None, parts))


def _fields(spec: JobSpec) -> dict[str, Hashable]:
    """The fields of a spec, and the options of its optimizer, by name; None for those that do not matter to it."""
    found: dict[str, Hashable] = {}
    own = spec.own_optimizer
    for name in JobSpec.model_fields:
        if name == "optimizer_settings":
            options = own.constants if own else spec.optimizer_settings
            found |= {f"{_OPTION}{option}": spec.optimizer_settings[option] for option in options}
        elif name not in _PARTS:
            found[name] = getattr(spec, name)
    found["content"] = spec.content.reference(spec.dataset) if spec.content else None
    found["activation"] = spec.activation if spec.hidden else None
    found["schedule"] = formatting.schedule(spec)
    found["lr"] = spec.lr if own is None or own.uses_rate else None
    return found


def _defaults(spec: JobSpec) -> dict[str, object]:
    """The defaults of the fields that have one, and of the optimizer's options."""
    own = {name: field.default for name, field in JobSpec.model_fields.items() if not field.is_required()}
    options = {option: spec.optimizer_defaults.get(option, _REQUIRED) for option in spec.optimizer_settings}
    return {**own, **{f"{_OPTION}{option}": value for option, value in options.items()}}


def _differing(of_specs: Sequence[Mapping[str, Hashable]]) -> set[str]:
    names = {name for own in of_specs for name in own}
    found = {name for name in names if len({own.get(name) for own in of_specs}) > 1}
    for name, other in _NAMED.items():
        both = {(own.get(other), own.get(name)) for own in of_specs}
        if len(both) == len({own.get(other) for own in of_specs}):
            found.discard(name)
    return found


def _shown(names: Sequence[str], own: Mapping[str, Hashable]) -> list[str]:
    """Those of these fields that matter to a spec; that of the content has the name of the data set too."""
    found = [name for name in names if own[name] is not None or name not in {"activation", "lr", *_NAMED}]
    return [name for name in found if name != "dataset" or "content" not in found]


def _field(name: str, value: Hashable) -> str:
    return formatting.field(name.removeprefix(_OPTION), value)


def _origins(arms: Sequence[Arm], without: Collection[str]) -> list[str]:
    """For each arm what it continues from; empty where it begins with new weights, and where all arms agree."""
    parents = [arm.parent.spec if arm.parent else None for arm in arms]
    distinct = {parent and parent.model_dump_json(exclude={"seed", "parent"}) for parent in parents}
    if len(distinct) == 1 and len(arms) > 1:
        return [""] * len(arms)
    labels = iter(spec_labels([parent for parent in parents if parent], without))
    return [f"continued from {next(labels)}" if parent else "" for parent in parents]
