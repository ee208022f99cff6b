"""Tables of jobs, arms and workers for the terminal, and the same as JSON, CSV and Markdown."""

from __future__ import annotations

import csv
import io
import json
import math
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import IO, Any

from rich import box
from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from mlpq import formatting, terminal
from mlpq.analysis.arms import Arm, arms
from mlpq.analysis.labels import arm_labels, settings_labels
from mlpq.jobs import Status
from mlpq.records import AnyJob, EpochMetrics, JobRecord
from mlpq.report.table_layout import fit, listed
from mlpq.results_view import COLUMNS, flat
from mlpq.spec.job import JobSpec
from mlpq.spec.presets import TEXTBOOK_FIGURES, TextbookFigure
from mlpq.text import bounded, escaped, printable
from mlpq.worker_records import WorkerRecord

Cells = tuple[tuple[str, ...], list[list[str]]]  # headings, with ">" before those of figures, and lines

STATUS_STYLES = {
    Status.SUCCEEDED: "green",
    Status.RUNNING: "cyan",
    Status.FAILED: "red",
    Status.CANCELLED: "yellow",
    Status.BLOCKED: "dim",
    Status.QUEUED: "dim",
}

FILE_WIDTH = 160  # columns
SPEC_HEADINGS = ("model", "optimizer")
TEXT_HEADINGS = ("job", *SPEC_HEADINGS, "settings")  # the others are of figures
JOB_HEADINGS = ("job", *SPEC_HEADINGS, "seed", "epochs", "correct", "test %", "time")
ARM_HEADINGS = ("arm", "n", "test %, mean ± sd", "worst", "best", "time")


class PrintableConsole(Console):
    """A console that strips control characters from what is printed, and adds those of its own styles."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(printable(segment.text), segment.style)


def console(stderr: bool = False, file: IO[str] | None = None) -> Console:
    """The terminal. A file or a pipe has lines of FILE_WIDTH, and is never drawn over, whatever FORCE_COLOR says."""
    out: Any = file or terminal.raw(sys.stderr if stderr else sys.stdout)
    options: dict[str, Any] = {"file": out, "highlight": False, "emoji": False}
    if out.isatty():
        return PrintableConsole(**options)
    return PrintableConsole(**options, width=FILE_WIDTH, force_interactive=False)


def jobs_table(records: Sequence[AnyJob]) -> Table:
    """One line per job: what it is, and its status."""
    settings = job_settings(records)
    table = plain_table("job", "experiment", *SPEC_HEADINGS, *_heading(settings), ">seed", "status", ">test")
    for job, own in zip(records, settings, strict=True):
        cells = results_cells(job)
        table.add_row(
            cells[0],
            job.experiment,
            *cells[1:3],
            *([own] if any(settings) else []),
            cells[3],
            _status(job),
            _accuracy(job),
        )
    return table


def _accuracy(job: AnyJob) -> str:
    if not isinstance(job, JobRecord):
        return ""
    return formatting.percent(None if job.result is None else job.result.test_accuracy)


def workers_table(workers: Sequence[WorkerRecord]) -> Table:
    """One line per worker: what it runs on, and what it has done."""
    table = plain_table("worker", "device", ">running", ">done", ">last heartbeat")
    for worker in workers:
        device = f"{worker.device}: {worker.device_name}"
        ago = f"{formatting.seconds((worker.now - worker.beat_at).total_seconds())} ago"
        table.add_row(worker.name, device, str(worker.jobs_running), str(worker.jobs_done), ago)
    return table


def worker_document(worker: WorkerRecord) -> dict[str, Any]:
    """A worker as JSON; its device's name has the key `model`. Host and process are None for a name without them."""
    named = re.fullmatch(r"(.+):([0-9]{1,18}):[0-9a-f]+", worker.name)  # in an older database it may be any text
    return {
        "host": named[1] if named else None,
        "process": int(named[2]) if named else None,
        "name": worker.name,
        "device": worker.device,
        "model": worker.device_name,
        "most_ranks": worker.most_ranks,
        "world_size": worker.world_size,
        "jobs_done": worker.jobs_done,
        "started_at": worker.started_at,
        "beat_at": worker.beat_at,
        "jobs_running": worker.jobs_running,
        "data": sorted(worker.data),
        "packages": sorted(worker.packages),
    }


def results_table(records: Sequence[AnyJob]) -> Table:
    """One line per job with its figures; a job without a result shows its status instead."""
    headings, lines = results_lines(records)
    table = plain_table(*(("" if heading in TEXT_HEADINGS else ">") + heading for heading in headings))
    for job, (*figures, time) in zip(records, lines, strict=True):
        has_result = isinstance(job, JobRecord) and job.result is not None
        table.add_row(*figures, time if has_result else _status(job))
    return table


def results_lines(records: Sequence[AnyJob]) -> Cells:
    """The cells of `results_cells`, and the settings in which the jobs differ where there are such."""
    settings = job_settings(records, shown=("epochs",))
    at = JOB_HEADINGS.index("seed")
    lines = []
    for job, own in zip(records, settings, strict=True):
        cells = results_cells(job)
        lines.append([*cells[:at], *([own] if any(settings) else []), *cells[at:]])
    return (*JOB_HEADINGS[:at], *_heading(settings), *JOB_HEADINGS[at:]), lines


