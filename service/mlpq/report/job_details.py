"""Everything about one job, for `mlpq show`."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from rich.console import Console
from rich.text import Text

from mlpq import formatting
from mlpq.jobs import Engine
from mlpq.records import AnyJob, AttemptRecord, EpochMetrics, JobRecord, JobResult
from mlpq.report.grades import print_history
from mlpq.report.tables import Cells, plain_table, print_tables
from mlpq.spec.job import JobSpec
from mlpq.text import bounded
from mlpq.verification_records import Verification


def print_job(
    out: Console,
    job: AnyJob,
    curve: Sequence[EpochMetrics],
    attempts: Sequence[AttemptRecord],
    verifications: Sequence[Verification] = (),
    missing: str = "",
) -> None:
    """Print what the job is, its result, its curve, its attempts, their environment and its verifications.

    `missing` says which worker it waits for, empty where it waits for none.
    """
    facts = plain_table("", "")
    facts.show_header = False
    for name, value in facts_of(job, missing):
        facts.add_row(Text(name, style="bold"), value)
    out.print(facts)
    print_tables(out, (curve_table(curve), attempts_table(attempts)))
    if attempts:
        out.print("\nenvironment of the last attempt")
        for name, value in (attempts[-1].environment or {}).items():
            out.print(f"  {name}: {value}", markup=False, soft_wrap=True)
    if verifications:
        out.print()
        print_history(out, verifications)


def facts_of(job: AnyJob, missing: str = "") -> list[tuple[str, str]]:
    """What the job is and its result, as names and values; facts that it does not have are left out."""
    status = formatting.status(job) + (f": {bounded(job.error)}" if job.error else "")
    status += f", {missing}" if missing else ""
    identity = [("job", job.id), ("experiment", job.experiment), ("status", status)]
    if not isinstance(job, JobRecord):
        return [*identity, ("unreadable", job.reason)]
    spec = job.spec
    early = f", stops after {spec.patience} epochs without a lower loss" if spec.patience else ""
    facts = [
        *identity,
        ("model", f"{formatting.model(spec)} on {_data(spec)}"),
        ("optimizer", formatting.optimizer(spec)),
        ("formula", f"{spec.formula} [{formatting.formula_digest(spec.formula)}]" if spec.formula else ""),
        ("package", spec.plugin or ""),
        ("training", f"{spec.epochs} epochs, batch size {spec.batch_size}, seed {spec.seed}"),
        ("validation", f"{formatting.number(spec.validation)} of the training data{early}" if spec.validation else ""),
        ("continues from", job.parent_id or ""),
        ("device", _device(job)),
        *(_facts_of_result(job.result) if job.result is not None else ()),
        ("spec hash", job.spec_hash),
        ("weights", f"{job.result.weights_sha256} in {job.result.weights_file}" if job.result is not None else ""),
        ("submitted", f"{job.created_at:%Y-%m-%d %H:%M:%S} UTC"),
    ]
    return [(name, value) for name, value in facts if value]


def _data(spec: JobSpec) -> str:
    return spec.dataset if spec.content is None else spec.content.reference(spec.dataset)


def _facts_of_result(result: JobResult) -> list[tuple[str, str]]:
    return [
        ("engine", _engine(result)),
        ("test", formatting.figures(result)),
        ("best epoch", f"{result.best_epoch} of {result.epochs_run} run"),
        ("time", formatting.seconds(result.train_seconds)),
    ]


def _engine(result: JobResult) -> str:
    match result.engine:
        case Engine.KERNEL:
            return f"kernel, {formatting.arithmetic(result)}, gang of {result.gang_size}"
        case Engine.GANG:
            return f"gang of {result.gang_size}"
        case Engine.PLAIN:
            return "plain"


def _device(job: JobRecord) -> str:
    """Where the job ran, and where it was requested to run."""
    ranks = f", world size {job.requested_world_size}" if job.requested_world_size else ""
    requested = f"requested {job.requested_device}{ranks}, priority {job.priority}"
    return requested if job.result is None else f"{formatting.ran_on(job.result)} ({requested})"


def curve_table(curve: Sequence[EpochMetrics]) -> Cells:
    """One line per epoch."""
    has_validation = bool(curve) and curve[0].validation_loss is not None
    extra = (">validation loss", ">validation") if has_validation else ()
    lines = []
    for epoch in curve:
        validation = []
        if has_validation:
            count = formatting.count(epoch.validation_correct, epoch.validation_total)
            validation = [_loss(epoch.validation_loss), f"{count} ({formatting.percent(epoch.validation_accuracy)})"]
        test = f"{formatting.count(epoch.test_correct, epoch.test_total)} ({formatting.percent(epoch.test_accuracy)})"
        lines.append([
            str(epoch.epoch), _loss(epoch.train_loss), *validation, _loss(epoch.test_loss), test,
            formatting.seconds(epoch.seconds),
        ])  # fmt: skip
    return (">epoch", ">train loss", *extra, ">test loss", ">test", ">time"), lines


def attempts_table(attempts: Sequence[AttemptRecord]) -> Cells:
    """One line per attempt."""
    lines = [
        [str(attempt.attempt), attempt.worker, attempt.device, _time(attempt.started_at),
         str(attempt.outcome or "running"), attempt.error or ""]
        for attempt in attempts
    ]  # fmt: skip
    return (">attempt", "worker", "device", "started (UTC)", "outcome", "error"), lines


def logs_text(job: str, attempts: Sequence[AttemptRecord]) -> str:
    """The last log lines of each attempt of the job with this id."""
    if not attempts:
        return f"job {job} has not started yet"
    lines = []
    for attempt in attempts:
        lines += [f"attempt {attempt.attempt} by {attempt.worker}: {attempt.outcome or 'running'}"]
        lines += [attempt.log_tail or "(empty)", *([f"error: {attempt.error}"] if attempt.error else ())]
    return "\n".join(lines)


def _time(at: datetime | None) -> str:
    return "" if at is None else f"{at:%Y-%m-%d %H:%M:%S}"


def _loss(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"
