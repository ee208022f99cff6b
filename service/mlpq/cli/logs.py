"""`mlpq logs`."""

from __future__ import annotations

import click


@click.command("logs")
@click.argument("job")
def command(job: str) -> None:
    """Show the last log lines of each attempt of JOB."""
    from mlpq.report.job_details import logs_text
    from mlpq.settings import settings
    from mlpq.store import queries
    from mlpq.store.migrate import ready_store

    store = ready_store(settings())
    found = queries.find_job(store, job)
    click.echo(logs_text(found, queries.attempts_of(store, found)))
