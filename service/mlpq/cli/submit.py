"""`mlpq submit`."""

from __future__ import annotations

import sys
from functools import partial
from typing import TYPE_CHECKING, Any

import click

from mlpq.cli.output import format_option

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mlpq.records import JobRecord, SubmittedJob
    from mlpq.settings import Settings
    from mlpq.store.session import Store
    from mlpq.submit import Submission

several = partial(click.option, multiple=True)  # every value given counts, in all of the option's places
GROUPS = ("hidden", "zip")  # options of which each place is one model, or one group of keys


@click.command("submit")
@click.argument("file", required=False, metavar="[FILE]")
@click.option("--experiment", metavar="NAME", help="Name of the experiment [default: the name of the file or preset].")
@click.option("--preset", metavar="NAME", help="textbook or fmnist_mlp; replaces the options of the model.")
@several("--dataset", metavar="NAME", help="fashion-mnist, mnist, kmnist, digits or your own [default: fashion-mnist].")
@several("--hidden", metavar="WIDTHS", help="Hidden layers: 32, or 1000,500,100, or none [default: 32].")
@several("--activation", metavar="NAME", help="sigmoid, relu or tanh [default: sigmoid].")
@several("--bias", metavar="VALUES", help="Layers with bias: true or false, or both as true,false [default: true].")
@click.option("--no-bias", is_flag=True, help="The same as --bias false.")
@several("--initialisation", metavar="NAME", help="torch or truncated-normal [default: torch].")
@several(
    "--optimizer",
    metavar="NAME[:SETTINGS]",
    help="sgd, adam, adamw, rmsprop, adagrad, nadam …; settings as sgd:lr=0.1,momentum=0.9.",
)
@several(
    "--formula",
    metavar="NAME:STATEMENTS",
    help="An own optimizer, as 'mine: m = 0.9*m + g; p = p - lr*m', for --optimizer mine:lr=0.1.",
)
@several("--lr", metavar="RATES", help="Learning rates, as 0.1,0.01, for optimizers that don't specify their own.")
@several(
    "--schedule",
    metavar="NAME[:SETTINGS]",
    help="constant, linear, cosine, step, exponential or one-cycle; settings as step:size=10,gamma=0.1 "
    "[default: constant].",
)
@several("--warmup", metavar="VALUES", help="Epochs in which the rate rises from 0, or below 1 a fraction of all.")
@several("--clip-norm", metavar="VALUES", help="Largest norm of the gradient, or none; several as none,1.")
@several("--label-smoothing", metavar="VALUES", help="Share of each label that is spread over all classes, as 0.1.")
@several("--epochs", metavar="NUMBERS", help="Epochs; several as 10,20 [default: 10].")
@several("--batch-size", metavar="SIZES", help="Images per batch; several as 32,128 [default: 32].")
@several("--seeds", metavar="SEEDS", help="42, or 1,2,3, or 0..9 with both ends included [default: 42].")
@several("--weight-decay", metavar="VALUES", help="L2 penalty of the optimizer; several as 0,1e-4.")
@several("--l1", metavar="VALUES", help="L1 penalty on all parameters; several as 0,1e-5.")
@several("--dropout", metavar="VALUES", help="Dropout after each hidden layer; several as 0,0.2.")
@several("--validation", metavar="FRACTIONS", help="Fraction of the training data to hold out, as 0.1.")
@several("--patience", metavar="NUMBERS", help="Stop after N epochs without a lower validation loss; keep the best.")
@several("--zip", metavar="OPTIONS", help="Options whose values advance together, as lr,batch-size.")
@click.option(
    "--continue-from",
    metavar="JOB",
    help="Continue from a job's weights and generators with a new optimizer; other options default to that job's.",
)
@click.option("--device", metavar="DEVICE", help="auto, cpu, cuda or mps [default: auto].")
@click.option(
    "--world-size",
    metavar="N",
    help="Train with N processes, one per GPU; auto lets the worker choose [default: auto].",
)
@click.option("--priority", metavar="N", help="Jobs with a higher priority run first [default: 0].")
@click.option("--attempts", metavar="N", help="Attempts until a job fails permanently [default: 3].")
@click.option("--again", is_flag=True, help="Also run specs that the experiment already has.")
@click.option(
    "--wait", is_flag=True, help="Show progress until all jobs are finished; exit 0 only if every job succeeded."
)
@click.option("--dry-run", is_flag=True, help="Show the jobs, and submit nothing.")
@format_option("table", "json")
def command(
    file: str | None,
    preset: str | None,
    no_bias: bool,
    again: bool,
    wait: bool,
    dry_run: bool,
    format_: str,
    **options: Any,
) -> None:
    """Submit training jobs.

    From FILE (YAML or JSON), from options, or both; options take precedence.
    Options that describe the training take several values, separated by commas or by repeating the option: every
    combination is one job. A spec that the experiment already has is not submitted again.

    \b
    mlpq submit --preset textbook --wait
    mlpq submit --optimizer sgd --optimizer adam --lr 0.1,0.01,0.001 --seeds 0..9 --experiment sweep
    """
    from mlpq.jobs import Status
    from mlpq.settings import settings
    from mlpq.spec.document import with_options
    from mlpq.spec.spec_file import read
    from mlpq.store import queries
    from mlpq.submit import check_data, planned

    if no_bias:
        options["bias"] += ("false",)
    given = {name: _as_typed(name, value) for name, value in options.items() if value not in (None, ())}
    document = with_options(read(file, sys.stdin.buffer if file == "-" else None), given)
    config = settings()
    submission = planned(config, document, preset)
    if dry_run:
        _show_plan(submission, format_)
        return
    check_data(config, submission)
    store, submitted = _submit(config, submission, again, wait, quiet=format_ == "json")
    jobs = queries.jobs_by_id(store, [job.id for job in submitted])
    if format_ == "json":
        _print_json(store, jobs, {job.id for job in submitted if job.is_new}, with_curves=wait)
    elif wait:
        _print_results(store, jobs, preset)
    if wait and any(job.status is not Status.SUCCEEDED for job in jobs):
        raise SystemExit(1)


