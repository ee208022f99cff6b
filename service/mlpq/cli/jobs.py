"""`mlpq jobs`."""

from __future__ import annotations

import click


@click.command("jobs")
@click.argument("experiment", required=False)
@click.option(
    "--status",
    "statuses",
    multiple=True,
    metavar="STATUS",
    help="Only jobs in these states, as failed,cancelled; repeatable.",
)
@click.option("--limit", type=click.IntRange(min=1), help="At most so many, the latest ones [default: 50 in a table].")
@click.option("--format", "format_", type=click.Choice(["table", "json"]), default="table", show_default=True)
def command(experiment: str | None, statuses: tuple[str, ...], limit: int | None, format_: str) -> None:
    """List jobs, of one experiment or of all."""
    from mlpq import formatting
    from mlpq.errors import SpecError, nearest
    from mlpq.jobs import Outcome, Status
    from mlpq.report import tables
    from mlpq.settings import settings
    from mlpq.store import queries
    from mlpq.store.migrate import ready_store

    statuses = tuple(word.strip().lower() for given in statuses for word in given.split(","))
    known = {*Status, Outcome.DIVERGED}
    for status in statuses:
        if status not in known:
            raise SpecError(f"unknown status '{status}'{nearest(status, known)}")
    store = ready_store(settings())
    queries.check_experiment(store, experiment)
    shown = limit or (50 if format_ == "table" else None)
    rows = queries.job_rows(store, experiment, statuses, shown, newest_first=True)[::-1]
    if format_ == "json":
        click.echo(tables.to_json(rows))
        return
    if rows:
        tables.console().print(tables.jobs_table(rows))
    counts = queries.count_by_status(store, experiment)
    if shown is not None and len(rows) == shown:
        click.echo(f"the latest {formatting.count_of(shown, 'job')}; --limit shows more")
    summary = ", ".join(f"{count} {status}" for status, count in counts.items())
    for row in queries.stranded(store, experiment):
        click.echo(f"{formatting.count_of(row['jobs'], 'job')} {formatting.waiting_for(row)}")
    click.echo(summary or "no job yet: mlpq submit --preset textbook --wait runs the first ones")
