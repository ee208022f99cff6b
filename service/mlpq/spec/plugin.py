"""Optimizers of installed packages as specs name them: the package, and what it declares."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from mlpq import plugins
from mlpq.errors import SpecError
from mlpq.spec.optimizers import OPTIMIZERS, Value, complete_options, parse_number
from mlpq.spec.parsing import parse_lr

MAX_NUMBERS = 64  # the defaults of an optimizer, of which some have several
PACKAGE = r"[a-z0-9]+(-[a-z0-9]+)*==[A-Za-z0-9][A-Za-z0-9.!+_-]*"
_NAME = re.compile(r"[a-z][a-z0-9_-]{0,39}")
_OPTION = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,39}")

PackageName = Annotated[str, Field(pattern=f"^{PACKAGE}$", max_length=150)]
Number = Annotated[float, Field(allow_inf_nan=False)]
Default = bool | int | Number | tuple[Number, ...]


class Declaration(BaseModel):
    """What a package declares of an optimizer: its class as "package.module:Class", and the defaults of its options.

    An option whose default is an int takes whole numbers, one whose default is a bool true or false.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    class_path: Annotated[str, Field(pattern=r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*$", max_length=200)]
    defaults: dict[str, Default]

    @field_validator("defaults")
    @classmethod
    def _check_defaults(cls, defaults: dict[str, Default]) -> dict[str, Default]:
        for option in defaults:
            if not _OPTION.fullmatch(option) or option in ("lr", "name", "params"):
                raise ValueError(f"an optimizer can't have the option '{option[:60]}'")
        numbers = sum(len(value) if isinstance(value, tuple) else 1 for value in defaults.values())
        if numbers > MAX_NUMBERS or () in defaults.values():
            raise ValueError(f"the options of an optimizer have 1 to {MAX_NUMBERS} numbers")
        return defaults

    @property
    def module(self) -> str:
        """ "package.module"."""
        return self.class_path.partition(":")[0]

    @property
    def class_name(self) -> str:
        """ "Class"."""
        return self.class_path.partition(":")[2]

    def complete(self, name: str, given: Mapping[str, object]) -> dict[str, Value]:
        """Every option of the optimizer of this name: those in `given` checked, the others at their defaults."""
        return complete_options(name, self.defaults, given, parse_number)


@dataclass(frozen=True)
class Plugin:
    """An optimizer of an installed package, "name==version"; `lr` is its default learning rate."""

    name: str
    package: str
    declaration: Declaration
    lr: float


def is_name(text: str) -> bool:
    """Whether an optimizer of a package may have this name."""
    return _NAME.fullmatch(text) is not None


@cache
def find(name: str) -> Plugin | None:
    """The optimizer of that name among those of installed packages; None where none has it. Raises SpecError."""
    if name not in installed():
        return None
    found = plugins.declared(name)
    return None if found is None else checked(found)


@cache
def installed() -> dict[str, list[str]]:
    """The packages that declare each optimizer, by its name, when this process asked first: looking takes 10 ms."""
    return plugins.owners()


def check_names(optimizers: Iterable[str], formulas: Iterable[str]) -> None:
    """Raise SpecError for a name that an installed package has too: which of them would it be?"""
    for kind, names in (("torch's optimizer", OPTIMIZERS.keys() & set(optimizers)), ("the formula", formulas)):
        for name in names:
            if packages := installed().get(name):
                remedy = "give the formula another name" if kind == "the formula" else f"uninstall {packages[0]}"
                raise SpecError(f"{name} is {kind}, and {' and '.join(packages)} has one of that name: {remedy}")


def checked(found: plugins.Declared) -> Plugin:
    """What a package declares, as a plug-in; raises SpecError with one line."""
    what = f"{found.package} declares {found.name}"
    if not is_name(found.name):
        raise SpecError(f"{what}: a name begins with a letter and has up to 40 letters, digits, - and _")
    if not re.fullmatch(PACKAGE, found.package):
        raise SpecError(f"{what}, and has a version that a spec can't name")
    try:
        declaration = Declaration(class_path=found.class_path, defaults=dict(found.options))  # type: ignore[arg-type]
        lr = parse_lr(found.lr)
        declaration.complete(found.name, {})
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        if len(first["loc"]) > 1:
            option = str(first["loc"][1])[:60]
            message = f"the default of {option} must be a number, True, False, or a tuple of numbers"
        elif first["loc"][0] == "class_path":
            message = f"class must be 'package.module:Class', not '{found.class_path[:60]}'"
        else:
            message = str(first["msg"]).removeprefix("Value error, ")
        raise SpecError(f"{what} with an invalid declaration: {message}") from None
    except ValueError as error:
        raise SpecError(f"{what} with an invalid declaration: {error}") from None
    return Plugin(found.name, found.package, declaration, lr)
