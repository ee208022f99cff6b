"""A sweep: what the user submits. It expands to the specs of many jobs."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError, model_validator

from mlpq.errors import SpecError, nearest
from mlpq.jobs import MAX_ATTEMPTS
from mlpq.spec.data_content import DataContent, parse_reference, referred
from mlpq.spec.formula import parse_formulas
from mlpq.spec.job import (
    ACTIVATIONS,
    INITIALISATIONS,
    Device,
    JobSpec,
    WorldSize,
    first_line,
    parse_batch,
    parse_bias,
    parse_clip_norm,
    parse_decay,
    parse_dropout,
    parse_epochs,
    parse_patience,
    parse_penalty_l1,
    parse_smoothing,
    parse_validation,
    parse_warmup,
    spec_from,
    typed_text,
)
from mlpq.spec.optimizer_choice import alternatives, check_use, resolved
from mlpq.spec.parsing import (
    check_count,
    one_of,
    parse_experiment,
    parse_hidden_layers,
    parse_lr,
    parse_optimizers,
    parse_schedules,
    parse_seeds,
    parse_zip,
    several,
    whole,
)

Contents = Mapping[str, DataContent]
Values = dict[str, Any]  # of some keys of a sweep
Texts = tuple[str, ...]
Numbers = tuple[float, ...]
# Keys that hold for a whole submission. Each other key but `zip` is a factor of the product.
OF_SUBMISSION = ("experiment", "formula", "continue_from", "device", "world_size", "priority", "attempts")
OF_OPTIMIZER = {"lr", "weight_decay"}  # keys that do not apply to optimizers that specify their own
# What other libraries call these keys.
OTHER_NAMES = {
    "learning_rate": "lr", "learning_rates": "lr", "rate": "lr", "lrs": "lr", "l2": "weight_decay",
    "wd": "weight_decay", "batch": "batch_size", "layers": "hidden", "hidden_layers": "hidden", "hidden_size": "hidden",
    "widths": "hidden", "data": "dataset", "random_state": "seeds",
    "initialization": "initialisation", "init": "initialisation", "val": "validation", "validation_split": "validation",
    "early_stopping": "patience", "num_epochs": "epochs", "n_epochs": "epochs", "max_epochs": "epochs",
    "name": "experiment", "formulas": "formula", "gpu": "device", "nonlinearity": "activation",
}  # fmt: skip


class Sweep(BaseModel):
    """Like a spec, but each key from the data set to the seeds has several values; `jobs` expands their product.

    The factors of the product are in the order in which they are declared here, and the last varies fastest. To declare
    a key here is all that it takes to sweep it: its values go into the field of JobSpec that has its name. Values that
    are mappings, such as schedules, go into two: {"name": "step", "gamma": 0.1} into `schedule` and
    `schedule_settings`.

    `optimizer` entries are "name" or "name:option=value,…", or mappings with the key `name`. `lr` and `weight_decay`
    apply to the optimizers that do not specify their own. `formula` has the statements of own optimizers by name. `zip`
    has groups of keys whose values advance together.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    experiment: Annotated[str, BeforeValidator(parse_experiment)] = "default"
    dataset: Annotated[Texts, BeforeValidator(several("dataset", parse_reference))] = ("fashion-mnist",)
    hidden: Annotated[tuple[tuple[int, ...], ...], BeforeValidator(parse_hidden_layers)] = ((32,),)
    activation: Annotated[Texts, BeforeValidator(several("activation", one_of("activation", ACTIVATIONS)))] = (
        "sigmoid",
    )
    bias: Annotated[tuple[bool, ...], BeforeValidator(several("bias", parse_bias))] = (True,)
    initialisation: Annotated[
        Texts, BeforeValidator(several("initialisation", one_of("initialisation", INITIALISATIONS)))
    ] = ("torch",)
    formula: Annotated[dict[str, str], BeforeValidator(parse_formulas)] = {}
    optimizer: Annotated[tuple[Values, ...], BeforeValidator(parse_optimizers)] = ({"name": "sgd"},)
    lr: Annotated[Numbers, BeforeValidator(several("lr", parse_lr))] | None = None
    weight_decay: Annotated[Numbers, BeforeValidator(several("weight_decay", parse_decay))] | None = None
    l1: Annotated[Numbers, BeforeValidator(several("l1", parse_penalty_l1))] = (0.0,)
    dropout: Annotated[Numbers, BeforeValidator(several("dropout", parse_dropout))] = (0.0,)
    schedule: Annotated[tuple[Values, ...], BeforeValidator(parse_schedules)] = ({"name": "constant"},)
    warmup: Annotated[Numbers, BeforeValidator(several("warmup", parse_warmup))] = (0.0,)
    clip_norm: Annotated[tuple[float | None, ...], BeforeValidator(several("clip_norm", parse_clip_norm))] = (None,)
    label_smoothing: Annotated[Numbers, BeforeValidator(several("label_smoothing", parse_smoothing))] = (0.0,)
    epochs: Annotated[tuple[int, ...], BeforeValidator(several("epochs", parse_epochs))] = (10,)
    batch_size: Annotated[tuple[int, ...], BeforeValidator(several("batch_size", parse_batch))] = (32,)
    validation: Annotated[Numbers, BeforeValidator(several("validation", parse_validation))] = (0.0,)
    patience: Annotated[tuple[int | None, ...], BeforeValidator(several("patience", parse_patience))] = (None,)
    seeds: Annotated[tuple[int, ...], BeforeValidator(parse_seeds)] = (42,)
    zip: Annotated[tuple[tuple[str, ...], ...], BeforeValidator(parse_zip)] = ()
    continue_from: Annotated[str, BeforeValidator(lambda job: job if job is None else str(job).strip())] | None = None
    device: Device = "auto"
    world_size: WorldSize = None
    priority: Annotated[int, BeforeValidator(whole("priority", -1000, 1000))] = 0
    attempts: Annotated[int, BeforeValidator(whole("attempts", 1, 1000))] = MAX_ATTEMPTS

    @classmethod
    def parse(cls, document: Mapping[str, object]) -> Sweep:
        """A sweep from a mapping of keys; raises SpecError with one line that says what to change."""
        for key in document:
            if key not in cls.model_fields:
                raise SpecError(unknown_key(str(key)))
        try:
            sweep = cls.model_validate(dict(document))
        except ValidationError as error:
            raise SpecError(first_line(error)) from None
        for name in (name for group in sweep.zip for name in group):
            if name not in FACTORS or name == "seeds":
                raise SpecError(_not_zipped(name))
        return sweep

    @model_validator(mode="after")
    def _check_optimizers(self) -> Self:
        given = [name for name in sorted(OF_OPTIMIZER) if getattr(self, name) is not None]
        check_use(self.optimizer, self.formula, given)
        for entry in alternatives(self.optimizer, self.formula):
            resolved(entry, (self.lr or (None,))[0], (self.weight_decay or (None,))[0], self.formula)
        return self

    @property
    def size(self) -> int:
        """The number of jobs, where values that are given twice count twice; raises SpecError."""
        before, branches = self._branches()
        return math.prod(map(len, before)) * sum(math.prod(map(len, branch)) for branch in branches)

    def jobs(self, parent: JobSpec | None = None, *, contents: Contents | None = None) -> list[JobSpec]:
        """The specs of all combinations, seeds innermost, each once; raises SpecError.

        With `parent`, each job continues from it: shape, seed and validation split must be the parent's. `contents` are
        those of the own data sets, by the values of `dataset`.
        """
        check_count(self.size)
        before, branches = self._branches()
        specs = [
            self._spec({name: value for part in (*first, *rest) for name, value in part.items()}, parent, contents)
            for first in itertools.product(*before)
            for branch in branches
            for rest in itertools.product(*branch)
        ]
        if parent:
            _check_continuation(specs, parent)
        return list({spec.hash: spec for spec in specs}.values())

    def _branches(self) -> tuple[list[list[Values]], list[list[list[Values]]]]:
        """The factors before the optimizers, and for each optimizer itself and the factors after it.

        A learning rate is no factor for an optimizer that specifies its own.
        """
        factors = self._factors()
        at = next(number for number, factor in enumerate(factors) if "optimizer" in factor[0])
        before, optimizers, after = factors[:at], factors[at], factors[at + 1 :]

        def applies(factor: list[Values], given: Values) -> bool:
            return not factor[0].keys() <= OF_OPTIMIZER & given["optimizer"].keys()

        return before, [[[one], *(each for each in after if applies(each, one))] for one in optimizers]

    def _factors(self) -> list[list[Values]]:
        """The factors of the product. Each is a list with the values of one key, or of keys that advance together."""
        groups = {name: group for group in self.zip for name in group}
        values = {name: found for name in FACTORS if (found := self._values(name)) is not None}
        factors: list[list[Values]] = []
        for name in FACTORS:
            group = groups.pop(name, (name,))
            if len(group) == 1 and name in values:
                factors.append([{name: value} for value in _unique(values[name])])
            elif len(group) > 1:
                factors.append(_together(group, values))
                groups |= dict.fromkeys(group, ())
        return factors

    def _values(self, name: str) -> Sequence[Any] | None:
        """The values of a key; None for a default of the optimizer."""
        values: Sequence[Any] | None = getattr(self, name)
        return alternatives(self.optimizer, self.formula) if name == "optimizer" else values

    def _spec(self, values: Values, parent: JobSpec | None, contents: Contents | None) -> JobSpec:
        """The spec with one value of each key."""
        rate, decay = values.pop("lr", None), values.pop("weight_decay", None)
        fields = resolved(values.pop("optimizer"), rate, decay, self.formula)
        fields |= referred(values.pop("dataset"), contents or {})
        for key, value in values.items():
            if isinstance(value, Mapping):
                fields |= {key: value["name"], f"{key}_settings": {k: each for k, each in value.items() if k != "name"}}
            else:
                fields["seed" if key == "seeds" else key] = value
        if not fields["hidden"]:
            fields["activation"] = "sigmoid"
        return spec_from(**fields, parent=parent.hash if parent else None)


