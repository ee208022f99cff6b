"""`mlpq jobs`."""

from __future__ import annotations

import click

from mlpq.cli.output import NO_JOBS, format_option


@click.command("jobs")
@click.argument("experiment", required=False)
@click.option(
    "--status", "statuses", multiple=True, metavar="STATUS",
    help="Only jobs with this status, as failed,cancelled; repeatable.",
)  # fmt: skip
@click.option(
    "--limit", type=click.IntRange(min=1), metavar="N", help="At most N jobs, the latest [default: 50 in a table]."
)
@format_option("table", "json")
def command(experiment: str | None, statuses: tuple[str, ...], limit: int | None, format_: str) -> None:
    """List jobs, of one experiment or of all."""
    from mlpq import formatting
    from mlpq.errors import SpecError, nearest
    from mlpq.jobs import Outcome, Status
    from mlpq.report import tables
    from mlpq.settings import settings
    from mlpq.store import queries, worker_queries
    from mlpq.store.migrate import ready_store

    statuses = tuple(word.strip().lower() for given in statuses for word in given.split(","))
    known = {*Status, Outcome.DIVERGED}
    for status in statuses:
        if status not in known:
            raise SpecError(f"unknown status '{status}'{nearest(status, known)}")
    store = ready_store(settings())
    queries.check_experiment(store, experiment)
    most = limit or (50 if format_ == "table" else None)
    records = queries.listed_jobs(store, experiment, statuses, most, newest_first=True)[::-1]
    if format_ == "json":
        click.echo(tables.jobs_json(records))
        return
    if records:
        tables.console().print(tables.jobs_table(records))
    if most is not None and len(records) == most:
        click.echo(f"the latest {formatting.count_of(most, 'job')}; --limit shows more")
    counts = queries.count_by_status(store, experiment)
    for each in worker_queries.jobs_without_worker(store, experiment):
        click.echo(formatting.jobs_without_worker(each))
    summary = ", ".join(f"{count} {status}" for status, count in counts.items())
    click.echo(summary or NO_JOBS)
