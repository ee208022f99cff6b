"""`mlpq data add`."""

from __future__ import annotations

import re
from typing import Any

import click

SIZE = re.compile(r"([0-9]{1,5})x([0-9]{1,5})")


def _size(ctx: click.Context, parameter: click.Parameter, value: str | None) -> tuple[int, int] | None:
    if value is None:
        return None
    found = SIZE.fullmatch(value.lower())
    if found is None or not all(int(each) for each in found.groups()):
        raise click.BadParameter(f"'{value}' is not WIDTHxHEIGHT, as 28x28.", ctx, parameter)
    return int(found[1]), int(found[2])


@click.command("add")
@click.argument("name")
@click.argument("source")
@click.option("--target", metavar="COLUMN", help="Column with the classes, of a CSV or Parquet file.")
@click.option("--text", metavar="COLUMN", multiple=True, help="Column whose numbers are names; repeatable.")
@click.option("--ignore", metavar="COLUMN", multiple=True, help="Column to leave out; repeatable.")
@click.option("--no-header", is_flag=True, help="A CSV file without a line of names; the columns are 1, 2, …")
@click.option("--missing", type=click.Choice(["mean", "drop"]), help="Fill missing values, or leave out their rows.")
@click.option("--test", metavar="FILE", help="File with the test rows, or a fraction of each class, as 0.2.")
@click.option(
    "--split-seed", metavar="N", type=click.IntRange(0, 2**32 - 1), help="Seed of that fraction; 0 by default."
)
@click.option("--scale", type=click.Choice(["unit", "standardize", "none"]), help="How features are scaled.")
@click.option("--size", metavar="WIDTHxHEIGHT", callback=_size, help="Resize the images of a folder.")
@click.option("--gray", is_flag=True, help="Convert the images of a folder to gray.")
def add(name: str, source: str, **options: Any) -> None:
    """Read SOURCE, and store it as the data set NAME.

    SOURCE is a CSV, Parquet or NPZ file, a folder with idx files or with a folder of images for each class, or a data
    set of a library, as torchvision:CIFAR10 or sklearn:wine.
    """
    from mlpq import data_registry
    from mlpq.own_data.adding import Treatment
    from mlpq.own_data.image_folders import ImageOptions
    from mlpq.own_data.sources import ReadOptions
    from mlpq.own_data.tables import TableOptions
    from mlpq.settings import settings
    from mlpq.text import printable

    reading = ReadOptions(
        TableOptions(options["target"], options["text"], options["ignore"], header=not options["no_header"]),
        ImageOptions(options["size"], options["gray"]),
    )
    treatment = Treatment(options["test"], options["split_seed"], options["missing"], options["scale"])
    added = data_registry.add(settings(), name, source, reading, treatment)
    made = added.record.content
    click.echo(
        f"{added.record.name}: {made.train:,} training and {made.test:,} test rows, {made.features:,} features, "
        f"{made.classes:,} classes"
    )
    for note in added.notes:
        click.echo(printable(note))
    click.echo(f"SHA-256 {made.sha256}\nstored in {added.path}")
    state = "registered" if added.is_new else "registered before"
    click.echo(f"{state} as {added.record.reference}: mlpq submit --dataset {added.record.name}")
