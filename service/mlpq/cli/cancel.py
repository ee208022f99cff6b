"""`mlpq cancel`."""

from __future__ import annotations

import click


@click.command("cancel")
@click.argument("name", metavar="JOB|EXPERIMENT")
def command(name: str) -> None:
    """Cancel a job, or the unfinished jobs of an experiment.

    Jobs that wait for a cancelled job are cancelled too.
    """
    from mlpq.errors import NotFoundError
    from mlpq.settings import settings
    from mlpq.store import queries
    from mlpq.store.migrate import ready_store
    from mlpq.submit import cancel

    store = ready_store(settings())
    is_experiment = queries.has_experiment(store, name)
    try:
        ids = [queries.find_job(store, name)]
    except NotFoundError as error:
        if not is_experiment:
            raise NotFoundError(f"no experiment is called '{name}', and {error}") from None
        ids = queries.ids_of(store, name)
    else:
        if is_experiment:
            raise NotFoundError(
                f"'{name}' is both an experiment and the beginning of the job id {ids[0]}: type the whole id"
            )
    counts = cancel(store, ids)
    if not any(counts.values()):
        click.echo("nothing to cancel: already finished")
        return
    click.echo(", ".join(f"{count} {what}" for what, count in counts.items() if count))
