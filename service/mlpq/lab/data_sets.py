"""Data sets, as `mlpq data` lists and adds them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Unpack

from mlpq import data_registry
from mlpq.data_records import DataSetRecord
from mlpq.errors import SpecError, nearest
from mlpq.lab.frames import frame
from mlpq.lab.keys import DataOptions
from mlpq.report.data_table import documents
from mlpq.settings import Settings

if TYPE_CHECKING:
    from os import PathLike

    import pandas as pd

COLUMNS = ("name", "built_in", "train", "test", "features", "classes", "sha256", "files")


@dataclass(frozen=True)
class DataSet:
    """An own data set: `submit(dataset=name)` trains on it, and `reference` names this content for good.

    `about` says where it is from and what was done to it, and `notes` what to know of how it was read.
    """

    name: str
    reference: str
    train: int
    test: int
    features: int
    classes: int
    sha256: str
    about: Mapping[str, Any] = field(repr=False)
    notes: tuple[str, ...]


def data_set_of(found: DataSetRecord, notes: Iterable[str] = ()) -> DataSet:
    """The data set of a registered content."""
    content = found.content
    sizes = (content.train, content.test, content.features, content.classes)
    return DataSet(found.name, found.reference, *sizes, content.sha256, found.about, tuple(notes))


def listed(config: Settings) -> pd.DataFrame:
    """One row for each data set."""
    empty = dict.fromkeys(COLUMNS)
    return frame([{**empty, **each} for each in documents(*data_registry.registered(config), config.data_dir)], COLUMNS)


def add(config: Settings, name: str, source: str | PathLike[str], **options: Unpack[DataOptions]) -> DataSet:
    """Read a source and store it; raises SpecError and DataError."""
    from mlpq.own_data.adding import MISSING, Treatment
    from mlpq.own_data.image_folders import ImageOptions
    from mlpq.own_data.scaling import SCALES
    from mlpq.own_data.sources import ReadOptions
    from mlpq.own_data.tables import TableOptions

    for option, value, known in (("missing", options.get("missing"), MISSING), ("scale", options.get("scale"), SCALES)):
        if value is not None and value not in known:
            raise SpecError(f"unknown {option} '{value}'{nearest(str(value), known)}")
    test, size = options.get("test"), options.get("size")
    reading = ReadOptions(
        TableOptions(
            options.get("target"), _texts(options.get("text", ())), _texts(options.get("ignore", ())),
            header=options.get("header", True),
        ),
        ImageOptions(size and (int(size[0]), int(size[1])), options.get("gray", False)),
    )  # fmt: skip
    treatment = Treatment(
        None if test is None else str(test), options.get("split_seed"), options.get("missing"), options.get("scale")
    )
    added = data_registry.add(config, name, str(source), reading, treatment)
    return data_set_of(added.record, added.notes)


def _texts(value: str | Iterable[str]) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else tuple(map(str, value))
