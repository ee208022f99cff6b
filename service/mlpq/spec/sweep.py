"""A sweep: what the user submits. It expands to the specs of many jobs."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from typing import Annotated, Any, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError, model_validator

from mlpq.errors import SpecError, nearest
from mlpq.jobs import MAX_ATTEMPTS
from mlpq.spec.data_content import DataContent, parse_reference, referred
from mlpq.spec.formula import RATE_WITHOUT_USE, Formula, parse_constant, parse_formula, parse_formulas
from mlpq.spec.job import (
    ACTIVATIONS,
    Bias,
    Device,
    Epochs,
    Initialisation,
    JobSpec,
    Patience,
    Validation,
    WorldSize,
    first_line,
    parse_batch,
    parse_clip_norm,
    parse_decay,
    parse_dropout,
    parse_penalty_l1,
    parse_smoothing,
    parse_warmup,
    spec_from,
    typed_text,
)
from mlpq.spec.optimizers import Optimizer, Value, complete, optimizer
from mlpq.spec.parsing import (
    MAX_JOBS,
    one_of,
    parse_experiment,
    parse_hidden_layers,
    parse_lr,
    parse_optimizers,
    parse_schedules,
    parse_seeds,
    several,
    whole,
)

Datasets = Annotated[tuple[str, ...], BeforeValidator(several("dataset", parse_reference))]
Activations = Annotated[tuple[str, ...], BeforeValidator(several("activation", one_of("activation", ACTIVATIONS)))]
# What other libraries call these keys.
OTHER_NAMES = {
    "learning_rate": "lr", "learning_rates": "lr", "rate": "lr", "lrs": "lr", "l2": "weight_decay",
    "wd": "weight_decay", "batch": "batch_size", "layers": "hidden", "hidden_layers": "hidden", "hidden_size": "hidden",
    "widths": "hidden", "data": "dataset", "random_state": "seeds",
    "initialization": "initialisation", "init": "initialisation", "val": "validation", "validation_split": "validation",
    "early_stopping": "patience", "num_epochs": "epochs", "n_epochs": "epochs", "max_epochs": "epochs",
    "name": "experiment", "formulas": "formula", "gpu": "device", "nonlinearity": "activation",
}  # fmt: skip


Contents = Mapping[str, DataContent]


class Sweep(BaseModel):
    """Like a spec, but with several data sets, models, optimizers, rates and seeds; `jobs` expands their product.

    `optimizer` entries are "name" or "name:option=value,…", or mappings with the key `name`. `lr` and `weight_decay`
    apply to the optimizers that do not specify their own. `formula` has the statements of own optimizers by name.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    experiment: Annotated[str, BeforeValidator(parse_experiment)] = "default"
    dataset: Datasets = ("fashion-mnist",)
    hidden: Annotated[tuple[tuple[int, ...], ...], BeforeValidator(parse_hidden_layers)] = ((32,),)
    activation: Activations = ("sigmoid",)
    bias: Bias = True
    initialisation: Initialisation = "torch"
    dropout: Annotated[tuple[float, ...], BeforeValidator(several("dropout", parse_dropout))] = (0.0,)
    optimizer: Annotated[tuple[dict[str, Any], ...], BeforeValidator(parse_optimizers)] = ({"name": "sgd"},)
    formula: Annotated[dict[str, str], BeforeValidator(parse_formulas)] = {}
    lr: Annotated[tuple[float, ...], BeforeValidator(several("lr", parse_lr))] | None = None
    weight_decay: Annotated[tuple[float, ...], BeforeValidator(several("weight_decay", parse_decay))] | None = None
    l1: Annotated[tuple[float, ...], BeforeValidator(several("l1", parse_penalty_l1))] = (0.0,)
    schedule: Annotated[tuple[dict[str, Any], ...], BeforeValidator(parse_schedules)] = ({"name": "constant"},)
    warmup: Annotated[tuple[float, ...], BeforeValidator(several("warmup", parse_warmup))] = (0.0,)
    clip_norm: Annotated[tuple[float | None, ...], BeforeValidator(several("clip_norm", parse_clip_norm))] = (None,)
    label_smoothing: Annotated[tuple[float, ...], BeforeValidator(several("label_smoothing", parse_smoothing))] = (0.0,)
    epochs: Epochs = 10
    batch_size: Annotated[tuple[int, ...], BeforeValidator(several("batch_size", parse_batch))] = (32,)
    validation: Validation = 0.0
    patience: Patience = None
    seeds: Annotated[tuple[int, ...], BeforeValidator(parse_seeds)] = (42,)
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
            return cls.model_validate(dict(document))
        except ValidationError as error:
            raise SpecError(first_line(error)) from None

    def jobs(self, parent: JobSpec | None = None, *, contents: Contents | None = None) -> list[JobSpec]:
        """The product of all lists of values, seeds innermost; raises SpecError.

        With `parent`, each job continues from it: shape, seed and validation split must be the parent's. `contents` are
        those of the own data sets, by the values of `dataset`.
        """
        models = (self.dataset, self.hidden, self.activation)
        optimizers = self._optimizers()
        training = (self.schedule, self.warmup, self.clip_norm, self.label_smoothing)
        lists = (optimizers, self.l1, self.dropout, self.batch_size, *training, *models)
        _check_count(math.prod(map(len, (*lists, self.seeds))))
        specs = [
            spec_from(
                **referred(dataset, contents or {}),
                hidden=hidden,
                activation=activation if hidden else "sigmoid",
                bias=self.bias,
                initialisation=self.initialisation,
                dropout=dropout,
                optimizer=name,
                lr=lr,
                optimizer_settings=settings,
                formula=self.formula.get(name),
                l1=l1,
                schedule=schedule["name"],
                schedule_settings={key: value for key, value in schedule.items() if key != "name"},
                warmup=warmup,
                clip_norm=clip_norm,
                label_smoothing=label_smoothing,
                epochs=self.epochs,
                batch_size=batch_size,
                validation=self.validation,
                patience=self.patience,
                seed=seed,
                parent=parent.hash if parent else None,
            )
            for dataset, hidden, activation in itertools.product(*models)
            for (name, lr, settings), l1, dropout, batch_size in itertools.product(*lists[:4])
            for schedule, warmup, clip_norm, label_smoothing in itertools.product(*training)
            for seed in self.seeds
        ]
        if parent:
            _check_continuation(specs, parent)
        return list({spec.hash: spec for spec in specs}.values())

    @model_validator(mode="after")
    def _check_optimizers(self) -> Self:
        self._optimizers()
        return self

    def _optimizers(self) -> list[tuple[str, float, dict[str, Value]]]:
        """The name, the learning rate and the complete settings of every optimizer; raises SpecError."""
        self._check_given()
        found: list[tuple[str, float, dict[str, Value]]] = []
        for given in self.optimizer:
            options = dict(given)
            name = str(options.pop("name"))
            own, own_lr = self._formula(name), options.pop("lr", None)
            rates = self._rates(own or optimizer(name, self.formula), own_lr)
            values = {key: _constants(own, key, value) if own else (value,) for key, value in options.items()}
            if self.weight_decay is not None and "weight_decay" not in options:
                values["weight_decay"] = self.weight_decay
            _check_count(len(found) + len(rates) * math.prod(map(len, values.values())))
            for lr, *chosen in itertools.product(rates, *values.values()):
                settings = dict(zip(values, chosen, strict=True))
                found.append((name, lr, {**own.complete(settings)} if own else complete(name, settings)))
        return found

    def _check_given(self) -> None:
        """Raise SpecError where a key or a formula is of no use to any optimizer."""
        names = {str(given["name"]) for given in self.optimizer}
        for name in self.formula:
            if name not in names and (own := self._formula(name)) is not None:
                raise SpecError(f"the formula {name} is not used: add {own.usage}")
        for key in ("lr", "weight_decay"):
            if getattr(self, key) is not None and all(self._ignores(given, key) for given in self.optimizer):
                raise SpecError(f"every optimizer specifies its own {key}: leave {option(key)} out")

    def _ignores(self, given: Mapping[str, object], key: str) -> bool:
        own = self._formula(str(given["name"]))
        return key in given or (key == "lr" and own is not None and not own.uses_rate)

    def _formula(self, name: str) -> Formula | None:
        """The formula of that name; None for torch's optimizers."""
        return parse_formula(name, self.formula[name]) if name in self.formula else None

    def _rates(self, known: Formula | Optimizer, given: object) -> tuple[float, ...]:
        if isinstance(known, Optimizer):
            return self.lr or (known.lr,) if given is None else several("lr", parse_lr)(given)
        if not known.uses_rate:
            if given is not None:
                raise SpecError(f"the formula of {known.name} does not read lr: leave lr out")
            return (RATE_WITHOUT_USE,)
        if given is None and self.lr is None:
            raise SpecError(f"{known.name} needs a learning rate: write {known.usage}, or --lr")
        return self.lr or () if given is None else several("lr", parse_lr)(given)


