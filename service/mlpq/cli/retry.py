"""`mlpq retry`."""

from __future__ import annotations

import click


@click.command("retry")
@click.argument("name", required=False, metavar="[JOB|EXPERIMENT]")
@click.option("--failed", is_flag=True, help="Retry every failed job, of EXPERIMENT or of all.")
def command(name: str | None, failed: bool) -> None:
    """Run failed or cancelled jobs again.

    JOB with the jobs that were to go on from it, or with --failed all that failed.

    A finished job never changes: a retried one is filed anew, under a new id.
    """
    from mlpq.settings import settings
    from mlpq.store import queries
    from mlpq.store.migrate import ready_store
    from mlpq.submit import retry

    if not failed and name is None:
        raise click.UsageError("say which: mlpq retry JOB, or mlpq retry --failed [EXPERIMENT].")
    config = settings()
    store = ready_store(config)
    if failed:
        queries.check_experiment(store, name)
        ids = queries.retryable(store, name)
        if not ids:
            click.echo("nothing to retry; a job that diverged would again: mlpq retry JOB runs it all the same")
            return
    else:
        ids = queries.with_descendants(store, queries.find_job(store, str(name)))
    filed, warning = retry(config, store, ids)
    if warning:
        click.echo(f"mlpq: warning: {warning}", err=True)
    for job in filed:
        click.echo(f"job {job.id}" + ("" if job.is_new else " (filed already)"))
