"""`mlpq export`."""

from __future__ import annotations

from typing import TextIO

import click


@click.command("export")
@click.argument("job")
@click.option("--script", is_flag=True, required=True, help="As a PyTorch script that does not need mlpq.")
@click.option(
    "-o", "--output", type=click.File("w", encoding="utf-8"), default="-", metavar="FILE",
    help="Where to write it [default: standard output].",
)  # fmt: skip
def command(job: str, script: bool, output: TextIO) -> None:
    """Export JOB as a script that trains it anew.

    The script has the job's initial weights, batches and settings, so its count of correct test images is the job's,
    to within rounding. A job that goes on from others brings them along.
    """
    from mlpq.report.script_export import script as script_of
    from mlpq.settings import settings
    from mlpq.store import queries
    from mlpq.store.migrate import ready_store

    store = ready_store(settings())
    row = queries.jobs_by_id(store, [queries.find_job(store, job)])[0]
    line = [*reversed(queries.ancestors(store, [row])), row]
    attempts = queries.attempts_of(store, row["id"])
    chain = [queries.spec_of(store, each["id"]) for each in line]
    output.write(script_of(chain, row, attempts[-1]["environment"] if attempts else None))
