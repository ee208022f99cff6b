"""`mlpq data`."""

from __future__ import annotations

from pathlib import Path

import click


@click.group("data")
def command() -> None:
    """List, fetch and import data sets."""


@command.command("list")
def list_() -> None:
    """List the data sets and where their files are; verifies every checksum."""
    from mlpq.report import data_table, tables
    from mlpq.settings import settings
    from mlpq.spec.datasets import DATASETS

    tables.console().print(data_table.data_table(DATASETS.values(), settings().data_dir))


@command.command()
@click.argument("name")
def fetch(name: str) -> None:
    """Locate the files of NAME on this machine, else download them; verifies their checksums."""
    import importlib.util
    import subprocess

    from mlpq.errors import MlpqError
    from mlpq.settings import python_module
    from mlpq.spec.datasets import dataset_named, find, verify

    dataset, data_dir = dataset_named(name), _data_dir()
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
    from mlpq.spec.datasets import dataset_named, import_files

    dataset = dataset_named(name)
    if dataset.bundled:
        raise DataError(f"{dataset.name} comes with mlpq: there is nothing to import")
    if not folder.is_dir():
        raise DataError(f"{folder} is not a folder")
    target = import_files(dataset, folder, _data_dir())
    click.echo(f"{dataset.name}: imported into {target}, checksums verified")


def _data_dir() -> Path:
    """The data folder. Its parent is the home by default, which must be private whoever creates it first."""
    from mlpq.errors import DataError, reason_of
    from mlpq.regular_files import make_private_folder
    from mlpq.settings import settings

    config = settings()
    if config.data_dir.is_relative_to(config.home):
        try:
            make_private_folder(config.home)
        except OSError as error:
            raise DataError(
                f"can't create the folder {config.home}: {reason_of(error)}; set MLPQ_HOME to one that you own"
            ) from error
    return config.data_dir
