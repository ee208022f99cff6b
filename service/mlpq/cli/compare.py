"""`mlpq compare`."""

from __future__ import annotations

import click


@click.command("compare")
@click.argument("experiment")
@click.option(
    "--by", metavar="FIELDS", help="Which arms are sides: optimizer, or lr, or optimizer,lr [default: each arm]."
)
@click.option(
    "--metric", metavar="NAME", default="accuracy", show_default=True,
    help="accuracy (final, test), validation (best), loss, or epochs or seconds to reach a --target.",
)  # fmt: skip
@click.option("--target", metavar="PERCENT", type=float, help="The accuracy for --metric epochs or seconds, as 85.")
@click.option("--against", metavar="ARM", help="Compare each arm with this one only, not with each other.")
@click.option("--plot", metavar="FILE", help="Draw the charts too, into a .png, .svg or .html file.")
@click.option("--format", "format_", type=click.Choice(["table", "json", "md"]), default="table", show_default=True)
def command(
    experiment: str,
    by: str | None,
    metric: str,
    target: float | None,
    against: str | None,
    plot: str | None,
    format_: str,
) -> None:
    """Compare the arms of an experiment, paired by seed.

    Per arm: n, mean, standard deviation, 95 % interval. Per pair of arms: the mean difference over common seeds with
    intervals, a permutation test, and a verdict in words. What makes the comparison unfair is said first.

    \b
    mlpq compare sweep --by optimizer
    mlpq compare sweep --by optimizer --metric epochs --target 85 --plot sweep.png
    """
    from mlpq.analysis import metrics
    from mlpq.analysis.grouping import parse_by
    from mlpq.cli.output import output_file, write
    from mlpq.errors import NotFoundError
    from mlpq.experiment import load
    from mlpq.report import comparison_tables, tables
    from mlpq.settings import settings
    from mlpq.store.migrate import ready_store

    fields, chosen = parse_by(by), metrics.metric(metric, target)
    file = output_file(plot, (".png", ".svg", ".html")) if plot is not None else None
    compared = load(ready_store(settings()), experiment, chosen, fields, against, with_curves=file is not None)
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
