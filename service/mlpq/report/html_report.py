"""The report of an experiment: one HTML page that needs no other file and no network."""

from __future__ import annotations

import base64
import hashlib
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from jinja2 import Environment, PackageLoader, StrictUndefined, Template

from mlpq import formatting
from mlpq.analysis.comparison import Comparison
from mlpq.analysis.experiment_comparison import ExperimentComparison
from mlpq.analysis.experiment_errors import ExperimentErrors
from mlpq.analysis.fairness import notes
from mlpq.analysis.labels import shared
from mlpq.analysis.params import ComparisonParams
from mlpq.records import EnvironmentRecord, JobRecord
from mlpq.report.charts import BEST_OF_K_TITLE, charts
from mlpq.report.comparison_tables import (
    best_of_table,
    errors_table,
    methods,
    pairs_table,
    sides_table,
    tests_table,
    verdict_lines,
)
from mlpq.report.drawing import for_page
from mlpq.report.error_section import error_section
from mlpq.report.race_tables import QuestionText, question_text
from mlpq.report.tables import results_lines
from mlpq.text import printable_value
from mlpq.version import VERSION

# The only script of the page; its policy names its hash.
LARGE_SCRIPT = 'document.documentElement.classList.toggle("large", new URLSearchParams(location.search).has("large"))'


def report(
    compared: ExperimentComparison,
    environments: Sequence[EnvironmentRecord],
    params: ComparisonParams,
    errors: ExperimentErrors | None = None,
) -> str:
    """The page; `environments` are those of the experiment's results, `params` the options of the comparison.

    `errors` are None where no result says which test images it classifies correctly.
    """
    records = compared.records
    succeeded = [job for job in records if job.result is not None]
    text = comparison_text(compared)
    return _template().render(
        question=text.question,
        questions=text.questions,
        verdicts=text.verdicts,
        notes=text.notes,
        tables=text.tables,
        shared=text.shared,
        folded=False,
        experiment=compared.experiment,
        summary=f"{len(succeeded)} of {formatting.count_of(len(records), 'job')} succeeded",
        version=VERSION,
        made=f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        charts=for_page(lambda style: charts(compared, style)),
        large_script=LARGE_SCRIPT,
        large_script_hash=_sha256(LARGE_SCRIPT),
        errors=error_section(errors, [side.label for side in compared.comparison.sides]) if errors else None,
        environments=[{"jobs": formatting.count_of(each.jobs, "job"), "facts": each.facts} for each in environments],
        commands=_commands(compared.experiment, succeeded, params),
        jobs=_jobs(records),
    )


def _sha256(script: str) -> str:
    """The hash with which a policy allows a script."""
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def _jobs(records: Sequence[JobRecord]) -> TableText:
    headings, lines = results_lines(records)
    weights = [job.result.weights_sha256[:16] if job.result else "" for job in records]
    rows = [[*line, each] for line, each in zip(lines, weights, strict=True)]
    return TableText("Jobs", (*headings, "weights"), rows, "")


@dataclass(frozen=True, slots=True)
class TableText:
    """A table with its title and the text below it, which may be empty."""

    title: str
    headings: Sequence[str]
    lines: Sequence[Sequence[str]]
    below: str


@dataclass(frozen=True, slots=True)
class ComparisonText:
    """What the templates `comparison.html` and `figures.html` show of a comparison."""

    question: str
    questions: Sequence[QuestionText]
    verdicts: Sequence[str]
    notes: Sequence[str]
    tables: Sequence[TableText]
    shared: str


def comparison_text(compared: ExperimentComparison) -> ComparisonText:
    """The text of a comparison of at least one job."""
    comparison = compared.comparison
    return ComparisonText(
        question=_question(comparison),
        questions=[question_text(state) for state in compared.questions],
        verdicts=verdict_lines(comparison),
        notes=notes(comparison),
        tables=_tables(compared),
        shared=shared([job.spec for job in compared.records]),
    )


def _template() -> Template:
    loader = PackageLoader("mlpq.report")
    found = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, finalize=printable_value)
    return found.get_template("report.html")


def _tables(compared: ExperimentComparison) -> list[TableText]:
    """The tables that have lines."""
    comparison = compared.comparison
    found = (
        ("Arms", sides_table(comparison), ""),
        ("Pairs", pairs_table(comparison), ""),
        ("Tests", tests_table(comparison), methods(comparison)),
        ("Errors of the differences", errors_table(comparison), ""),
        (BEST_OF_K_TITLE, best_of_table(compared.tuned), ""),
    )
    return [TableText(title, headings, lines, below) for title, (headings, lines), below in found if lines]


def _commands(experiment: str, succeeded: Sequence[JobRecord], params: ComparisonParams) -> list[str]:
    """The commands with which a reader can check the page."""
    options = [word for name, value in params.given().items() for word in (f"--{name}", shlex.quote(value))]
    name = shlex.quote(experiment)
    exports = [f"mlpq export {formatting.short_id(succeeded[0].id)}"] if succeeded else []
    return [f"mlpq verify {name} --sample 3", *exports, " ".join(["mlpq compare", name, *options])]


def _question(comparison: Comparison) -> str:
    names = [side.label for side in comparison.sides]
    if len(names) == 1:
        return f"How good is {names[0]}?"
    if len(names) == 2:
        return f"{names[0]} or {names[1]}: which is {comparison.metric.comparative}?"
    return f"Which of {len(names)} arms is best by {comparison.metric.title.removesuffix(' (%)')}?"
