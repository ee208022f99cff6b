"""`mlpq watch`."""

from __future__ import annotations

import click


@click.command("watch")
@click.argument("experiment", required=False)
def command(experiment: str | None) -> None:
    """Show the progress of unfinished jobs.

    Those of EXPERIMENT, or all, until they are done. Ctrl-C only stops the view.
    """
    from mlpq.cli.waiting import asked_for, what_is_missing
    from mlpq.jobs import Status
    from mlpq.report import tables
    from mlpq.report.progress import follow
    from mlpq.settings import settings
    from mlpq.store import queries
    from mlpq.store.migrate import ready_store

    store = ready_store(settings())
    queries.check_experiment(store, experiment)
    unfinished = [status for status in Status if not status.is_finished]
    rows = queries.job_rows(store, experiment, unfinished)
    if not rows:
        click.echo("nothing to watch: every job is finished")
        return
    ids = [row["id"] for row in rows]
    asked = asked_for(rows)
    follow(store, ids, tables.console(stderr=True), lambda: what_is_missing(store, asked))
    finished = queries.jobs_by_id(store, ids)
    tables.print_results(finished, queries.ancestors(store, finished))
