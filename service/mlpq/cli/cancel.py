"""`mlpq cancel`."""

from __future__ import annotations

import click


@click.command("cancel")
@click.argument("name", metavar="JOB|EXPERIMENT")
def command(name: str) -> None:
    """Cancel a job, or the unfinished jobs of an experiment.

    Jobs that wait for a cancelled job are cancelled too.
    """
    from mlpq.settings import settings
    from mlpq.store.migrate import ready_store
    from mlpq.submit import cancel_named

    counts = cancel_named(ready_store(settings()), name)
    if not counts:
        click.echo("nothing to cancel: already finished")
        return
    click.echo(", ".join(f"{count} {what}" for what, count in counts.items()))
