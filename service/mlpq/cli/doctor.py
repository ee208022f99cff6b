"""`mlpq doctor`."""

from __future__ import annotations

import click


@click.command("doctor")
def command() -> None:
    """Show each setting and whether it works.

    Where it came from, and whether what it names answers; exit 0 only if all do.
    """
    from rich.text import Text

    from mlpq.checkup import checkup
    from mlpq.report import tables
    from mlpq.settings import settings

    lines = checkup(settings())
    table = tables.plain_table("", "what", "value", "from", "found")
    for line in lines:
        mark = Text("ok", style="green") if line.well else Text("no", style="red")
        table.add_row(mark, line.what, line.value, line.source, line.found)
    tables.console().print(table)
    if not all(line.well for line in lines):
        raise SystemExit(1)
