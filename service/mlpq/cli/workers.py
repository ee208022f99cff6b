"""`mlpq workers`."""

from __future__ import annotations

import click


@click.command("workers")
@click.option("--format", "format_", type=click.Choice(["table", "json"]), default="table", show_default=True)
def command(format_: str) -> None:
    """List the workers that are alive.

    What each has to run jobs on, what it does, and when it was last heard of.
    """
    from mlpq import formatting
    from mlpq.report import tables
    from mlpq.settings import settings
    from mlpq.store import queries
    from mlpq.store.migrate import ready_store

    store = ready_store(settings())
    rows = queries.live_workers(store)
    if format_ == "json":
        click.echo(tables.to_json([tables.worker_facts(row) for row in rows]))
        return
    if rows:
        tables.console().print(tables.workers_table(rows))
    click.echo(
        f"{formatting.count_of(len(rows), 'worker')} alive" if rows else "no worker is alive: mlpq worker starts one"
    )
    for row in queries.stranded(store):
        click.echo(f"{formatting.count_of(row['jobs'], 'job')} {formatting.waiting_for(row)}")
