"""`mlpq doctor`."""

from __future__ import annotations

import click


@click.command("doctor")
def command() -> None:
    """Check the settings.

    Shows each setting, where its value comes from, and whether it works; the data sets and devices; and what makes bits
    differ between workers ("!"). Exits 0 only if everything works.
    """
    from rich.text import Text

    from mlpq.doctor import check
    from mlpq.report import tables
    from mlpq.settings import settings

    checks = check(settings())
    marks = {True: Text("ok", style="green"), False: Text("no", style="red"), None: Text("!", style="yellow")}
    table = tables.plain_table("", "what", "value", "from", "found")
    for each in checks:
        table.add_row(marks[each.ok], each.what, each.value, each.source, each.found)
    tables.console().print(table)
    if any(each.ok is False for each in checks):
        raise SystemExit(1)
