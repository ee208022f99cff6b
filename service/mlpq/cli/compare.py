"""`mlpq compare`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from mlpq.cli.comparison_options import comparison_options
from mlpq.cli.output import format_option

if TYPE_CHECKING:
    from mlpq.analysis.params import ComparisonParams


@click.command("compare")
@click.argument("experiment")
@comparison_options
@click.option("--plot", metavar="FILE", help="Also draw the charts, into a .png, .svg or .html file.")
@format_option("table", "json", "md")
def command(experiment: str, params: ComparisonParams, plot: str | None, format_: str) -> None:
    """Compare the arms of an experiment, paired by seed.

    Per arm: n, mean, standard deviation, 95 % interval. Per pair of arms: the mean difference over common seeds with
    intervals, a permutation test, and a verdict. Warnings about an unfair comparison come first.

    \b
    mlpq compare sweep --by optimizer
    mlpq compare sweep --by optimizer --metric epochs --target 85 --plot sweep.png
    """
    from mlpq.cli.output import output_file, write
    from mlpq.errors import NotFoundError
    from mlpq.experiment import compare_experiment
    from mlpq.report import comparison_tables, tables
    from mlpq.settings import settings
    from mlpq.store.migrate import ready_store

    file = output_file(plot, (".png", ".svg", ".html")) if plot is not None else None
    compared = compare_experiment(ready_store(settings()), experiment, params, with_curves=file is not None)
    if file is not None:
        from mlpq.report.charts import charts
        from mlpq.report.drawing import picture

        drawn = charts(compared)
        if not drawn:
            raise NotFoundError(f"there is nothing to draw yet: no job of {experiment} has succeeded")
        write(file, picture(drawn, file.suffix, f"{experiment}, compared"))
        click.echo(f"charts in {file}", err=True)
    if format_ == "json":
        click.echo(tables.to_json(comparison_tables.to_document(compared.comparison, compared.tuned)))
    elif format_ == "md":
        click.echo(comparison_tables.comparison_markdown(compared.comparison, compared.tuned))
    else:
        comparison_tables.print_comparison(tables.console(), compared.comparison, compared.tuned)
