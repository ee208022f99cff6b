"""Makes own data sets as `mlpq data add` does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mlpq.own_data.adding import Added, Treatment, build
from mlpq.own_data.content import Content
from mlpq.own_data.image_folders import ImageOptions
from mlpq.own_data.sources import ReadOptions
from mlpq.own_data.tables import TableOptions


def added(
    source: object, *, table: TableOptions | None = None, images: ImageOptions | None = None, **how: Any
) -> Added:
    reading = ReadOptions(table or TableOptions(None), images or ImageOptions())
    return build(str(source), reading, Treatment(**how), Path("/nonexistent"))


def kind(**options: Any) -> TableOptions:
    return TableOptions("kind", **options)


def raw(source: object, **options: Any) -> Content:
    """The content of a source with test rows, not scaled."""
    return added(source, scale="none", **options).content
