"""`mlpq workers`."""

from __future__ import annotations

import click

from mlpq.cli.output import format_option


@click.command("workers")
@format_option("table", "json")
def command(format_: str) -> None:
    """List the live workers.

    The device of each, its running and finished jobs, and its last heartbeat.
    """
    from mlpq import formatting
    from mlpq.report import tables
    from mlpq.settings import settings
    from mlpq.store import worker_queries
    from mlpq.store.migrate import ready_store

    store = ready_store(settings())
    alive = worker_queries.live_workers(store)
    if format_ == "json":
        click.echo(tables.to_json([tables.worker_document(worker) for worker in alive]))
        return
    if alive:
        tables.console().print(tables.workers_table(alive))
        click.echo(f"{formatting.count_of(len(alive), 'worker')} alive")
    else:
        click.echo("no worker is alive: mlpq worker starts one")
    for each in worker_queries.jobs_without_worker(store):
        click.echo(formatting.jobs_without_worker(each))
