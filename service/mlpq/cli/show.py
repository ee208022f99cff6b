"""`mlpq show`."""

from __future__ import annotations

import click

from mlpq.cli.output import format_option


@click.command("show")
@click.argument("job")
@format_option("table", "json")
def command(job: str, format_: str) -> None:
    """Show everything about JOB.

    Its spec, result, learning curve, attempts, environment and verifications.
    """
    from dataclasses import asdict

    from mlpq.jobs import Status
    from mlpq.needed_workers import missing_worker, requests_of
    from mlpq.records import JobRecord
    from mlpq.report import grades, job_details, tables
    from mlpq.results_view import flat
    from mlpq.settings import settings
    from mlpq.store import queries
    from mlpq.store.migrate import ready_store

    store = ready_store(settings())
    (record,) = queries.listed_by_id(store, [queries.find_job(store, job)])
    curve, attempts = queries.curve(store, record.id), queries.attempts_of(store, record.id)
    verifications = queries.verifications_of(store, record.id)
    if format_ == "table":
        queued = [record] if isinstance(record, JobRecord) and record.status is Status.QUEUED else []
        missing = missing_worker(store, requests_of(queued))
        job_details.print_job(tables.console(), record, curve, attempts, verifications, missing)
        return
    findings = [grades.verification_document(found) for found in verifications]
    for finding in findings:
        del finding["job_id"]
    document = {
        **flat(record),
        "curve": [asdict(epoch) for epoch in curve],
        "attempts": [{"job_id": record.id, **asdict(attempt)} for attempt in attempts],
        "verifications": findings,
    }
    click.echo(tables.to_json(document))