_FIELDS = tuple(Sweep.model_fields)
FACTORS = tuple(name for name in _FIELDS if name not in (*OF_SUBMISSION, "zip"))


def _unique(values: Iterable[Any]) -> list[Any]:
    return list({repr(value): value for value in values}.values())


def _together(group: Sequence[str], values: Mapping[str, Sequence[Any]]) -> list[Values]:
    """The values of several keys side by side."""
    if missing := [name for name in group if name not in values]:
        raise SpecError(f"zip needs values of {missing[0]}: give {option(missing[0])}")
    if "optimizer" in group:
        for name in sorted(OF_OPTIMIZER.intersection(group)):
            if own := next((entry["name"] for entry in values["optimizer"] if name in entry), None):
                raise SpecError(f"{own} specifies its own {name}, and zip pairs it with another: leave one of them out")
    lengths = {name: len(values[name]) for name in group}
    if len(set(lengths.values())) > 1:
        counts = ", ".join(f"{name} has {length}" for name, length in lengths.items())
        raise SpecError(f"keys that zip names need equally many values: {counts}")
    return [dict(zip(group, each, strict=True)) for each in zip(*(values[name] for name in group), strict=True)]


def _not_zipped(name: str) -> str:
    if name == "seeds":
        return "zip does not take seeds: each combination has all of them"
    if name in _FIELDS:
        return f"zip takes keys with several values, and {name} has one"
    return f"zip names the unknown key '{name}'{nearest(name, FACTORS)}"


