"""`mlpq verify`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from mlpq.cli.output import format_option

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mlpq.settings import Settings
    from mlpq.store.session import Store
    from mlpq.verification_records import Verification

REFUTED, NOT_VERIFIED = 1, 3


@click.command("verify")
@click.argument("names", nargs=-1, required=True, metavar="JOB…|EXPERIMENT")
@click.option("--sample", type=click.IntRange(min=1), metavar="N", help="Only N of the results, drawn at random.")
@click.option("--seed", type=click.IntRange(min=0), metavar="SEED", help="Draw the same sample again.")
@click.option("--device", metavar="DEVICE", help="Run on auto, cpu, cuda or mps [default: the device of the result].")
@format_option("table", "json")
def command(names: tuple[str, ...], sample: int | None, seed: int | None, device: str | None, format_: str) -> None:
    """Run finished jobs again and grade their results.

    JOB is the first digits of an id; EXPERIMENT means all of its results.

    First the stored data are audited for inconsistencies. Then every job runs once more, and its weights, figures and
    curve are compared. The grades are same bits, same figures, consistent, refuted and not verified;
    docs/reference/verification-grades.md explains them.

    Exits 0 if every result was verified, 1 if one is refuted, 3 if one could not be run again.
    """
    from mlpq.errors import SpecError, nearest
    from mlpq.settings import settings
    from mlpq.spec.job import DEVICES
    from mlpq.store.migrate import ready_store
    from mlpq.verification import verify
    from mlpq.verification_records import Grade

    if seed is not None and sample is None:
        raise click.UsageError("--seed needs --sample N.")
    if device is not None and device not in DEVICES:
        raise SpecError(f"unknown device '{device}'{nearest(device, DEVICES)}")
    config = settings()
    store = ready_store(config)
    ids = verify.candidates(store, names)
    drawn = None
    if sample is not None:
        seed = verify.any_seed() if seed is None else seed
        drawn, ids = {"of": len(ids), "seed": seed}, verify.sampled(ids, sample, seed)
        if format_ == "table":
            shown = " ".join(job[:8] for job in ids)
            click.echo(f"{len(ids)} of {drawn['of']} results, drawn with --seed {seed}: {shown}")
    found = _verified(config, store, ids, device)
    _show(store, found, drawn, format_)
    grades = {each.grade for each in found}
    if Grade.REFUTED in grades:
        raise SystemExit(REFUTED)
    if Grade.NOT_VERIFIED in grades:
        raise SystemExit(NOT_VERIFIED)


def _verified(config: Settings, store: Store, ids: Sequence[str], device: str | None) -> list[Verification]:
    """Audit the results, run the jobs again and grade them. An interruption or error cancels the reruns."""
    from mlpq.cli.output import warn
    from mlpq.cli.waiting import follow
    from mlpq.local_worker import LocalWorker
    from mlpq.verification import verify

    with LocalWorker(config) as worker:

        def wait(reruns: Sequence[str], warning: str) -> None:
            warn(warning)
            follow(store, reruns, worker)

        try:
            return verify.verified(config, store, ids, device, wait)
        except KeyboardInterrupt:
            click.echo("stopped: the reruns are cancelled, and nothing was verified", err=True)
            raise SystemExit(130) from None


def _show(store: Store, found: Sequence[Verification], drawn: Mapping[str, int] | None, format_: str) -> None:
    from mlpq.report import grades, tables
    from mlpq.store import queries

    if format_ == "json":
        documents = [grades.verification_document(each) for each in found]
        click.echo(tables.to_json({"summary": grades.summary(found), "sample": drawn, "verifications": documents}))
        return
    wanted = [job for each in found for job in (each.job_id, each.rerun_id) if job]
    grades.print_grades(tables.console(), found, {job.id: job for job in queries.listed_by_id(store, wanted)})
