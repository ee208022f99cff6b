"""`mlpq doctor`."""

from __future__ import annotations

import click


@click.command("doctor")
def command() -> None:
    """Show each setting and whether it works.

    Where it came from, and whether what it names answers; what there is to train on, and what makes bits differ ("!").
    Exit 0 only if all is well.
    """
    from rich.text import Text

    from mlpq.doctor import checkup
    from mlpq.report import tables
    from mlpq.settings import settings

    lines = checkup(settings())
    marks = {True: Text("ok", style="green"), False: Text("no", style="red"), None: Text("!", style="yellow")}
    table = tables.plain_table("", "what", "value", "from", "found")
    for line in lines:
        table.add_row(marks[line.well], line.what, line.value, line.source, line.found)
    tables.console().print(table)
    if any(line.well is False for line in lines):
        raise SystemExit(1)