def unknown_key(key: str) -> str:
    """The message for a key that a sweep doesn't have, with the key that was probably meant."""
    other = OTHER_NAMES.get(key.lower().replace("-", "_"))
    known = Sweep.model_fields
    return f"unknown key '{key}'" + (f" (did you mean '{other}'?)" if other else nearest(key, known))


def option(key: str) -> str:
    """How the key of a sweep is typed on the command line."""
    return f"--{key.replace('_', '-')}"


def inherited(parent: JobSpec) -> dict[str, object]:
    """The keys of a sweep that a job takes by default from the job that it continues from.

    All but the optimizer, its schedule and early stopping: those are the new job's own.
    """
    fields = parent.model_dump(mode="json", exclude=_OWN)
    fields["seeds"] = fields.pop("seed")
    fields["hidden"] = fields["hidden"] or "none"
    fields["dataset"] = parent.data_reference
    return fields


# Fields that a job does not take from the job that it continues from.
_OWN = {
    "optimizer", "lr", "optimizer_settings", "formula", "patience", "parent", "schedule", "schedule_settings", "warmup",
    "content", "plugin", "declaration",
}  # fmt: skip


def _check_continuation(specs: list[JobSpec], parent: JobSpec) -> None:
    for spec in specs:
        for name in ("dataset", "hidden", "activation", "bias", "initialisation"):
            mine, theirs = getattr(spec, name), getattr(parent, name)
            if mine != theirs:
                raise SpecError(
                    f"a job that continues from another keeps its model: {name} is {typed_text(mine)} here and "
                    f"{typed_text(theirs)} in the parent; leave {option(name)} out"
                )
        if spec.content != parent.content:
            raise SpecError(
                f"a job that continues from another keeps its data: {spec.dataset} has had other content since then; "
                "leave --dataset out"
            )
        if spec.seed != parent.seed:
            raise SpecError(
                f"a job that continues from another keeps its seed, {parent.seed}, not {spec.seed}: leave --seeds out"
            )
        if spec.validation != parent.validation:
            raise SpecError(
                f"the parent trained with --validation {parent.validation}; another split would hold out images "
                "that the parent trained on: leave --validation out"
            )
