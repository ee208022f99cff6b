"""`mlpq data list`, and what else concerns own data sets."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from mlpq.cli.output import format_option

if TYPE_CHECKING:
    from mlpq.data_records import DataSetRecord
    from mlpq.store.session import Store


@click.command("list")
@format_option("table", "json")
def list_(format_: str) -> None:
    """List the data sets and where their files are; verifies every checksum."""
    from mlpq import data_registry
    from mlpq.report import data_table, tables
    from mlpq.settings import settings

    config = settings()
    own, pushed = data_registry.registered(config)
    if format_ == "json":
        click.echo(tables.to_json(data_table.documents(own, pushed, config.data_dir)))
        return
    tables.console().print(data_table.data_table(own, pushed, config.data_dir))


@click.command()
@click.argument("name")
@format_option("text", "json")
def show(name: str, format_: str) -> None:
    """Show what is known of the own data set NAME, or of its older content NAME@HASH."""
    from mlpq.report import data_table, tables
    from mlpq.settings import settings
    from mlpq.store import data_sets

    store, found = _found(name)
    pushed = data_sets.pushed(store, [found.content.sha256])
    document = data_table.own_document(found, pushed, settings().data_dir)
    if format_ == "json":
        click.echo(tables.to_json(document))
        return
    data_table.print_data_set(tables.console(), document)


@click.command()
@click.argument("name")
def remove(name: str) -> None:
    """Forget the own data set NAME, or its content NAME@HASH, and delete its file here and in the database.

    Refused while queued, blocked or running jobs need it. Finished jobs and their results stay.
    """
    from mlpq.errors import NotFoundError
    from mlpq.own_data import files
    from mlpq.settings import settings
    from mlpq.store import data_sets

    store, found = _found(name)
    others = data_sets.contents_of(store, found.name)
    if "@" not in name and len(others) > 1:
        known = ", ".join(each.reference for each in others)
        raise NotFoundError(f"{found.name} has {len(others)} contents: name one of {known}")
    if not data_sets.remove(store, found):
        click.echo(f"{found.reference} removed; its file stays, since another name has the same content")
        return
    deleted = files.remove(found.content.sha256, settings().data_dir)
    click.echo(f"{found.reference} removed" + (", and its file deleted" if deleted else "; its file was not here"))


@click.command()
@click.argument("name")
def push(name: str) -> None:
    """Send the file of the own data set NAME, or NAME@HASH, through the database to workers that pull it."""
    from mlpq import data_registry
    from mlpq.settings import settings

    store, found = _found(name)
    is_new = data_registry.push(store, found, settings().data_dir)
    state = "pushed" if is_new else "was pushed before"
    click.echo(f"{found.reference} {state}: workers pull it when a job needs it")


@click.command()
@click.argument("name")
def pull(name: str) -> None:
    """Get the file of the own data set NAME, or NAME@HASH, that was pushed."""
    from mlpq import data_registry
    from mlpq.own_data.files import path_of
    from mlpq.settings import settings, writable_data_dir

    store, found = _found(name)
    folder = writable_data_dir(settings())
    state = "pulled into" if data_registry.pull(store, found.content.sha256, folder) else "is here:"
    click.echo(f"{found.reference} {state} {path_of(found.content.sha256, folder)}")


def _found(name: str) -> tuple[Store, DataSetRecord]:
    """The store, and the own data set that was typed; raises MlpqError."""
    from mlpq import data_registry
    from mlpq.settings import settings

    return data_registry.named(settings(), name)