def job_settings(records: Sequence[AnyJob], shown: Sequence[str] = ()) -> list[str]:
    """For each job what distinguishes it from the others, besides its model, its optimizer and its seed."""
    readable = [job for job in records if isinstance(job, JobRecord)]
    labels = settings_labels([job.spec for job in readable], shown)
    if len({job.parent_id for job in readable}) >= 2:
        origins = [f"continued from {formatting.short_id(job.parent_id)}" if job.parent_id else "" for job in readable]
        labels = [", ".join(filter(None, parts)) for parts in zip(labels, origins, strict=True)]
    own = iter(labels)
    return [next(own) if isinstance(job, JobRecord) else "" for job in records]


def _heading(settings: Sequence[str]) -> list[str]:
    return ["settings"] if any(settings) else []


def results_cells(job: AnyJob) -> list[str]:
    """The cells of a job under JOB_HEADINGS; its status takes the place of the time where it has no result."""
    if not isinstance(job, JobRecord):
        return [formatting.short_id(job.id), job.description, *[""] * 5, formatting.status(job)]
    result, planned = job.result, str(job.spec.epochs)
    own = [
        formatting.short_id(job.id), formatting.model(job.spec), formatting.optimizer(job.spec), str(job.spec.seed),
    ]  # fmt: skip
    if result is None:
        return [*own, planned, "", "", formatting.status(job)]
    return [
        *own,
        planned if result.epochs_run == job.spec.epochs else f"{result.epochs_run} of {planned}",
        f"{result.test_correct}/{result.test_total}",
        formatting.percent(result.test_accuracy).removesuffix(" %"),
        formatting.seconds(result.train_seconds),
    ]


def arms_table(found: Sequence[Arm]) -> Table:
    """One line per arm: n, mean ± standard deviation over its seeds, worst and best."""
    table = plain_table(*(("" if index == 0 else ">") + heading for index, heading in enumerate(ARM_HEADINGS)))
    for line in arm_lines(found):
        table.add_row(*line)
    return table


def arm_lines(found: Sequence[Arm]) -> list[list[str]]:
    """The cells of each arm under ARM_HEADINGS."""
    return [_arm_cells(arm, label) for arm, label in zip(found, arm_labels(found), strict=True)]


def _arm_cells(arm: Arm, label: str) -> list[str]:
    accuracy, jobs = arm.accuracy, len(arm.records)
    if accuracy is None:
        return [label, f"0 of {jobs}", "", "", "", ""]
    n = str(jobs) if accuracy.n == jobs else f"{accuracy.n} of {jobs}"
    n += f", {len(arm.diverged)} diverged" if arm.diverged else ""
    ends = [f"{100 * end:.2f}" for end in (accuracy.least, accuracy.most)] if accuracy.n > 1 else ["", ""]
    mean = formatting.mean_and_sd(100 * accuracy.mean, None if accuracy.sd is None else 100 * accuracy.sd)
    return [label, n, mean, *ends, formatting.seconds(arm.seconds)]


def print_results(records: Sequence[AnyJob], ancestors: Sequence[JobRecord]) -> None:
    """Print the jobs, then their arms where one has several seeds (no mean without its n and spread), then errors.

    `ancestors` are the jobs outside `records` that some of them continue from.
    """
    out = console()
    out.print(results_table(records))
    readable = [job for job in records if isinstance(job, JobRecord)]
    found = arms(readable, ancestors)
    if len(found) < len(readable):
        out.print()
        out.print(arms_table(found))
    for job in records:
        if job.error:
            out.print(f"{formatting.short_id(job.id)}: {bounded(job.error)}", markup=False)


def plan_table(found: Sequence[Sequence[JobSpec]]) -> Table:
    """One line per arm of a submission that was only planned."""
    settings = settings_labels([arm[0] for arm in found], shown=("epochs", "batch_size"))
    table = plain_table(*SPEC_HEADINGS, *_heading(settings), ">epochs", ">batch", ">parameters", "seeds", ">jobs")
    for arm, own in zip(found, settings, strict=True):
        first, seeds = arm[0], [spec.seed for spec in arm]
        table.add_row(
            formatting.model(first), formatting.optimizer(first), *([own] if any(settings) else []), str(first.epochs),
            str(first.batch_size), f"{first.parameters:,}", formatting.seeds(seeds), str(len(arm)),
        )  # fmt: skip
    return table


