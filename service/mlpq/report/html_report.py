"""The report of an experiment: one HTML page that needs nothing but itself."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, Template

from mlpq import __version__, formatting
from mlpq.analysis.comparison import Comparison
from mlpq.analysis.fairness import SETTINGS, notes
from mlpq.experiment import Compared
from mlpq.report.charts import charts
from mlpq.report.comparison_tables import best_of_table, methods, pairs_table, sides_table, told
from mlpq.report.drawing import svg
from mlpq.report.tables import results_cells

Row = Mapping[str, Any]


def report(compared: Compared, environments: Sequence[Row], options: Mapping[str, object]) -> str:
    """The page; `environments` hold `facts` and how many `jobs` had them, `options` are those of the comparison."""
    rows = compared.rows
    done = [row for row in rows if row["status"] == "succeeded"]
    return _template().render(
        **answer(compared),
        folded=False,
        experiment=compared.experiment,
        summary=f"{len(done)} of {formatting.count_of(len(rows), 'job')} succeeded",
        version=__version__,
        made=f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        charts=[svg(chart) for chart in charts(compared)],
        environments=[
            {"jobs": formatting.count_of(each["jobs"], "job"), "facts": each["facts"]} for each in environments
        ],
        commands=_commands(compared.experiment, done, options),
        jobs={
            "headings": ("job", "model", "optimizer", "seed", "epochs", "correct", "test %", "time", "weights"),
            "lines": [[*results_cells(row), (row["weights_sha256"] or "")[:16]] for row in rows],
        },
    )


def answer(compared: Compared) -> dict[str, Any]:
    """What `answer.html` and `figures.html` show of a comparison of at least one job, and the `question`."""
    comparison = compared.comparison
    return {
        "question": _question(comparison),
        "verdicts": told(comparison),
        "notes": notes(comparison),
        "tables": _tables(compared),
        "shared": _shared(compared.rows),
    }


def _template() -> Template:
    loader = PackageLoader("mlpq.report")
    return Environment(loader=loader, autoescape=True, undefined=StrictUndefined).get_template("report.html")


def _tables(compared: Compared) -> list[dict[str, Any]]:
    """Title, headings, lines and what is said below, of those that have lines."""
    comparison = compared.comparison
    found = (
        ("Arms", sides_table(comparison), ""),
        ("Pairs", pairs_table(comparison), methods(comparison)),
        ("What tuning buys", best_of_table(compared.tuned), ""),
    )
    return [
        {"title": title, "headings": headings, "lines": lines, "below": below}
        for title, (headings, lines), below in found
        if lines
    ]


def _commands(experiment: str, done: Sequence[Row], options: Mapping[str, object]) -> list[str]:
    """What to type to check the page."""
    given = [
        word for name, value in options.items() if value is not None for word in (f"--{name}", shlex.quote(str(value)))
    ]
    name = shlex.quote(experiment)
    exports = [f"mlpq export {formatting.short_id(done[0]['id'])} --script"] if done else []
    return [f"mlpq verify {name} --sample 3", *exports, " ".join(["mlpq compare", name, *given])]


def _question(comparison: Comparison) -> str:
    names = [side.label for side in comparison.sides]
    if len(names) == 1:
        return f"How good is {names[0]}?"
    if len(names) == 2:
        return f"{names[0]} or {names[1]}: which is {comparison.metric.comparative}?"
    return f"Which of {len(names)} arms is best by {comparison.metric.title.removesuffix(' (%)')}?"


def _shared(rows: Sequence[Row]) -> str:
    """The settings that all jobs have."""
    same = [name for name in SETTINGS if len({str(row[name]) for row in rows}) == 1]
    return ", ".join(formatting.field(name, rows[0][name]) for name in same if rows[0][name] is not None)
