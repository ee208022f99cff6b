"""`mlpq data`."""

from __future__ import annotations

from pathlib import Path

import click

from mlpq.cli import own_data
from mlpq.cli.data_add import add


@click.group("data")
def command() -> None:
    """List, fetch, import and add data sets."""


for each in (add, own_data.list_, own_data.show, own_data.remove, own_data.push, own_data.pull):
    command.add_command(each)


@command.command()
@click.argument("name")
def fetch(name: str) -> None:
    """Locate the files of NAME on this machine, else download them; verifies their checksums."""
    import importlib.util
    import subprocess

    from mlpq.errors import MlpqError
    from mlpq.settings import python_module, settings, writable_data_dir
    from mlpq.spec.datasets import dataset_named, find, verify

    dataset, data_dir = dataset_named(name), writable_data_dir(settings())
    if dataset.bundled:
        click.echo(f"{dataset.name} comes with mlpq: there is nothing to fetch")
        return
    folder = find(dataset, data_dir)
    if folder is not None:
        verify(dataset, folder)
        click.echo(f"{dataset.name}: found in {folder}, checksums verified")
        return
    if importlib.util.find_spec("torchvision") is None:
        raise MlpqError(
            f"{name} is not on this machine, and downloading it needs torchvision: pip install 'mlpq[worker]', "
            f"or import its files: mlpq data import {name} DIR"
        )
    download = python_module("mlpq_workers.trainer.data", "fetch", dataset.name, "--data-dir", str(data_dir))
    raise SystemExit(subprocess.run(download).returncode)


@command.command("import")
@click.argument("name")
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
def import_(name: str, folder: Path) -> None:
    """Copy the files of NAME from DIR into mlpq's data folder, after verifying their checksums."""
    from mlpq.errors import DataError
    from mlpq.settings import settings, writable_data_dir
    from mlpq.spec.datasets import dataset_named, import_files

    dataset = dataset_named(name)
    if dataset.bundled:
        raise DataError(f"{dataset.name} comes with mlpq: there is nothing to import")
    if not folder.is_dir():
        raise DataError(f"{folder} is not a folder")
    target = import_files(dataset, folder, writable_data_dir(settings()))
    click.echo(f"{dataset.name}: imported into {target}, checksums verified")
