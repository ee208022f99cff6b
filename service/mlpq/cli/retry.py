"""`mlpq retry`."""

from __future__ import annotations

import click


@click.command("retry")
@click.argument("name", required=False, metavar="[JOB|EXPERIMENT]")
@click.option("--failed", is_flag=True, help="Retry every failed job, of EXPERIMENT or of all.")
def command(name: str | None, failed: bool) -> None:
    """Run failed or cancelled jobs again.

    JOB and the jobs that were to continue from it, or with --failed all failed jobs.

    A finished job never changes: a retry submits it again, under a new id.
    """
    from mlpq.cli.output import warn
    from mlpq.settings import settings
    from mlpq.store import queries
    from mlpq.store.migrate import ready_store
    from mlpq.submit import retry

    if not failed and name is None:
        raise click.UsageError("Missing argument: mlpq retry JOB, or mlpq retry --failed [EXPERIMENT].")
    config = settings()
    store = ready_store(config)
    if failed:
        queries.check_experiment(store, name)
        ids = queries.retryable(store, name)
        if not ids:
            click.echo("nothing to retry; jobs that diverged would diverge again: mlpq retry JOB retries them anyway")
            return
    else:
        ids = queries.with_descendants(store, queries.find_job(store, str(name)))
    submitted, warning = retry(config, store, ids)
    warn(warning)
    for job in submitted:
        click.echo(f"job {job.id}" + ("" if job.is_new else " (already submitted)"))
