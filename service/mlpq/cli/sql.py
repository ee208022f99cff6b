"""`mlpq sql`."""

from __future__ import annotations

import sys
from pathlib import Path

import click

FORMATS = ("table", "json", "csv", "md", "latex", "parquet")
SUFFIXES = {**{name: name for name in FORMATS}, "tex": "latex"}


@click.command("sql")
@click.argument("statement")
@click.option(
    "--format", "format_", type=click.Choice(FORMATS),
    help="Output format [default: the suffix of FILE, else table].",
)  # fmt: skip
@click.option(
    "-o", "--output", metavar="FILE", type=click.Path(path_type=Path),
    help="Write to FILE; parquet needs one.",
)  # fmt: skip
def command(statement: str, format_: str | None, output: Path | None) -> None:
    """Run a read-only SQL query.

    The view results has one row per job: docs/reference/results-schema.md lists its columns, and
    docs/how-to/query-results.md has twenty questions with their statements. With - the STATEMENT comes from standard
    input.
    """
    from mlpq import formatting
    from mlpq.errors import MlpqError
    from mlpq.report import query_output
    from mlpq.settings import settings
    from mlpq.store import sql
    from mlpq.store.migrate import ready_store

    suffix = output.suffix.removeprefix(".") if output else ""
    format_ = format_ or SUFFIXES.get(suffix, "table")
    if format_ == "parquet" and output is None:
        raise MlpqError("parquet is a binary format: name a file with -o FILE")
    if statement == "-":
        statement = sys.stdin.buffer.read().decode(errors="surrogateescape")  # as an argument is decoded
    columns, rows = sql.read_only(ready_store(settings()), statement)
    if output is None:
        query_output.write(columns, rows, format_)
    else:
        query_output.save(columns, rows, format_, output)
        click.echo(f"{formatting.count_of(len(rows), 'row')} in {output}")
