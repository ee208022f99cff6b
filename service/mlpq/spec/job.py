"""The spec of a job: frozen and validated, with a canonical JSON and its SHA-256."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Mapping
from functools import cached_property
from typing import Annotated, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from mlpq.errors import SpecError
from mlpq.spec.data_content import DataContent, parse_name, unknown_dataset
from mlpq.spec.datasets import DATASETS, Dataset
from mlpq.spec.formula import RATE_WITHOUT_USE, Formula, parse_formula
from mlpq.spec.formula_program import Program
from mlpq.spec.optimizers import OPTIMIZERS, Value, complete
from mlpq.spec.parsing import (
    MAX_BATCH,
    MAX_EPOCHS,
    MAX_PARAMETERS,
    MAX_SEED,
    one_of,
    parse_flag,
    parse_hidden,
    parse_lr,
    parse_world_size,
    real,
    whole,
)
from mlpq.spec.plugin import Declaration, PackageName, is_name
from mlpq.spec.schedules import CONSTANT, SCHEDULES, complete_schedule

ACTIVATIONS = ("sigmoid", "relu", "tanh")
INITIALISATIONS = ("torch", "truncated-normal")
TRUNCATED_NORMAL_SD = 0.03  # that of the normal before it is cut at twice this, as in DeepOBS's MLP
DEVICES = ("auto", "cpu", "cuda", "mps")
TORCH = "torch"
# Parameters plus activations of a batch. A larger model uses a whole GPU by itself: stacking would gain little and take
# much memory, so torch's plain engine trains it alone.
MAX_STACKED = 2**20
# Fields that came later. The canonical JSON has them only where they differ from their default: older specs keep their
# hashes.
_LATER = (
    "initialisation", "schedule", "schedule_settings", "warmup", "clip_norm", "label_smoothing", "formula", "content",
    "plugin", "declaration",
)  # fmt: skip
_SHAPE = ("dataset", "hidden", "activation", "bias", "batch_size", "validation")

parse_penalty_l1 = real("l1", "of 0 or more", lambda x: x >= 0)
parse_decay = real("weight_decay", "of 0 or more", lambda x: x >= 0)
parse_dropout = real("dropout", "from 0 to below 1", lambda x: 0 <= x < 1)
parse_warmup = real("warmup", "of 0 or more", lambda x: x >= 0)
parse_smoothing = real("label_smoothing", "from 0 to below 1", lambda x: 0 <= x < 1)
parse_batch = whole("batch_size", 1, MAX_BATCH)
parse_epochs = whole("epochs", 1, MAX_EPOCHS)
parse_validation = real("validation", "from 0 to below 1", lambda x: 0 <= x < 1)
parse_bias = parse_flag("bias")


def parse_patience(value: object) -> int | None:
    """A number of epochs, or None for "none"."""
    if value is None or str(value).strip().lower() == "none":
        return None
    return whole("patience", 1, MAX_EPOCHS)(value)


def parse_clip_norm(value: object) -> float | None:
    """The largest norm of a gradient, or None for "none"."""
    if value is None or str(value).strip().lower() == "none":
        return None
    return real("clip_norm", "above 0 or none", lambda x: x > 0)(value)


DatasetName = Annotated[str, BeforeValidator(parse_name)]
Hidden = Annotated[tuple[int, ...], BeforeValidator(parse_hidden)]
Activation = Annotated[str, BeforeValidator(one_of("activation", ACTIVATIONS))]
Initialisation = Annotated[str, BeforeValidator(one_of("initialisation", INITIALISATIONS))]
WorldSize = Annotated[int | None, BeforeValidator(parse_world_size)]
Schedule = Annotated[str, BeforeValidator(one_of("schedule", SCHEDULES))]
Device = Annotated[str, BeforeValidator(one_of("device", DEVICES))]


class JobSpec(BaseModel):
    """One training run, with every default filled in, so that equal specs have equal hashes.

    `parent` is the spec hash of the job whose final weights and generator states this one continues from.
    `initialisation` says how the weights of the first job of such a chain are drawn, and is the same in the whole
    chain; see mlpq_workers.engine.network. `formula` is the canonical text of an own optimizer, whose name is
    `optimizer` and whose constants are `optimizer_settings`; None for torch's. `plugin` is the package of an optimizer
    that is not torch's either, as "name==version", and `declaration` what it declares. `content` is that of an own data
    set, None of a built-in one.

    `lr` is the learning rate that `schedule` varies after the `warmup`: so many epochs or, below 1, that fraction of
    all batches; see mlpq_workers.engine.rates. `clip_norm` limits the norm of the whole model's gradient, with the L1
    penalty's part. `label_smoothing` is part of the training loss, not of the validation and test losses.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    dataset: DatasetName
    hidden: Hidden
    activation: Activation
    bias: Annotated[bool, BeforeValidator(parse_bias)]
    dropout: Annotated[float, BeforeValidator(parse_dropout)]
    optimizer: str
    lr: Annotated[float, BeforeValidator(parse_lr)]
    optimizer_settings: dict[str, Value]
    l1: Annotated[float, BeforeValidator(parse_penalty_l1)]
    epochs: Annotated[int, BeforeValidator(parse_epochs)]
    batch_size: Annotated[int, BeforeValidator(parse_batch)]
    validation: Annotated[float, BeforeValidator(parse_validation)]
    patience: Annotated[int | None, BeforeValidator(parse_patience)]
    seed: Annotated[int, BeforeValidator(whole("seed", 0, MAX_SEED))]
    parent: Annotated[str, Field(pattern="^[0-9a-f]{64}$")] | None = None
    initialisation: Initialisation = "torch"
    content: DataContent | None = None
    schedule: Schedule = CONSTANT
    schedule_settings: dict[str, Value] = {}
    warmup: Annotated[float, BeforeValidator(parse_warmup)] = 0.0
    clip_norm: Annotated[float | None, BeforeValidator(parse_clip_norm)] = None
    label_smoothing: Annotated[float, BeforeValidator(parse_smoothing)] = 0.0
    formula: str | None = None
    plugin: PackageName | None = None
    declaration: Declaration | None = None

    @model_validator(mode="after")
    def _check_together(self) -> Self:
        self._check_data()
        self._check_optimizer()
        self._check_schedule()
        if self.parameters > MAX_PARAMETERS:
            raise ValueError(
                f"hidden {typed_text(self.hidden)} makes {self.parameters:,} parameters; "
                f"the limit is {MAX_PARAMETERS:,}"
            )
        if self.patience is not None and not self.validation:
            raise ValueError("patience needs a validation split: add --validation 0.1")
        if self.validation and not 1 <= self.validation_size < self.data.train:
            raise ValueError(
                f"validation {self.validation} of {self.data.train} images leaves one of the two parts empty"
            )
        if self.dropout and not self.hidden:
            raise ValueError("dropout applies to hidden layers and there is none: leave it out, or add --hidden 32")
        return self

    def _check_data(self) -> None:
        if self.content is None and self.dataset not in DATASETS:
            raise ValueError(unknown_dataset(self.dataset))
        if self.content is not None and self.dataset in DATASETS:
            raise ValueError(f"'{self.dataset}' is a built-in data set: it has no content of its own")

    def _check_optimizer(self) -> None:
        if (self.plugin is None) != (self.declaration is None):
            raise ValueError("plugin and declaration belong together")
        if self.declaration is not None:
            if self.formula is not None or self.optimizer in OPTIMIZERS:
                raise ValueError(f"{self.optimizer} is a plug-in, and torch's or a formula too: give one of them")
            if not is_name(self.optimizer):
                raise ValueError("the name of a plug-in has up to 40 letters a-z, digits, - and _")
            if self.declaration.complete(self.optimizer, self.optimizer_settings) != self.optimizer_settings:
                raise ValueError(f"optimizer_settings must name every option of {self.optimizer}")
            return
        if (own := self.own_optimizer) is None:
            if complete(self.optimizer, self.optimizer_settings) != self.optimizer_settings:
                raise ValueError(f"optimizer_settings must name every option of {self.optimizer}")
            return
        if own.text != self.formula:
            raise ValueError(f"the formula must be in its canonical form: {own.text}")
        if own.complete(self.optimizer_settings) != self.optimizer_settings:
            raise ValueError(f"optimizer_settings must have a number for every constant of {self.optimizer}")
        if not own.uses_rate and self.lr != RATE_WITHOUT_USE:
            raise ValueError(f"the formula of {self.optimizer} does not read lr, so lr must be {RATE_WITHOUT_USE}")
        if not own.uses_rate and self.has_varying_lr:
            raise ValueError(f"the formula of {self.optimizer} does not read lr: leave --schedule and --warmup out")
        _ = self.program  # raises SpecError for constants that it can't be compiled with

    @property
    def own_optimizer(self) -> Formula | None:
        """The optimizer's formula; None for torch's optimizers."""
        return None if self.formula is None else parse_formula(self.optimizer, self.formula)

    @property
    def definition(self) -> str | None:
        """What the name of an own optimizer stands for: its formula, or its package; None for torch's optimizers."""
        return self.formula or self.plugin

    @property
    def program(self) -> Program | None:
        """The optimizer's formula, compiled with its constants; None for torch's optimizers."""
        own = self.own_optimizer
        return None if own is None else own.program(own.complete(self.optimizer_settings))

    @property
    def optimizer_defaults(self) -> Mapping[str, Value]:
        """The values that the optimizer's settings have unless the user gives others; a formula has none."""
        if self.declaration is not None:
            return self.declaration.defaults
        return {} if self.formula is not None else OPTIMIZERS[self.optimizer].defaults

    def _check_schedule(self) -> None:
        if complete_schedule(self.schedule, self.schedule_settings) != self.schedule_settings:
            raise ValueError(f"schedule_settings must name every option of the schedule {self.schedule}")
        if self.warmup >= max(1, self.epochs):
            raise ValueError(
                f"warmup {self.warmup:g} takes all of {self.epochs} epochs: give fewer, or a fraction of the training "
                "as --warmup 0.1"
            )
        if self.warmup and self.schedule == "one-cycle":
            raise ValueError(
                "the schedule one-cycle has its own warmup: leave --warmup out, and set its share as "
                "one-cycle:pct_start=0.3"
            )
        if self.schedule_settings.get("eta_min", 0.0) > self.lr:  # type: ignore[operator]
            raise ValueError(f"cosine:eta_min must be at most the learning rate, {self.lr:g}")
        if self.schedule_settings.get("three_phase") and self.schedule_settings["pct_start"] > 0.5:  # type: ignore[operator]
            raise ValueError("one-cycle:pct_start must be at most 0.5 with three_phase=true: the way back is as long")
        if self.has_varying_lr and self.optimizer == "rprop":
            raise ValueError("rprop reads the learning rate in its first step only: leave --schedule and --warmup out")

    @property
    def has_varying_lr(self) -> bool:
        """Whether not every batch has the learning rate `lr`."""
        return self.schedule != CONSTANT or self.warmup > 0

    @property
    def data(self) -> Dataset:
        """The data set that the job trains on."""
        return DATASETS[self.dataset] if self.content is None else self.content.dataset(self.dataset)

    @property
    def data_reference(self) -> str:
        """The data set as a value of a sweep's `dataset` that means the same content: "digits", "wine@…"."""
        return self.dataset if self.content is None else f"{self.dataset}@{self.content.sha256}"

    @property
    def widths(self) -> tuple[int, ...]:
        """Layer sizes n_0 … n_{L+1}, from the input to the classes."""
        return (self.data.features, *self.hidden, self.data.classes)

    @property
    def parameters(self) -> int:
        """Number of weights and biases."""
        return sum(m * n + n * self.bias for m, n in itertools.pairwise(self.widths))

    @property
    def validation_size(self) -> int:
        """Number of training images that are held out."""
        return round(self.data.train * self.validation)

    @property
    def is_large(self) -> bool:
        """Whether it is too large to be trained in one stack with others."""
        return self.parameters + self.batch_size * sum(self.widths) > MAX_STACKED

    @property
    def package(self) -> str | None:
        """The package that a worker needs for the job: a plug-in's as "name==version", or torch; None for neither.

        A job that needs one is trained alone, by torch's plain engine. A plug-in needs torch too.
        """
        if self.plugin is not None:
            return self.plugin
        return TORCH if self.formula is None and OPTIMIZERS[self.optimizer].of_matrices else None

    @property
    def gang_key(self) -> str | None:
        """The fields in which the jobs of a stack agree, as JSON; None where the job can't be stacked."""
        return None if self.is_large else self.gang_key_on(None)

    def gang_key_on(self, world_size: int | None, engine: str | None = None) -> str | None:
        """The fields in which the jobs of a gang agree, as JSON, with the requested world size and engine.

        None where the job is trained alone.
        """
        if self.package is not None:
            return None
        key: dict[str, object] = {name: getattr(self, name) for name in _SHAPE}
        if self.content is not None:
            key["content"] = self.content.sha256
        if world_size is not None:
            key["world_size"] = world_size
        if engine is not None:
            key["engine"] = engine
        if self.is_large:
            key["large"] = True
        return _canonical(key)

    def canonical(self) -> str:
        """JSON with sorted keys and no spaces: the text that is hashed."""
        document = self.model_dump(mode="json")
        for name in _LATER:
            if getattr(self, name) == type(self).model_fields[name].default:
                del document[name]
        return _canonical(document)

    @cached_property
    def hash(self) -> str:
        """SHA-256 of the canonical JSON, 64 hexadecimal digits."""
        return hashlib.sha256(self.canonical().encode()).hexdigest()


def spec_from(**fields: object) -> JobSpec:
    """A JobSpec from its fields; raises SpecError with a one-line message."""
    return parse_spec(fields)


def parse_spec(document: object) -> JobSpec:
    """The spec in a JSON document, which may be anything; raises SpecError with a one-line message."""
    try:
        return JobSpec.model_validate(document)
    except ValidationError as error:
        raise SpecError(first_line(error)) from None
    except SpecError:
        raise
    except Exception as error:  # such as RecursionError, for what no spec looks like
        raise SpecError(f"not a spec: {type(error).__name__}") from None


def _canonical(document: object) -> str:
    return json.dumps(document, sort_keys=True, separators=(",", ":"), allow_nan=False)


def typed_text(value: object) -> str:
    """A value of a spec as the user types it: "32,16", "none"."""
    return ",".join(map(str, value)) or "none" if isinstance(value, tuple) else str(value)


def first_line(error: ValidationError) -> str:
    """The first problem that pydantic found, in one line."""
    first = error.errors(include_url=False)[0]
    message = str(first["msg"]).removeprefix("Value error, ")
    if first["type"] == "value_error":
        return message
    return ": ".join(filter(None, (".".join(str(part) for part in first["loc"]), message)))