def _as_typed(name: str, value: str | tuple[str, ...]) -> object:
    """The value of an option for the sweep; of one that is repeated, a list."""
    if isinstance(value, str):
        return value
    if len(value) == 1:
        return value[0]
    return [each.split(",") for each in value] if name in GROUPS else list(value)


def _submit(
    config: Settings, submission: Submission, again: bool, wait: bool, quiet: bool
) -> tuple[Store, list[SubmittedJob]]:
    """Submit the jobs, and wait until they are finished where `wait`; `quiet` prints warnings and progress only."""
    from mlpq.cli.output import warn
    from mlpq.local_worker import LocalWorker
    from mlpq.store.migrate import has_database, ready_store
    from mlpq.submit import change_waiting_jobs, submit

    with LocalWorker(config) as worker:
        if wait:
            worker.check_startable()
        if wait and worker.may_start and not has_database(config):
            # A new database has no live worker, and a worker takes seconds to start: start it while the jobs are
            # submitted.
            worker.start({submission.placement.device}, submission.placement.world_size)
        store = ready_store(config)
        submitted, warning = submit(config, store, submission, again)
        warn(warning)
        missing = "" if wait else _missing_worker(store, submission, submitted)
        if not quiet:
            _show_submitted(submission, submitted, missing)
        elif missing:
            click.echo(missing, err=True)
        if not quiet and not again and (said := change_waiting_jobs(config, store, submission, submitted)):
            click.echo(said, err=True)
        if wait:
            from mlpq.cli.waiting import wait_for

            wait_for(store, [job.id for job in submitted], worker)
    return store, submitted


def _show_plan(submission: Submission, format_: str) -> None:
    from mlpq import formatting
    from mlpq.analysis.arms import group_specs
    from mlpq.report import tables

    if format_ == "json":
        documents = [
            {**spec.model_dump(mode="json"), "spec_hash": spec.hash, "experiment": submission.experiment}
            for spec in submission.specs
        ]
        click.echo(tables.to_json(documents))
        return
    arms = group_specs(submission.specs)
    tables.console().print(tables.plan_table(arms))
    count = formatting.count_of(len(submission.specs), "job")
    of_arms = f" in {formatting.count_of(len(arms), 'arm')}" if len(arms) < len(submission.specs) else ""
    click.echo(f"experiment {submission.experiment}: {count} to submit{of_arms}; nothing was written")


def _show_submitted(submission: Submission, submitted: Sequence[SubmittedJob], missing: str) -> None:
    from mlpq import formatting

    new = sum(job.is_new for job in submitted)
    old = len(submitted) - new
    known = f", {old} already there (--again submits them again)" if old else ""
    click.echo(f"experiment {submission.experiment}: {formatting.count_of(new, 'job')} submitted{known}")
    if missing:
        click.echo(missing)
    if len(submitted) == 1:
        click.echo(f"job {submitted[0].id}")


def _missing_worker(store: Store, submission: Submission, submitted: Sequence[SubmittedJob]) -> str:
    """Which worker to start, where no live one can run the jobs; empty otherwise."""
    from mlpq.needed_workers import missing_worker, request_of, requests_of
    from mlpq.store import queries

    requests = requests_of(queries.jobs_by_id(store, [job.id for job in submitted if not job.is_new]))
    placement = submission.placement
    requests += {request_of(placement.device, placement.world_size, job.spec) for job in submitted if job.is_new}
    return missing_worker(store, requests)


def _print_json(store: Store, jobs: Sequence[JobRecord], new: set[str], with_curves: bool) -> None:
    from dataclasses import asdict

    from mlpq.report import tables
    from mlpq.results_view import flat
    from mlpq.store import queries

    documents = [{**flat(job), "submitted": job.id in new} for job in jobs]
    if with_curves:
        for document in documents:
            document["curve"] = [asdict(epoch) for epoch in queries.curve(store, document["id"])]
    click.echo(tables.to_json(documents))


def _print_results(store: Store, jobs: Sequence[JobRecord], preset: str | None) -> None:
    from mlpq.report import tables
    from mlpq.report.textbook_table import textbook_table
    from mlpq.store import queries

    tables.print_results(jobs, queries.ancestors(store, jobs))
    if preset == "textbook":
        click.echo()
        table = textbook_table(jobs, {job.id: queries.curve(store, job.id) for job in jobs})
        if table is None:
            note = (
                "no comparison with the textbook: its figures are for Fashion-MNIST, seed 42, 10 epochs, batch size 32"
            )
            tables.console().print(note)
        else:
            tables.console().print(table)
