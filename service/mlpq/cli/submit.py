"""`mlpq submit`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mlpq.store.session import Store
    from mlpq.store.submission import Filed
    from mlpq.submit import Submission


@click.command("submit")
@click.argument("file", required=False, metavar="[FILE]")
@click.option("--experiment", metavar="NAME", help="Name of the experiment [default: the file's or preset's name].")
@click.option("--preset", metavar="NAME", help="textbook or fmnist_mlp, instead of the options of the model.")
@click.option("--dataset", metavar="NAME", help="fashion-mnist, mnist, kmnist or digits [default: fashion-mnist].")
@click.option("--hidden", metavar="WIDTHS", help="Hidden layers: 32, or 1000,500,100, or none [default: 32].")
@click.option("--activation", metavar="NAME", help="sigmoid, relu or tanh [default: sigmoid].")
@click.option("--no-bias", "bias", flag_value="false", help="Layers without bias.")
@click.option("--initialisation", metavar="NAME", help="torch or truncated-normal [default: torch].")
@click.option(
    "--optimizer",
    multiple=True,
    metavar="NAME[:SETTINGS]",
    help="sgd, adam, adamw, rmsprop, adagrad, nadam …; repeatable; settings as sgd:lr=0.1,momentum=0.9.",
)
@click.option("--lr", metavar="RATES", help="Learning rates, as 0.1,0.01; for optimizers that don't name their own.")
@click.option("--epochs", metavar="N", help="Epochs [default: 10].")
@click.option("--batch-size", metavar="SIZES", help="Images a batch; several as 32,128 [default: 32].")
@click.option("--seeds", metavar="SEEDS", help="42, or 1,2,3, or 0..9 with both ends included [default: 42].")
@click.option("--weight-decay", metavar="VALUES", help="L2 penalty of the optimizer; several as 0,1e-4.")
@click.option("--l1", metavar="VALUES", help="L1 penalty on all parameters; several as 0,1e-5.")
@click.option("--dropout", metavar="VALUES", help="Dropout after each hidden layer; several as 0,0.2.")
@click.option("--validation", metavar="FRACTION", help="Part of the training data that is held out, as 0.1.")
@click.option("--patience", metavar="N", help="Stop after N epochs without a lower validation loss; keep the best.")
@click.option(
    "--continue-from",
    metavar="JOB",
    help="Go on from a job's weights and shuffling generator, with a new optimizer; the rest is taken from that job.",
)
@click.option("--device", metavar="DEVICE", help="auto, cpu, cuda or mps [default: auto].")
@click.option(
    "--world-size", metavar="N", help="Train by N processes, one a GPU; auto is the worker's [default: auto]."
)
@click.option("--priority", metavar="N", help="Higher runs first [default: 0].")
@click.option("--attempts", metavar="N", help="Give up a job after so many failed attempts [default: 3].")
@click.option("--again", is_flag=True, help="Run a spec once more that the experiment has already.")
@click.option("--wait", is_flag=True, help="Show progress until all is done; exit 0 only if every job succeeded.")
@click.option("--dry-run", is_flag=True, help="Show what would be submitted, and submit nothing.")
@click.option("--format", "format_", type=click.Choice(["table", "json"]), default="table", show_default=True)
def command(
    file: str | None, preset: str | None, again: bool, wait: bool, dry_run: bool, format_: str, **options: Any
) -> None:
    """Submit training jobs.

    From FILE (YAML or JSON), from options, or both; options win.
    Several optimizers, rates and seeds make a sweep: every combination is one job. A spec that the experiment has
    already is not run twice.

    \b
    mlpq submit --preset textbook --wait
    mlpq submit --optimizer sgd --optimizer adam --lr 0.1,0.01,0.001 --seeds 0..9 --experiment sweep
    """
    from mlpq.cli import spec_file
    from mlpq.cli.local_worker import LocalWorker
    from mlpq.settings import settings
    from mlpq.store import queries
    from mlpq.store.migrate import has_database, ready_store
    from mlpq.submit import check_data, plan, submit

    given = {name: value for name, value in options.items() if value not in (None, ())}
    document = {**spec_file.read(file), **given}
    config = settings()
    # What is wrong with the input is said before a database is looked for, or made.
    store = ready_store(config) if document.get("continue_from") is not None else None
    submission = plan(document, preset, store)
    if dry_run:
        _show_plan(submission, format_)
        return
    check_data(config, submission)
    with LocalWorker(config) as worker:
        if wait and worker.may_start and not has_database(config):
            # Then none can be alive, and one takes seconds to start: it does so while the jobs are filed.
            worker.start({submission.device}, submission.world_size)
        store = store or ready_store(config)
        filed, warning = submit(config, store, submission, again)
        if warning:
            click.echo(f"mlpq: warning: {warning}", err=True)
        if format_ == "table":
            _show_filed(submission, filed)
        if wait:
            from mlpq.cli.waiting import wait_for

            wait_for(store, [job.id for job in filed], worker)
    rows = queries.jobs_by_id(store, [job.id for job in filed])
    _show_outcome(store, filed, rows, preset, wait, format_)
    if wait and any(row["status"] != "succeeded" for row in rows):
        raise SystemExit(1)


def _show_plan(submission: Submission, format_: str) -> None:
    from mlpq import formatting
    from mlpq.report import tables

    rows = [
        {**spec.model_dump(mode="json"), "spec_hash": spec.hash, "experiment": submission.experiment}
        for spec in submission.specs
    ]
    if format_ == "json":
        click.echo(tables.to_json(rows))
        return
    tables.console().print(tables.plan_table(submission.specs))
    click.echo(
        f"experiment {submission.experiment}: {formatting.count_of(len(rows), 'job')} to submit; nothing was written"
    )


def _show_filed(submission: Submission, filed: Sequence[Filed]) -> None:
    from mlpq import formatting

    new = sum(job.is_new for job in filed)
    there = f", {len(filed) - new} there already (--again runs them once more)" if new < len(filed) else ""
    click.echo(f"experiment {submission.experiment}: {formatting.count_of(new, 'job')} submitted{there}")
    if len(filed) == 1:
        click.echo(f"job {filed[0].id}")


def _show_outcome(
    store: Store,
    filed: Sequence[Filed],
    rows: Sequence[Mapping[str, Any]],
    preset: str | None,
    wait: bool,
    format_: str,
) -> None:
    from mlpq.report import tables

    if format_ == "json":
        new = {job.id for job in filed if job.is_new}
        click.echo(tables.to_json([{**row, "submitted": row["id"] in new, **_curve(store, row, wait)} for row in rows]))
    elif wait:
        _print_results(store, rows, preset)


def _curve(store: Store, row: Mapping[str, Any], wait: bool) -> dict[str, Any]:
    from mlpq.store import queries

    return {"curve": queries.curve(store, row["id"])} if wait else {}


def _print_results(store: Store, rows: Sequence[Mapping[str, Any]], preset: str | None) -> None:
    from mlpq.report import tables
    from mlpq.store import queries

    tables.print_results(rows, queries.ancestors(store, rows))
    if preset == "textbook":
        click.echo()
        table = tables.textbook_table(rows, {row["id"]: queries.curve(store, row["id"]) for row in rows})
        if table is None:
            note = "The source's figures are for Fashion-MNIST, seed 42, 10 epochs, batch size 32: not shown."
            tables.console().print(note)
        else:
            tables.console().print(table)