def _constants(own: Formula, name: str, value: object) -> tuple[object, ...]:
    """The values of a constant: one, or several as "0,0.1" or a list. A name that it doesn't have is found later."""
    return several(f"{own.name}:{name}", parse_constant(own.name, name))(value) if name in own.constants else (value,)


def _check_count(jobs: int) -> None:
    """Raise SpecError where these are too many jobs for one submission; called before lists of them are made."""
    if jobs > MAX_JOBS:
        raise SpecError(f"{jobs} jobs in one submission; the limit is {MAX_JOBS}: split it")


def unknown_key(key: str) -> str:
    """The message for a key that a sweep doesn't have, with the key that was probably meant."""
    other = OTHER_NAMES.get(key.lower().replace("-", "_"))
    known = Sweep.model_fields
    return f"unknown key '{key}'" + (f" (did you mean '{other}'?)" if other else nearest(key, known))


def option(key: str) -> str:
    """How the key of a sweep is typed on the command line."""
    return "--no-bias" if key == "bias" else f"--{key.replace('_', '-')}"


def inherited(parent: JobSpec) -> dict[str, object]:
    """The keys of a sweep that a job takes by default from the job that it continues from.

    All but the optimizer, its schedule and early stopping: those are the new job's own.
    """
    fields = parent.model_dump(mode="json", exclude=_OWN)
    fields["dataset"] = reference_to(parent)
    fields["seeds"] = fields.pop("seed")
    fields["hidden"] = fields["hidden"] or "none"
    return fields


def reference_to(spec: JobSpec) -> str:
    """The data set of a spec, as a value of `dataset` that means the same content."""
    return spec.dataset if spec.content is None else f"{spec.dataset}@{spec.content.sha256}"


# Fields that a job does not take from the job that it continues from.
_OWN = {
    "optimizer", "lr", "optimizer_settings", "formula", "patience", "parent", "schedule", "schedule_settings", "warmup",
    "content",
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
