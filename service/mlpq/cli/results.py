"""`mlpq results`."""

from __future__ import annotations

import click

from mlpq.cli.output import NO_JOBS, format_option


@click.command("results")
@click.argument("experiment", required=False)
@format_option("table", "json", "csv", "md", "latex")
def command(experiment: str | None, format_: str) -> None:
    """Show the results of an experiment, or of all.

    The figures of each job, and for each arm n and mean ± standard deviation over its seeds.
    """
    from mlpq.report import tables
    from mlpq.report.markup import MARKUPS
    from mlpq.settings import settings
    from mlpq.store import queries
    from mlpq.store.migrate import ready_store

    store = ready_store(settings())
    queries.check_experiment(store, experiment)
    records = queries.listed_jobs(store, experiment)
    if format_ == "json":
        click.echo(tables.jobs_json(records))
    elif format_ == "csv":
        click.echo(tables.jobs_csv(records))
    elif not records and format_ == "table":
        click.echo(NO_JOBS)
    if format_ in ("json", "csv"):
        return
    for name in dict.fromkeys(job.experiment for job in records):
        own = [job for job in records if job.experiment == name]
        ancestors = queries.ancestors(store, own)
        if format_ in MARKUPS:
            click.echo(tables.results_markup(own, ancestors, None if experiment else name, MARKUPS[format_]))
        else:
            if experiment is None:
                click.echo(f"experiment {name}")
            tables.print_results(own, ancestors)
            click.echo()
