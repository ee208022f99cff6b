"""The spec of a job: frozen and validated, with a canonical JSON and its SHA-256."""

from __future__ import annotations

import hashlib
import itertools
import json
from functools import cached_property
from typing import Annotated, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from mlpq.errors import SpecError
from mlpq.spec.datasets import DATASETS, Dataset
from mlpq.spec.optimizers import Value, complete
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

ACTIVATIONS = ("sigmoid", "relu", "tanh")
INITIALISATIONS = ("torch", "truncated-normal")
TRUNCATED_NORMAL_SD = 0.03  # that of the normal before it is cut at twice this, as in DeepOBS's MLP
DEVICES = ("auto", "cpu", "cuda", "mps")
# Parameters plus activations of a batch. A larger model uses a whole GPU by itself: stacking would gain little and take
# much memory, so torch's plain engine trains it alone.
MAX_STACKED = 2**20
# Fields that came later. The canonical JSON has them only where they differ from their default: older specs keep their
# hashes.
_LATER = ("initialisation",)
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
    """One training run, with every default filled in, so that equal specs have equal hashes.

    `parent` is the spec hash of the job whose final weights and generator states this one continues from.
    `initialisation` says how the weights of the first job of such a chain are drawn, and is the same in the whole
    chain; see mlpq_workers.engine.network.
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

    @property
    def data(self) -> Dataset:
        """The data set that the job trains on."""
        return DATASETS[self.dataset]

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
    def gang_key(self) -> str | None:
        """The fields in which the jobs of a stack agree, as JSON; None where the job can't be stacked."""
        return None if self.is_large else self.gang_key_on(None)

    def gang_key_on(self, world_size: int | None, engine: str | None = None) -> str:
        """The fields in which the jobs of a gang agree, as JSON, with the requested world size and engine."""
        key: dict[str, object] = {name: getattr(self, name) for name in _SHAPE}
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
