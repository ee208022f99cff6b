"""`mlpq logs`."""

from __future__ import annotations

import click


@click.command("logs")
@click.argument("job")
def command(job: str) -> None:
    """Show the last log lines of each attempt of JOB."""
    from mlpq.settings import settings
    from mlpq.store import queries
    from mlpq.store.migrate import ready_store

    store = ready_store(settings())
    found = queries.find_job(store, job)
    attempts = queries.attempts_of(store, found)
    if not attempts:
        click.echo(f"job {found} has not started yet")
    for attempt in attempts:
        click.echo(f"attempt {attempt.attempt} by {attempt.worker}: {attempt.outcome or 'running'}")
        click.echo(attempt.log_tail or "(empty)")
        if attempt.error:
            click.echo(f"error: {attempt.error}")
