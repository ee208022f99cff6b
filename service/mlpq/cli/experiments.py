"""`mlpq experiments`."""

from __future__ import annotations

import click

from mlpq.cli.output import NO_JOBS, format_option

SHOWN = 20


@click.command("experiments")
@click.option(
    "--limit", type=click.IntRange(min=1, max=1000), metavar="N", default=SHOWN, show_default=True,
    help="At most N experiments, the latest.",
)  # fmt: skip
@format_option("table", "json")
def command(limit: int, format_: str) -> None:
    """List experiments.

    For each its progress, its best arm, who submitted it first, and its age. The best arm is the one with the best mean
    validation accuracy, or test accuracy ("by test") where some arm has no validation split.
    """
    from mlpq.experiment_list import experiment_list
    from mlpq.report import tables
    from mlpq.report.experiment_tables import experiment_document, experiments_table
    from mlpq.settings import settings
    from mlpq.store.migrate import ready_store

    found = experiment_list(ready_store(settings()), limit)
    if format_ == "json":
        click.echo(tables.to_json([experiment_document(each) for each in found]))
    elif found:
        tables.console().print(experiments_table(found))
        if len(found) == limit:
            click.echo(f"the latest {limit} experiments; --limit shows more")
    else:
        click.echo(NO_JOBS)
