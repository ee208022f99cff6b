"""`mlpq report`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from mlpq.cli.comparison_options import comparison_options

if TYPE_CHECKING:
    from mlpq.analysis.params import ComparisonParams


@click.command("report")
@click.argument("experiment")
@click.option("-o", "--output", metavar="FILE", required=True, help="The page to write, as report.html.")
@comparison_options
def command(experiment: str, output: str, params: ComparisonParams) -> None:
    """Write a comparison as one HTML page.

    The page has the verdict, tables, charts, errors, settings and environments, and the commands that verify it. It
    needs no network.
    """
    from mlpq.cli.output import output_file, write
    from mlpq.experiment import compare_experiment
    from mlpq.lab.exports import report_page
    from mlpq.settings import settings
    from mlpq.store.migrate import ready_store

    file = output_file(output)
    config = settings()
    store = ready_store(config)
    compared = compare_experiment(store, experiment, params, with_curves=True)
    page = report_page(config, store, compared, params)
    write(file, page)
    click.echo(f"{file}: {len(page) / 1000:.0f} kB")
