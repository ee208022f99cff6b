"""The typed rows of own data sets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Annotated, Any

from pydantic import Field

from mlpq.spec.data_content import MAX_NAME, DataContent
from mlpq.spec.datasets import Dataset


@dataclass(frozen=True, slots=True)
class DataSetRecord:
    """A registered content of an own data set. `size` is that of its file in bytes.

    `about` is what is known without the file: where the data are from, what was done to them, and the names of classes.
    """

    id: int
    name: Annotated[str, Field(min_length=1, max_length=MAX_NAME)]
    content: DataContent
    size: Annotated[int, Field(ge=1)]
    about: Mapping[str, Any]
    registered_at: datetime

    @property
    def reference(self) -> str:
        """ "wine@1a2b3c4d": this content, whichever is the newest of its name."""
        return self.content.reference(self.name)

    @property
    def dataset(self) -> Dataset:
        """The data set with the names of its classes, as far as they are known."""
        names = self.about.get("classes")
        is_complete = isinstance(names, list) and len(names) == self.content.classes
        class_names = tuple(map(str, names)) if is_complete and names else ()
        return replace(self.content.dataset(self.name), class_names=class_names)


@dataclass(frozen=True, slots=True)
class UnreadableDataSet:
    """A registered data set whose row holds a value that no program of mlpq writes."""

    id: int
    name: str
    reason: str
