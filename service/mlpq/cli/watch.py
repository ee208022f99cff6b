"""`mlpq watch`."""

from __future__ import annotations

import click


@click.command("watch")
@click.argument("experiment", required=False)
def command(experiment: str | None) -> None:
    """Show the progress of unfinished jobs.

    Those of EXPERIMENT, or all, until they are finished. Ctrl-C stops the view only.
    """
    from mlpq.cli.waiting import follow
    from mlpq.jobs import Status
    from mlpq.report import tables
    from mlpq.settings import settings
    from mlpq.store import queries
    from mlpq.store.migrate import ready_store

    store = ready_store(settings())
    queries.check_experiment(store, experiment)
    unfinished = [status for status in Status if not status.is_finished]
    ids = [job.id for job in queries.listed_jobs(store, experiment, unfinished)]
    if not ids:
        click.echo("nothing to watch: every job is finished")
        return
    follow(store, ids)
    finished = queries.listed_by_id(store, ids)
    tables.print_results(finished, queries.ancestors(store, finished))
