"""`mlpq decide`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from mlpq.cli.comparison_options import comparison_options
from mlpq.cli.output import format_option

if TYPE_CHECKING:
    from mlpq.analysis.params import ComparisonParams
    from mlpq.decide import Step
    from mlpq.local_worker import LocalWorker
    from mlpq.question_records import Question
    from mlpq.settings import Settings
    from mlpq.store.session import Store

FAILED = 1


@click.command("decide")
@click.argument("experiment")
@comparison_options
@click.option(
    "--difference", metavar="D", type=float, required=True, help="The smallest difference that matters, as 0.2 points."
)
@click.option("--margin", metavar="M", type=float, help="Also decide that arms are equivalent: within M points.")
@click.option("--max-seeds", metavar="N", type=int, help="End after N seeds [default: computed from the first ones].")
@click.option("--wait", is_flag=True, help="Go on until all is decided, and show the race.")
@format_option("table", "json")
def command(
    experiment: str,
    params: ComparisonParams,
    difference: float,
    margin: float | None,
    max_seeds: int | None,
    wait: bool,
    format_: str,
) -> None:
    """Decide which arm is better with as few seeds as it takes.

    Registers the question, submits seeds in rounds and looks at the results after each, until an arm is better, arms
    are equivalent within the --margin, or N seeds are reached. The error rate of 5 % allows for all looks. Without
    --wait it takes one step. It can be interrupted anywhere: the same command continues.

    \b
    mlpq decide sweep --by optimizer --difference 0.2 --wait

    Exits 0 if it is decided, at its end or still going on, 1 if jobs failed.
    """
    from mlpq.analysis.question_terms import Goal
    from mlpq.decide import register
    from mlpq.local_worker import LocalWorker
    from mlpq.report import race_tables, tables
    from mlpq.settings import settings
    from mlpq.store.migrate import ready_store

    goal = Goal(difference, margin, max_seeds)
    goal.check()
    config = settings()
    with LocalWorker(config) as worker:
        if wait:
            worker.check_startable()
        store = ready_store(config)
        question = register(store, experiment, params, goal)
        tables.console(stderr=True).print(race_tables.registration_line(question), markup=False)
        taken = _until_decided(config, store, question, worker) if wait else _one_step(config, store, question)
    state = taken.state
    if format_ == "json":
        click.echo(tables.to_json(race_tables.question_document(state)))
    else:
        race_tables.print_question(tables.console(), state)
    if not state.is_over:
        _print_next(taken)
    if state.failed and not state.is_over:
        raise SystemExit(FAILED)


def _one_step(config: Settings, store: Store, question: Question) -> Step:
    from mlpq.cli.output import warn
    from mlpq.decide import step

    taken = step(config, store, question)
    warn(taken.warning)
    return taken


def _until_decided(config: Settings, store: Store, question: Question, worker: LocalWorker) -> Step:
    """Step after step, each after the jobs that it waits for; the last one is over, or some of its jobs failed."""
    from mlpq.cli.output import warn
    from mlpq.cli.race_view import RaceView
    from mlpq.cli.waiting import follow
    from mlpq.decide import until_decided

    view = RaceView(store)

    def wait(taken: Step) -> None:
        warn(taken.warning)
        view.show(taken.state)
        follow(store, [job.id for job in taken.state.waiting], worker, view.above)

    try:
        taken = until_decided(config, store, question, wait)
        warn(taken.warning)
        view.show(taken.state)
        return taken
    except KeyboardInterrupt:
        click.echo("stopped waiting; the jobs stay queued, and the same command continues", err=True)
        raise SystemExit(130) from None


def _print_next(taken: Step) -> None:
    """What happens next, on standard error: which jobs failed, or what to wait for."""
    from mlpq import formatting
    from mlpq.report import race_tables

    state = taken.state
    if state.failed:
        ids = " ".join(formatting.short_id(job.id) for job in state.failed[:5])
        more = " …" if len(state.failed) > 5 else ""
        failed = formatting.count_of(len(state.failed), "job")
        click.echo(f"{failed} failed: mlpq retry {ids}{more}, then the same command continues", err=True)
        return
    waiting = formatting.count_of(len(state.waiting), "job")
    submitted = f"{taken.submitted} new, " if taken.submitted else ""
    click.echo(
        f"{race_tables.state_line(state)}; waiting for {waiting} ({submitted}mlpq watch shows them): type the same "
        "command again for the next look, or with --wait until it is decided",
        err=True,
    )
