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

    from mlpq.job_details import job_details
    from mlpq.report import grades, tables
    from mlpq.report.job_details import print_job
    from mlpq.results_view import flat
    from mlpq.settings import settings
    from mlpq.store.migrate import ready_store

    found = job_details(ready_store(settings()), job)
    if format_ == "table":
        print_job(tables.console(), *found)
        return
    findings = [grades.verification_document(each) for each in found.verifications]
    for finding in findings:
        del finding["job_id"]
    document = {
        **flat(found.job),
        "curve": [asdict(epoch) for epoch in found.curve],
        "attempts": [{"job_id": found.job.id, **asdict(attempt)} for attempt in found.attempts],
        "verifications": findings,
    }
    click.echo(tables.to_json(document))
