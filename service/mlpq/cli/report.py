"""`mlpq report`."""

from __future__ import annotations

import click


@click.command("report")
@click.argument("experiment")
@click.option("-o", "--output", metavar="FILE", required=True, help="The page to write, as report.html.")
@click.option("--by", metavar="FIELDS", help="Which arms are sides, as for mlpq compare.")
@click.option("--metric", metavar="NAME", default="accuracy", show_default=True, help="As for mlpq compare.")
@click.option("--target", metavar="PERCENT", type=float, help="As for mlpq compare.")
@click.option("--against", metavar="ARM", help="As for mlpq compare.")
def command(
    experiment: str, output: str, by: str | None, metric: str, target: float | None, against: str | None
) -> None:
    """Write a comparison as one HTML page.

    The verdict, tables, charts, settings, environments, and how to verify it. The page needs no network.
    """
    from mlpq.analysis import metrics
    from mlpq.analysis.grouping import parse_by
    from mlpq.cli.output import output_file, write
    from mlpq.experiment import load
    from mlpq.report.html_report import report
    from mlpq.settings import settings
    from mlpq.store import queries
    from mlpq.store.migrate import ready_store

    fields, chosen, file = parse_by(by), metrics.metric(metric, target), output_file(output)
    store = ready_store(settings())
    compared = load(store, experiment, chosen, fields, against, with_curves=True)
    given = {"by": by, "metric": None if metric == "accuracy" else metric, "target": target, "against": against}
    page = report(compared, queries.environments_of(store, experiment), given).encode()
    write(file, page)
    click.echo(f"{file}: {len(page) / 1000:.0f} kB")
