"""`mlpq show`."""

from __future__ import annotations

import click


@click.command("show")
@click.argument("job")
@click.option("--format", "format_", type=click.Choice(["table", "json"]), default="table", show_default=True)
def command(job: str, format_: str) -> None:
    """Show all about one JOB.

    Its spec, result, learning curve, attempts, environment and verifications.
    """
    from mlpq.report import job_details, tables
    from mlpq.settings import settings
    from mlpq.store import queries
    from mlpq.store.migrate import ready_store

    store = ready_store(settings())
    found = queries.find_job(store, job)
    row = queries.jobs_by_id(store, [found])[0]
    curve, attempts = queries.curve(store, found), queries.attempts_of(store, found)
    verifications = queries.verifications_of(store, found)
    if format_ == "json":
        click.echo(tables.to_json({**row, "curve": curve, "attempts": attempts, "verifications": verifications}))
        return
    job_details.print_job(tables.console(), row, curve, attempts, verifications)
