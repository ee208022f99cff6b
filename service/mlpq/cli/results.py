"""`mlpq results`."""

from __future__ import annotations

import click


@click.command("results")
@click.argument("experiment", required=False)
@click.option(
    "--format", "format_", type=click.Choice(["table", "json", "csv", "md"]), default="table", show_default=True
)
def command(experiment: str | None, format_: str) -> None:
    """Show the figures of an experiment, or of all.

    Each job, and for each arm n and mean ± standard deviation over its seeds.
    """
    from mlpq.report import tables
    from mlpq.settings import settings
    from mlpq.store import queries
    from mlpq.store.migrate import ready_store

    store = ready_store(settings())
    queries.check_experiment(store, experiment)
    rows = queries.job_rows(store, experiment)
    if format_ == "json":
        click.echo(tables.to_json(rows))
    elif format_ == "csv":
        click.echo(tables.to_csv(rows, queries.COLUMNS))
    elif not rows and format_ == "table":
        click.echo("no job yet: mlpq submit --preset textbook --wait runs the first ones")
    for name in dict.fromkeys(row["experiment"] for row in rows):
        own = [row for row in rows if row["experiment"] == name]
        ancestors = queries.ancestors(store, own)
        if format_ == "md":
            click.echo(tables.results_markdown(own, ancestors, heading=None if experiment else name))
        elif format_ == "table":
            if experiment is None:
                click.echo(f"experiment {name}")
            tables.print_results(own, ancestors)
            click.echo()
