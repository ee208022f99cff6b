"""Own data sets as specs name them: a name and the content that it had when the job was submitted."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from mlpq.errors import SpecError, suggestion
from mlpq.spec.datasets import DATASETS, Dataset

MAX_FEATURES = 100_000
MAX_CLASSES = 1_000
MAX_ROWS = 1_000_000
MAX_NAME = 64  # characters
SHORT_HASH = 8  # digits of a hash that are shown, and the fewest that are typed

Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
Rows = Annotated[int, Field(strict=True, ge=1, le=MAX_ROWS)]


class DataContent(BaseModel):
    """The content of an own data set: the SHA-256 of its arrays and of what was done to them, and their sizes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    sha256: Sha256
    features: Annotated[int, Field(strict=True, ge=1, le=MAX_FEATURES)]
    classes: Annotated[int, Field(strict=True, ge=2, le=MAX_CLASSES)]
    train: Rows
    test: Rows

    def reference(self, name: str) -> str:
        """ "wine@1a2b3c4d": this content of the name, whichever is its newest."""
        return f"{name}@{self.sha256[:SHORT_HASH]}"

    def dataset(self, name: str) -> Dataset:
        """The data set of that name with this content."""
        return Dataset(name, self.features, self.classes, self.train, self.test, sha256=self.sha256)


def parse_own_name(value: object) -> str:
    """The name of an own data set, in lower case; raises ValueError, also for the name of a built-in one."""
    name = parse_name(value)
    if name in DATASETS:
        raise ValueError(f"'{name}' is a built-in data set: choose another name")
    return name


def parse_name(value: object) -> str:
    """The name of a data set, built-in or not, in lower case; raises ValueError."""
    name = str(value).strip().lower()
    if not re.fullmatch(rf"[a-z0-9][a-z0-9._-]{{0,{MAX_NAME - 1}}}", name):
        shown = name if len(name) <= MAX_NAME else f"{name[: MAX_NAME - 1]}…"
        raise ValueError(
            f"the name of a data set has 1 to {MAX_NAME} letters a-z, digits, '.', '_' and '-', and begins with a "
            f"letter or a digit, not '{shown}'"
        )
    return name


def parse_reference(value: object) -> str:
    """A data set as users type it: NAME, or NAME@HASH for an own one's content that is not the newest."""
    name, at, digits = str(value).strip().lower().partition("@")
    if at and not re.fullmatch(rf"[0-9a-f]{{{SHORT_HASH},64}}", digits):
        raise ValueError(f"'{value}' needs {SHORT_HASH} to 64 hexadecimal digits after '@', as mlpq data list shows")
    return f"{parse_own_name(name)}@{digits}" if at else parse_name(name)


def unknown_dataset(name: str, own: Iterable[str] = ()) -> str:
    """The message for a data set that is neither built in nor among `own`."""
    known = sorted({*DATASETS, *own})
    among = f" (choose from: {', '.join(known)}); mlpq data add makes a data set of your files"
    return f"unknown data set '{name}'{suggestion(name, known) or among}"


def referred(reference: str, contents: Mapping[str, DataContent]) -> dict[str, object]:
    """The fields `dataset` and `content` of a spec for a data set as it was typed; raises SpecError.

    `contents` are those of the own data sets, by the references that were typed.
    """
    name = reference.partition("@")[0]
    if name in DATASETS:
        return {"dataset": name}
    if reference not in contents:
        raise SpecError(unknown_dataset(name))
    return {"dataset": name, "content": contents[reference]}
