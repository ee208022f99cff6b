"""`mlpq plan`."""

from __future__ import annotations

import click


@click.command("plan")
@click.argument("experiment")
@click.option(
    "--difference", metavar="D", type=float, required=True, help="The smallest difference that matters, as 0.2 points."
)
@click.option(
    "--power", metavar="P", type=float, default=0.8, show_default=True, help="Probability to find it if it is there."
)
@click.option("--by", metavar="FIELDS", help="Which arms are sides, as for mlpq compare.")
@click.option("--metric", metavar="NAME", default="accuracy", show_default=True, help="As for mlpq compare.")
@click.option("--target", metavar="PERCENT", type=float, help="As for mlpq compare.")
@click.option("--against", metavar="ARM", help="Compare each arm with this one only.")
@click.option("--submit", "submit_", is_flag=True, help="File the seeds that are missing.")
@click.option("--format", "format_", type=click.Choice(["table", "json"]), default="table", show_default=True)
def command(
    experiment: str,
    difference: float,
    power: float,
    by: str | None,
    metric: str,
    target: float | None,
    against: str | None,
    submit_: bool,
    format_: str,
) -> None:
    """Say how many seeds a comparison needs.

    From the spread of the seeds that are there: how many it takes to find a true difference of D with probability P,
    at a significance of 5 % (corrected where there are several comparisons).

    \b
    mlpq plan sweep --by optimizer --difference 0.2 --power 0.8
    """
    from mlpq import formatting
    from mlpq.analysis.fairness import notes
    from mlpq.analysis.grouping import parse_by
    from mlpq.analysis.metrics import metric as named
    from mlpq.analysis.planning import needs, needs_document, needs_table, seeds_for, seeds_missing
    from mlpq.errors import SpecError
    from mlpq.experiment import load
    from mlpq.report import tables
    from mlpq.settings import settings
    from mlpq.store.migrate import ready_store
    from mlpq.submit import submit_seeds

    if not 0 < difference < float("inf"):
        raise SpecError(f"--difference must be a number above 0, not {difference:g}")
    if not 0 < power < 1:
        raise SpecError(f"--power is a probability between 0 and 1, not {power:g}: 0.8 is usual")
    fields, chosen, config = parse_by(by), named(metric, target), settings()
    store = ready_store(config)
    comparison = load(store, experiment, chosen, fields, against).comparison
    if not comparison.pairs:
        raise SpecError(f"{experiment} has one arm only; a comparison needs two: submit another optimizer or setting")
    found = needs(comparison, difference, power)
    seeds = seeds_for(comparison, max(need.needed for need in found))
    missing = seeds_missing(comparison, seeds)
    filed, warning = submit_seeds(config, store, missing) if submit_ else ([], "")
    new = sum(job.is_new for job in filed)
    if warning:
        click.echo(f"mlpq: warning: {warning}", err=True)
    if format_ == "json":
        document = {"notes": notes(comparison), "seeds": seeds, "submitted": new, "pairs": needs_document(found)}
        click.echo(tables.to_json(document))
        return
    for note in notes(comparison):
        click.echo(f"! {note}")
    tables.console().print(needs_table(found, chosen))
    shown = f"{difference:g} {chosen.unit}"
    click.echo(
        f"\n{formatting.count_of(len(seeds), 'seed')} in each arm show a difference of {shown}, probability {power:g}"
    )
    if submit_:
        click.echo(f"{formatting.count_of(new, 'job')} submitted, seeds {formatting.seeds(seeds)}")
    elif missing:
        jobs = formatting.count_of(sum(len(each) for _, each in missing), "job")
        click.echo(f"{jobs} to file: --submit does it")
