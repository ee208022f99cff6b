"""What a job is: a frozen, validated spec with a canonical JSON and its SHA-256, and the sweep that expands to many."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Mapping
from functools import cached_property
from typing import Annotated, Any, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from mlpq.errors import SpecError, nearest
from mlpq.jobs import MAX_ATTEMPTS
from mlpq.spec.datasets import DATASETS, Dataset
from mlpq.spec.optimizers import Value, complete, optimizer
from mlpq.spec.parsing import (
    MAX_BATCH,
    MAX_EPOCHS,
    MAX_JOBS,
    MAX_PARAMETERS,
    MAX_SEED,
    one_of,
    parse_experiment,
    parse_flag,
    parse_hidden,
    parse_lr,
    parse_optimizers,
    parse_seeds,
    parse_world_size,
    real,
    several,
    whole,
)

ACTIVATIONS = ("sigmoid", "relu", "tanh")
INITIALISATIONS = ("torch", "truncated-normal")
TRUNCATED_NORMAL_SD = 0.03  # that of the normal before it is cut at twice this, as in DeepOBS's MLP
DEVICES = ("auto", "cpu", "cuda", "mps")
# Parameters, and activations of a batch. One model with more fills a machine by itself: stacking would gain little and
# take much memory, so it runs alone on the plain engine.
MAX_STACKED = 2**20
_SHAPE = ("dataset", "hidden", "activation", "bias", "batch_size", "validation")

parse_penalty_l1 = real("l1", "of 0 or more", lambda x: x >= 0)
parse_decay = real("weight_decay", "of 0 or more", lambda x: x >= 0)
parse_dropout = real("dropout", "from 0 to below 1", lambda x: 0 <= x < 1)
parse_batch = whole("batch_size", 1, MAX_BATCH)

DatasetName = Annotated[str, BeforeValidator(one_of("data set", DATASETS))]
Hidden = Annotated[tuple[int, ...], BeforeValidator(parse_hidden)]
Activation = Annotated[str, BeforeValidator(one_of("activation", ACTIVATIONS))]
Initialisation = Annotated[str, BeforeValidator(one_of("initialisation", INITIALISATIONS))]
WorldSize = Annotated[int | None, BeforeValidator(parse_world_size)]
Device = Annotated[str, BeforeValidator(one_of("device", DEVICES))]
Epochs = Annotated[int, BeforeValidator(whole("epochs", 1, MAX_EPOCHS))]
Validation = Annotated[float, BeforeValidator(real("validation", "from 0 to below 1", lambda x: 0 <= x < 1))]
Patience = Annotated[int | None, BeforeValidator(lambda v: None if v is None else whole("patience", 1, MAX_EPOCHS)(v))]
Bias = Annotated[bool, BeforeValidator(parse_flag("bias"))]


class JobSpec(BaseModel):
    """One training run, complete: every default is filled in, so equal specs have equal hashes.

    `parent` is the spec hash of the job from whose final weights and generators this one goes on. `initialisation` is
    how the weights of the first job of such a chain are drawn, and the same in all of it;
    see mlpq_workers.engine.network.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    dataset: DatasetName
    hidden: Hidden
    activation: Activation
    bias: Bias
    dropout: Annotated[float, BeforeValidator(parse_dropout)]
    optimizer: str
    lr: Annotated[float, BeforeValidator(parse_lr)]
    optimizer_settings: dict[str, Value]
    l1: Annotated[float, BeforeValidator(parse_penalty_l1)]
    epochs: Epochs
    batch_size: Annotated[int, BeforeValidator(parse_batch)]
    validation: Validation
    patience: Patience
    seed: Annotated[int, BeforeValidator(whole("seed", 0, MAX_SEED))]
    parent: Annotated[str, Field(pattern="^[0-9a-f]{64}$")] | None = None
    initialisation: Initialisation = "torch"

    @model_validator(mode="after")
    def _check_together(self) -> Self:
        if complete(self.optimizer, self.optimizer_settings) != self.optimizer_settings:
            raise ValueError(f"optimizer_settings must name every option of {self.optimizer}")
        if self.parameters > MAX_PARAMETERS:
            raise ValueError(
                f"hidden {_text(self.hidden)} makes {self.parameters:,} parameters; the cap is {MAX_PARAMETERS:,}"
            )
        if self.patience is not None and not self.validation:
            raise ValueError("patience needs a validation split: add --validation 0.1")
        if self.validation and not 1 <= self.validation_size < self.data.train:
            raise ValueError(f"validation {self.validation} of {self.data.train} images leaves a side empty")
        if self.dropout and not self.hidden:
            raise ValueError("dropout acts on hidden layers and there is none: leave it out, or give --hidden 32")
        return self

    @property
    def data(self) -> Dataset:
        return DATASETS[self.dataset]

    @property
    def widths(self) -> tuple[int, ...]:
        """Layer sizes n_0 … n_{L+1}, from the input to the classes."""
        return (self.data.features, *self.hidden, self.data.classes)

    @property
    def parameters(self) -> int:
        return sum(m * n + n * self.bias for m, n in itertools.pairwise(self.widths))

    @property
    def validation_size(self) -> int:
        """How many training images are held out."""
        return round(self.data.train * self.validation)

    @property
    def gang_key(self) -> str | None:
        """What jobs must agree in to be trained as one stacked model, as JSON; None where the job must run alone."""
        if self.parameters + self.batch_size * sum(self.widths) > MAX_STACKED:
            return None
        return _canonical({name: getattr(self, name) for name in _SHAPE})

    def canonical(self) -> str:
        """JSON with sorted keys and no spaces: the text that is hashed.

        The initialisation is in it only where it isn't torch's: specs that are older than this field keep their hash.
        """
        document = self.model_dump(mode="json")
        if self.initialisation == "torch":
            del document["initialisation"]
        return _canonical(document)

    @cached_property
    def hash(self) -> str:
        """SHA-256 of the canonical JSON, 64 hexadecimal digits."""
        return hashlib.sha256(self.canonical().encode()).hexdigest()


