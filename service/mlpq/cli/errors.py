"""`mlpq errors`."""

from __future__ import annotations

import click

from mlpq.cli.output import format_option


@click.command("errors")
@click.argument("experiment")
@click.option(
    "--by", metavar="FIELDS", default="",
    help="Fields that distinguish the arms, as in mlpq compare [default: all in which they differ].",
)  # fmt: skip
@format_option("table", "json", "csv")
def command(experiment: str, by: str, format_: str) -> None:
    """Show which test images the arms of an experiment get wrong.

    Per arm: the accuracy of each class with its interval, the confusion matrix, the calibration, the churn between
    seeds, and the images that every seed gets wrong. CSV has these images only.

    \b
    mlpq errors sweep --by optimizer
    """
    from mlpq.analysis.params import ComparisonParams
    from mlpq.error_analysis import experiment_errors
    from mlpq.experiment import compare_experiment
    from mlpq.report import error_tables, tables
    from mlpq.settings import settings
    from mlpq.store.migrate import ready_store

    params = ComparisonParams(by=by)
    params.parsed_by()  # an invalid option is reported before the database is opened
    config = settings()
    store = ready_store(config)
    found = experiment_errors(config, store, compare_experiment(store, experiment, params).comparison)
    if format_ == "json":
        click.echo(tables.to_json(error_tables.errors_document(found)))
    elif format_ == "csv":
        click.echo(error_tables.errors_csv(found))
    else:
        error_tables.print_errors(tables.console(), found)
