"""`mlpq compare`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from mlpq.cli.comparison_options import comparison_options
from mlpq.cli.output import format_option

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from mlpq.analysis.experiment_comparison import ExperimentComparison
    from mlpq.analysis.params import ComparisonParams
    from mlpq.report.drawing import Style


@click.command("compare")
@click.argument("experiment", required=False)
@click.option("--experiments", metavar="NAMES", default="", help="Compare over several, as A,B,C: each is a problem.")
@comparison_options
@click.option("--plot", metavar="FILE", help="Also draw the charts, into a .pdf, .png, .svg or .html file.")
@click.option(
    "--chart", metavar="NAME",
    help="With --plot, one chart as wide as it is printed: curves, differences, rates, best-of-k or race.",
)  # fmt: skip
@click.option("--width", metavar="LENGTH", help="The width of that chart, in in, cm, mm or pt [default: 3.35in].")
@click.option(
    "--style", metavar="NAME", help="paper, or slides with large type, 10in wide by default [default: paper]."
)
@format_option("table", "json", "md", "latex")
def command(
    experiment: str | None,
    experiments: str,
    params: ComparisonParams,
    plot: str | None,
    chart: str | None,
    width: str | None,
    style: str | None,
    format_: str,
) -> None:
    """Compare the arms of an experiment, paired by seed.

    Per arm: n, mean, standard deviation, 95 % interval. Per pair of arms: the mean difference over common seeds with
    its interval, a permutation test, a test that stays valid however often you look, and a verdict. Warnings about an
    unfair comparison come first.

    With --experiments the arms are ranked on each data set and model, and the verdict is over all of them.

    \b
    mlpq compare sweep --by optimizer
    mlpq compare sweep --by optimizer --metric epochs --target 85 --plot sweep.png
    mlpq compare sweep --by optimizer --plot curves.pdf --chart curves --width 3.35in
    mlpq compare --experiments digits,mnist,fashion --by optimizer --plot profiles.png
    """

    names = [name.strip() for name in experiments.split(",") if name.strip()]
    if bool(names) == bool(experiment):
        raise click.UsageError("Name one EXPERIMENT, or several with --experiments A,B,C.")
    drawing = _drawing(plot, chart, width, style)
    if experiment:
        _compare_one(experiment, params, drawing, format_)
    elif drawing and drawing.chart:
        raise click.UsageError("--chart is for one EXPERIMENT: several have one chart.")
    else:
        _compare_several(names, params, drawing, format_)


@dataclass(frozen=True, slots=True)
class _Drawing:
    """What to draw: one chart in its style, or all of a page."""

    file: Path
    chart: str | None
    style: Style | None


def _drawing(plot: str | None, chart: str | None, width: str | None, style: str | None) -> _Drawing | None:
    """Raises UsageError and MlpqError for options that do not go together or are not valid."""
    from mlpq.cli.output import output_file

    if plot is None or chart is None:
        for name, value in (("--chart", chart if plot is None else None), ("--width", width), ("--style", style)):
            if value is not None:
                raise click.UsageError(f"{name} needs --plot FILE{'' if name == '--chart' else ' and --chart NAME'}.")
        return None if plot is None else _Drawing(output_file(plot, (".pdf", ".png", ".svg", ".html")), None, None)
    from mlpq.report import figures

    figures.check_chart(chart)
    return _Drawing(output_file(plot, figures.SUFFIXES), chart, figures.style_of(style or "paper", width))


def _compare_one(experiment: str, params: ComparisonParams, drawing: _Drawing | None, format_: str) -> None:
    from mlpq.experiment import compare_experiment
    from mlpq.report import comparison_tables, race_tables, tables
    from mlpq.report.markup import MARKUPS
    from mlpq.settings import settings
    from mlpq.store.migrate import ready_store

    compared = compare_experiment(ready_store(settings()), experiment, params, with_curves=drawing is not None)
    if drawing is not None:
        _draw(drawing, compared)
    if format_ == "json":
        document = comparison_tables.to_document(compared.comparison, compared.tuned)
        questions = [race_tables.question_document(state) for state in compared.questions]
        click.echo(tables.to_json({**document, "questions": questions}))
    elif format_ in MARKUPS:
        markup = MARKUPS[format_]
        parts = [race_tables.question_markup(state, markup) for state in compared.questions]
        parts.append(comparison_tables.comparison_markup(compared.comparison, compared.tuned, markup))
        click.echo("\n\n".join(parts))
    else:
        out = tables.console()
        for state in compared.questions:
            race_tables.print_question(out, state)
            out.print()
        comparison_tables.print_comparison(out, compared.comparison, compared.tuned)


def _compare_several(names: Sequence[str], params: ComparisonParams, drawing: _Drawing | None, format_: str) -> None:
    from mlpq.experiment import compare_experiments
    from mlpq.report import problem_tables, tables
    from mlpq.report.markup import MARKUPS
    from mlpq.settings import settings
    from mlpq.store.migrate import ready_store

    found = compare_experiments(ready_store(settings()), names, params)
    if drawing is not None:
        from mlpq.report.drawing import picture

        title = f"{', '.join(names)}, compared"
        _write(drawing.file, picture([problem_tables.profiles(found)], drawing.file.suffix, title), "charts")
    if format_ == "json":
        click.echo(tables.to_json(problem_tables.problems_document(found)))
    elif format_ in MARKUPS:
        click.echo(problem_tables.problems_markup(found, MARKUPS[format_]))
    else:
        problem_tables.print_problems(tables.console(), found)


def _draw(drawing: _Drawing, compared: ExperimentComparison) -> None:
    from mlpq.errors import NotFoundError
    from mlpq.report.charts import charts
    from mlpq.report.drawing import picture
    from mlpq.report.figures import figure_file

    file, name = drawing.file, compared.experiment
    if drawing.chart and drawing.style:
        _write(file, figure_file(compared, drawing.chart, file.suffix, drawing.style), "chart")
        return
    drawn = charts(compared)
    if not drawn:
        raise NotFoundError(f"there is nothing to draw yet: no job of {name} has succeeded")
    _write(file, picture(drawn, file.suffix, f"{name}, compared"), "charts")


def _write(file: Path, content: bytes, what: str) -> None:
    from mlpq.cli.output import write

    write(file, content)
    click.echo(f"{what} in {file}", err=True)