def textbook_table(records: Sequence[JobRecord], curves: Mapping[str, Sequence[EpochMetrics]]) -> Table | None:
    """The textbook's figures beside those of these jobs, as counts; None where the jobs do not follow its protocol.

    `curves` has the epochs of each job by its id.
    """
    protocol = ("fashion-mnist", 42, 10, 32)
    followed = ((job.spec.dataset, job.spec.seed, job.spec.epochs, job.spec.batch_size) for job in records)
    if any(each != protocol for each in followed):
        return None
    table = plain_table("textbook", ">epochs", ">printed", ">its loop", ">mlpq", ">mlpq %", ">difference")
    for figure in TEXTBOOK_FIGURES:
        epoch = _reached(figure, records, curves)
        cells = ["", "", ""]
        if epoch is not None:
            cells = [
                f"{epoch.test_correct}/{epoch.test_total}",
                formatting.percent(epoch.test_accuracy).removesuffix(" %"),
                f"{epoch.test_correct - figure.counted:+d}".replace("+0", "0"),
            ]
        table.add_row(figure.run, str(figure.epoch), figure.printed, f"{figure.counted}/10000", *cells)
    return table


def _reached(
    figure: TextbookFigure, records: Sequence[JobRecord], curves: Mapping[str, Sequence[EpochMetrics]]
) -> EpochMetrics | None:
    """The epoch that the figure is of; None where no job has reached it."""
    for job in records:
        run = (job.spec.optimizer, job.spec.hidden, job.parent_id is not None)
        if run == (figure.optimizer, figure.hidden, figure.is_continued):
            for epoch in curves[job.id]:
                if epoch.epoch == figure.epoch:
                    return epoch
    return None


def to_json(document: Any) -> str:
    """Indented JSON; times in ISO 8601 with their zone, and null for NaN and infinity, which JSON does not have."""
    try:
        return json.dumps(document, indent=2, default=datetime.isoformat, allow_nan=False)
    except ValueError:
        return json.dumps(_finite(document), indent=2, default=datetime.isoformat)


def _finite(document: Any) -> Any:
    if isinstance(document, Mapping):
        return {name: _finite(value) for name, value in document.items()}
    if isinstance(document, (list, tuple)):
        return [_finite(value) for value in document]
    return None if isinstance(document, float) and not math.isfinite(document) else document


def jobs_json(records: Sequence[AnyJob]) -> str:
    """A JSON list with one object per job; its keys are the columns of the view `results`."""
    return to_json([flat(job) for job in records])


def jobs_csv(records: Sequence[AnyJob]) -> str:
    """A heading and one line per job; the columns are those of the view `results`."""
    rows = [flat(job) for job in records]
    return csv_text(COLUMNS, [[_csv_cell(name, row[name]) for name in COLUMNS] for row in rows])


def csv_text(heading: Sequence[str], lines: Iterable[Sequence[object]]) -> str:
    r"""CSV without a line break at its end; times in ISO 8601, lists and mappings as JSON, booleans in lower case.

    Times have microseconds, so that all of a column have one format. Control characters are escaped, as \u001b.
    """
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([escaped(name) for name in heading])
    writer.writerows([[_csv_value(value) for value in line] for line in lines])
    return out.getvalue().rstrip("\n")


def results_markdown(records: Sequence[AnyJob], ancestors: Sequence[JobRecord], heading: str | None) -> str:
    """The tables of jobs and of arms as Markdown, under a heading if there is one."""
    readable = [job for job in records if isinstance(job, JobRecord)]
    jobs = markdown(*results_lines(records))
    summary = markdown(ARM_HEADINGS, arm_lines(arms(readable, ancestors)))
    title = f"## {heading}\n\n" if heading else ""
    return f"{title}{jobs}\n\n{summary}\n"


def _csv_cell(name: str, value: object) -> object:
    """Widths of hidden layers as they are typed, "1000,500" or "none"."""
    return formatting.value_of(value) if name == "hidden" else value


def _csv_value(value: object) -> object:
    if isinstance(value, datetime):
        return value.isoformat(timespec="microseconds")
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return escaped(value)
    return json.dumps(value) if isinstance(value, (dict, list)) else value


def markdown(heading: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """A table in Markdown; characters that would end a cell or a row are escaped."""
    cells = [[printable(cell).replace("|", "\\|").replace("\n", "<br>") for cell in line] for line in (heading, *lines)]
    rows = [cells[0], ["---"] * len(heading), *cells[1:]]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _status(job: AnyJob) -> Text:
    return Text(formatting.status(job), style=STATUS_STYLES[job.status])


class PlainTable(Table):
    """A table whose cells are literal text: what a user typed is never interpreted as markup.

    Where it does not fit, it becomes a list, in which rows are numbered if `row_name` is not empty.
    """

    row_name = ""

    def add_row(self, *cells: Any, **options: Any) -> None:
        super().add_row(*(Text(cell) if isinstance(cell, str) else cell for cell in cells), **options)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        if fit(self, options.max_width):
            return super().__rich_console__(console, options)
        return listed(self, options.max_width, self.row_name)


def print_tables(out: Console, tables: Iterable[Cells]) -> None:
    """Print each table that has lines, after an empty line."""
    for headings, lines in tables:
        if lines:
            table = plain_table(*headings)
            for line in lines:
                table.add_row(*line)
            out.print()
            out.print(table)


def plain_table(*headings: str) -> PlainTable:
    """An empty table; a heading that begins with ">" is of figures, which are aligned to the right."""
    table = PlainTable(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    for heading in headings:
        right = heading.startswith(">")
        table.add_column(Text(heading.removeprefix(">")), justify="right" if right else "left", overflow="fold")
    return table
