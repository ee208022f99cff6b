"""`mlpq compare`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from mlpq.cli.comparison_options import comparison_options
from mlpq.cli.output import format_option

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from mlpq.analysis.params import ComparisonParams
    from mlpq.report.drawing import Chart


@click.command("compare")
@click.argument("experiment", required=False)
@click.option("--experiments", metavar="NAMES", default="", help="Compare over several, as A,B,C: each is a problem.")
@comparison_options
@click.option("--plot", metavar="FILE", help="Also draw the charts, into a .png, .svg or .html file.")
@format_option("table", "json", "md")
def command(experiment: str | None, experiments: str, params: ComparisonParams, plot: str | None, format_: str) -> None:
    """Compare the arms of an experiment, paired by seed.

    Per arm: n, mean, standard deviation, 95 % interval. Per pair of arms: the mean difference over common seeds with
    its interval, a permutation test, a test that stays valid however often you look, and a verdict. Warnings about an
    unfair comparison come first.

    With --experiments the arms are ranked on each data set and model, and the verdict is over all of them.

    \b
    mlpq compare sweep --by optimizer
    mlpq compare sweep --by optimizer --metric epochs --target 85 --plot sweep.png
    mlpq compare --experiments digits,mnist,fashion --by optimizer --plot profiles.png
    """
    from mlpq.cli.output import output_file

    names = [name.strip() for name in experiments.split(",") if name.strip()]
    if bool(names) == bool(experiment):
        raise click.UsageError("Name one EXPERIMENT, or several with --experiments A,B,C.")
    file = output_file(plot, (".png", ".svg", ".html")) if plot is not None else None
    if experiment:
        _compare_one(experiment, params, file, format_)
    else:
        _compare_several(names, params, file, format_)


def _compare_one(experiment: str, params: ComparisonParams, file: Path | None, format_: str) -> None:
    from mlpq.errors import NotFoundError
    from mlpq.experiment import compare_experiment
    from mlpq.report import comparison_tables, race_tables, tables
    from mlpq.settings import settings
    from mlpq.store.migrate import ready_store

    compared = compare_experiment(ready_store(settings()), experiment, params, with_curves=file is not None)
    if file is not None:
        from mlpq.report.charts import charts

        drawn = charts(compared)
        if not drawn:
            raise NotFoundError(f"there is nothing to draw yet: no job of {experiment} has succeeded")
        _draw(file, drawn, f"{experiment}, compared")
    if format_ == "json":
        document = comparison_tables.to_document(compared.comparison, compared.tuned)
        questions = [race_tables.question_document(state) for state in compared.questions]
        click.echo(tables.to_json({**document, "questions": questions}))
    elif format_ == "md":
        parts = [race_tables.question_markdown(state) for state in compared.questions]
        parts.append(comparison_tables.comparison_markdown(compared.comparison, compared.tuned))
        click.echo("\n\n".join(parts))
    else:
        out = tables.console()
        for state in compared.questions:
            race_tables.print_question(out, state)
            out.print()
        comparison_tables.print_comparison(out, compared.comparison, compared.tuned)


def _compare_several(names: Sequence[str], params: ComparisonParams, file: Path | None, format_: str) -> None:
    from mlpq.experiment import compare_experiments
    from mlpq.report import problem_tables, tables
    from mlpq.settings import settings
    from mlpq.store.migrate import ready_store

    found = compare_experiments(ready_store(settings()), names, params)
    if file is not None:
        _draw(file, [problem_tables.profiles(found)], f"{', '.join(names)}, compared")
    if format_ == "json":
        click.echo(tables.to_json(problem_tables.problems_document(found)))
    elif format_ == "md":
        click.echo(problem_tables.problems_markdown(found))
    else:
        problem_tables.print_problems(tables.console(), found)


def _draw(file: Path, drawn: Sequence[Chart], title: str) -> None:
    from mlpq.cli.output import write
    from mlpq.report.drawing import picture

    write(file, picture(drawn, file.suffix, title))
    click.echo(f"charts in {file}", err=True)
