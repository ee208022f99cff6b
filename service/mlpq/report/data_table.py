"""What `mlpq data list` and `mlpq data show` print."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from mlpq.data_records import DataSetRecord, UnreadableDataSet
from mlpq.errors import DataError
from mlpq.own_data import files
from mlpq.report.tables import plain_table
from mlpq.spec.data_content import SHORT_HASH
from mlpq.spec.datasets import DATASETS, Dataset, find, how_to_get, verify
from mlpq.text import printable

MOST_SHOWN = 300  # characters of a value in the text of `mlpq data show`

Own = DataSetRecord | UnreadableDataSet


def data_table(own: Sequence[Own], pushed: Collection[str], data_dir: Path) -> Table:
    """One line per data set and, of own ones, per content: its size, and where its files are or how to get them."""
    table = plain_table("data set", ">train", ">test", ">features", ">classes", "content", "files")
    for dataset in DATASETS.values():
        sizes = (dataset.train, dataset.test, dataset.features, dataset.classes)
        table.add_row(dataset.name, *map(str, sizes), "", _files(dataset, data_dir))
    for each in own:
        if isinstance(each, UnreadableDataSet):
            table.add_row(printable(each.name), *[""] * 5, Text(f"unreadable: {each.reason}", style="red"))
            continue
        content = each.content
        sizes = (content.train, content.test, content.features, content.classes)
        row = [each.name, *map(str, sizes), content.sha256[:SHORT_HASH]]
        table.add_row(*row, _own_file(each, pushed, data_dir))
    return table


def documents(own: Sequence[Own], pushed: Collection[str], data_dir: Path) -> list[dict[str, Any]]:
    """All data sets as JSON."""
    built_in = [_document(each, data_dir) for each in DATASETS.values()]
    return built_in + [own_document(each, pushed, data_dir) for each in own]


def _document(dataset: Dataset, data_dir: Path) -> dict[str, Any]:
    """A built-in data set as JSON."""
    return {
        "name": dataset.name, "built_in": True, "train": dataset.train, "test": dataset.test,
        "features": dataset.features, "classes": dataset.classes, "files": _files(dataset, data_dir).plain,
    }  # fmt: skip


def own_document(found: Own, pushed: Collection[str], data_dir: Path) -> dict[str, Any]:
    """A content of an own data set as JSON."""
    if isinstance(found, UnreadableDataSet):
        return {"name": found.name, "built_in": False, "unreadable": found.reason}
    return {
        "name": found.name,
        "built_in": False,
        **found.content.model_dump(),
        "bytes": found.size,
        "registered_at": found.registered_at,
        "files": _own_file(found, pushed, data_dir).plain,
        "pushed": found.content.sha256 in pushed,
        "about": dict(found.about),
    }


def print_data_set(out: Console, described: Mapping[str, Any]) -> None:
    """Print a content of an own data set, a line for each of its facts; long ones are cut."""
    own = {name: value for name, value in described.items() if name not in ("about", "built_in")}
    lines = {**own, **{f"about.{name}": value for name, value in described["about"].items()}}
    width = max(map(len, lines))
    for name, value in lines.items():
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
        shown = text if len(text) <= MOST_SHOWN else f"{text[:MOST_SHOWN]}… (--format json has all)"
        out.print(printable(f"{name:{width}}  {shown}"), markup=False, highlight=False, soft_wrap=True)


def _files(dataset: Dataset, data_dir: Path) -> Text:
    if dataset.bundled:
        return Text("bundled with mlpq", style="green")
    folder = find(dataset, data_dir)
    if folder is None:
        return Text(f"not here: {how_to_get(dataset)}", style="dim")
    try:
        verify(dataset, folder)
    except DataError as error:
        return Text(str(error), style="red")
    return Text(str(folder), style="green")


def _own_file(found: DataSetRecord, pushed: Collection[str], data_dir: Path) -> Text:
    sha256 = found.content.sha256
    try:
        path = files.verify(sha256, data_dir)
    except DataError as error:
        return Text(str(error), style="red")
    if path is not None:
        return Text(f"{path}, and pushed" if sha256 in pushed else str(path), style="green")
    return Text(f"not here: mlpq data pull {found.reference}" if sha256 in pushed else "not here", style="dim")
