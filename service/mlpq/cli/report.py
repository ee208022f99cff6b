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

    The page has the verdict, tables, charts, settings and environments, and the commands that verify it. It needs no
    network.
    """
    from mlpq.cli.output import output_file, write
    from mlpq.experiment import compare_experiment
    from mlpq.report.html_report import report
    from mlpq.settings import settings
    from mlpq.store import queries
    from mlpq.store.migrate import ready_store

    file = output_file(output)
    store = ready_store(settings())
    compared = compare_experiment(store, experiment, params, with_curves=True)
    page = report(compared, queries.environments_of(store, experiment), params).encode()
    write(file, page)
    click.echo(f"{file}: {len(page) / 1000:.0f} kB")