class Sweep(BaseModel):
    """What a person submits: like a spec, but several optimizers, rates and seeds; `jobs` expands their product.

    `optimizer` entries are "name" or "name:option=value,…", or mappings with the key `name`. `lr` and `weight_decay`
    go to the optimizers that do not name their own.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    experiment: Annotated[str, BeforeValidator(parse_experiment)] = "default"
    dataset: DatasetName = "fashion-mnist"
    hidden: Hidden = (32,)
    activation: Activation = "sigmoid"
    bias: Bias = True
    initialisation: Initialisation = "torch"
    dropout: Annotated[tuple[float, ...], BeforeValidator(several("dropout", parse_dropout))] = (0.0,)
    optimizer: Annotated[tuple[dict[str, Any], ...], BeforeValidator(parse_optimizers)] = ({"name": "sgd"},)
    lr: Annotated[tuple[float, ...], BeforeValidator(several("lr", parse_lr))] | None = None
    weight_decay: Annotated[tuple[float, ...], BeforeValidator(several("weight_decay", parse_decay))] | None = None
    l1: Annotated[tuple[float, ...], BeforeValidator(several("l1", parse_penalty_l1))] = (0.0,)
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
        """A sweep from a mapping of keys; raises SpecError with one line that says what to mend."""
        for key in document:
            if key not in cls.model_fields:
                raise SpecError(f"unknown key '{key}'{nearest(str(key), cls.model_fields)}")
        try:
            return cls.model_validate(dict(document))
        except ValidationError as error:
            raise SpecError(_first_line(error)) from None

    def jobs(self, parent: JobSpec | None = None) -> list[JobSpec]:
        """The product of all that was given several times, seeds innermost; raises SpecError.

        With `parent`, each job goes on from it: shape, seed and validation split must be the parent's.
        """
        arms = list(itertools.product(self._optimizers(), self.l1, self.dropout, self.batch_size))
        if len(arms) * len(self.seeds) > MAX_JOBS:
            raise SpecError(f"{len(arms) * len(self.seeds)} jobs in one submission; the cap is {MAX_JOBS}: split it")
        specs = [
            spec_from(
                dataset=self.dataset,
                hidden=self.hidden,
                activation=self.activation if self.hidden else "sigmoid",
                bias=self.bias,
                initialisation=self.initialisation,
                dropout=dropout,
                optimizer=name,
                lr=lr,
                optimizer_settings=settings,
                l1=l1,
                epochs=self.epochs,
                batch_size=batch_size,
                validation=self.validation,
                patience=self.patience,
                seed=seed,
                parent=parent.hash if parent else None,
            )
            for (name, lr, settings), l1, dropout, batch_size in arms
            for seed in self.seeds
        ]
        if parent:
            _check_goes_on(specs, parent)
        return list({spec.hash: spec for spec in specs}.values())

    def _optimizers(self) -> list[tuple[str, float, dict[str, Value]]]:
        found = []
        for key in ("lr", "weight_decay"):
            if getattr(self, key) is not None and all(key in given for given in self.optimizer):
                raise SpecError(f"every optimizer names its own {key}: leave {option(key)} out")
        for given in self.optimizer:
            options = dict(given)
            name = str(options.pop("name")).lower()
            known = optimizer(name)
            own_lr = options.pop("lr", None)
            rates = several("lr", parse_lr)(own_lr) if own_lr is not None else self.lr or (known.lr,)
            decays: tuple[float | None, ...] = (None,)
            if self.weight_decay is not None and "weight_decay" not in options:
                decays = self.weight_decay
            for lr, decay in itertools.product(rates, decays):
                extra = {} if decay is None else {"weight_decay": decay}
                found.append((name, lr, complete(name, {**options, **extra})))
        return found


def spec_from(**fields: object) -> JobSpec:
    """A JobSpec from its fields; raises SpecError with one line."""
    try:
        return JobSpec.model_validate(fields)
    except ValidationError as error:
        raise SpecError(_first_line(error)) from None


def option(key: str) -> str:
    """How the key of a sweep is typed on the command line."""
    return "--no-bias" if key == "bias" else f"--{key.replace('_', '-')}"


def inherited(parent: JobSpec) -> dict[str, object]:
    """The keys of a sweep that a job takes from the one it goes on from, unless told otherwise.

    All but the optimizer and early stopping: those are the new job's own.
    """
    fields = parent.model_dump(mode="json", exclude={"optimizer", "lr", "optimizer_settings", "patience", "parent"})
    fields["seeds"] = fields.pop("seed")
    fields["hidden"] = fields["hidden"] or "none"
    return fields


def _check_goes_on(specs: list[JobSpec], parent: JobSpec) -> None:
    for spec in specs:
        for name in ("dataset", "hidden", "activation", "bias", "initialisation"):
            mine, theirs = getattr(spec, name), getattr(parent, name)
            if mine != theirs:
                raise SpecError(
                    f"a job that goes on from another has its model: {name} is {_text(mine)} here and "
                    f"{_text(theirs)} there; leave {option(name)} out"
                )
        if spec.seed != parent.seed:
            raise SpecError(
                f"a job that goes on from another keeps its seed, {parent.seed}, not {spec.seed}: leave --seeds out"
            )
        if spec.validation != parent.validation:
            raise SpecError(
                f"the parent trained with --validation {parent.validation}; another split would hold out images "
                "that it has seen: leave --validation out"
            )


def _canonical(document: object) -> str:
    return json.dumps(document, sort_keys=True, separators=(",", ":"), allow_nan=False)


def _text(value: object) -> str:
    return ",".join(map(str, value)) or "none" if isinstance(value, tuple) else str(value)


def _first_line(error: ValidationError) -> str:
    first = error.errors(include_url=False)[0]
    message = str(first["msg"]).removeprefix("Value error, ")
    if first["type"] == "value_error":
        return message
    return f"{'.'.join(str(part) for part in first['loc'])}: {message}"
