"""The table of `mlpq data list`."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from rich.table import Table
from rich.text import Text

from mlpq.errors import DataError
from mlpq.report.tables import plain_table
from mlpq.spec.datasets import Dataset, find, how_to_get, verify


def data_table(datasets: Iterable[Dataset], data_dir: Path) -> Table:
    """One line per data set: its size, and where its files are or how to get them."""
    table = plain_table("data set", ">train", ">test", ">features", ">classes", "files")
    for dataset in datasets:
        sizes = (dataset.train, dataset.test, dataset.features, dataset.classes)
        table.add_row(dataset.name, *map(str, sizes), _files(dataset, data_dir))
    return table


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
