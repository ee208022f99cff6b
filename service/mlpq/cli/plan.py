"""`mlpq plan`."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

import click

from mlpq.cli.comparison_options import comparison_options
from mlpq.cli.output import format_option

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mlpq.analysis.comparison import Comparison
    from mlpq.analysis.params import ComparisonParams
    from mlpq.analysis.planning import SeedsNeeded


@click.command("plan")
@click.argument("experiment")
@click.option(
    "--difference", metavar="D", type=float, required=True, help="The smallest difference that matters, as 0.2 points."
)
@click.option(
    "--power", metavar="P", type=float, default=0.8, show_default=True, help="Probability to detect such a difference."
)
@comparison_options
@click.option("--submit", "submit_", is_flag=True, help="Submit the missing seeds.")
@format_option("table", "json")
def command(
    experiment: str, difference: float, power: float, params: ComparisonParams, submit_: bool, format_: str
) -> None:
    """Compute how many seeds a comparison needs.

    From the spread of the existing seeds: how many seeds detect a true difference of D with probability P, at a
    significance level of 5 % (corrected for several comparisons). The p-value of mlpq compare is valid only for a
    number of seeds that was fixed beforehand; mlpq decide may look after each round, and stops as soon as it can.

    \b
    mlpq plan sweep --by optimizer --difference 0.2 --power 0.8
    """
    from mlpq import formatting
    from mlpq.analysis.planning import Power, needs, seeds_for, seeds_missing
    from mlpq.cli.output import warn
    from mlpq.errors import SpecError
    from mlpq.experiment import compare_experiment
    from mlpq.settings import settings
    from mlpq.store.migrate import ready_store
    from mlpq.submit import submit_seeds

    Power(difference, power).check()
    config = settings()
    store = ready_store(config)
    comparison = compare_experiment(store, experiment, params).comparison
    if not comparison.pairs:
        raise SpecError(f"{experiment} has only one arm; a comparison needs two: submit another optimizer or setting")
    found = needs(comparison, difference, power)
    seeds = seeds_for(comparison, max(need.needed for need in found))
    missing = seeds_missing(comparison, seeds)
    submitted, warning = submit_seeds(config, store, missing) if submit_ else ([], "")
    new = sum(job.is_new for job in submitted)
    warn(warning)
    if format_ == "json":
        _print_json(comparison, found, seeds, new)
        return
    _print_table(comparison, found, seeds, f"{difference:g} {comparison.metric.unit} with probability {power:g}")
    if submit_:
        click.echo(f"{formatting.count_of(new, 'job')} submitted, seeds {formatting.seeds(seeds)}")
    elif missing:
        jobs = formatting.count_of(sum(len(each) for _, each in missing), "job")
        click.echo(f"{jobs} missing: --submit submits them")
        click.echo(f"{_decide_command(experiment, params, difference)} submits only as many as a decision takes")


def _decide_command(experiment: str, params: ComparisonParams, difference: float) -> str:
    options = [word for name, value in params.given().items() for word in (f"--{name}", value)]
    return shlex.join(["mlpq", "decide", experiment, *options, "--difference", f"{difference:g}", "--wait"])


def _print_json(comparison: Comparison, found: Sequence[SeedsNeeded], seeds: Sequence[int], new: int) -> None:
    from mlpq.analysis.fairness import notes
    from mlpq.report import tables
    from mlpq.report.planning_tables import needs_document

    document = {"notes": notes(comparison), "seeds": seeds, "submitted": new, "pairs": needs_document(found)}
    click.echo(tables.to_json(document))


def _print_table(comparison: Comparison, found: Sequence[SeedsNeeded], seeds: Sequence[int], goal: str) -> None:
    from mlpq import formatting
    from mlpq.analysis.fairness import notes
    from mlpq.report import tables
    from mlpq.report.planning_tables import needs_table

    for note in notes(comparison):
        click.echo(f"! {note}")
    tables.console().print(needs_table(found, comparison.metric))
    chose = (
        f" besides {formatting.seeds(comparison.choosing)}, which chose the settings," if comparison.choosing else ""
    )
    click.echo(f"\n{formatting.count_of(len(seeds), 'seed')} in each arm{chose} detect a difference of {goal}")
