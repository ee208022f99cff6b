"""Tables for the terminal, and the same rows as JSON, CSV and Markdown."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import IO, Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from mlpq import formatting
from mlpq.analysis.arms import Arm, arms
from mlpq.spec.job import JobSpec
from mlpq.spec.presets import FIGURES, Figure

Row = Mapping[str, Any]
Cells = tuple[tuple[str, ...], list[list[str]]]  # headings, those of figures with ">" before them, and lines

STATUS_STYLES = {
    "succeeded": "green",
    "running": "cyan",
    "failed": "red",
    "diverged": "red",
    "cancelled": "yellow",
    "blocked": "dim",
    "queued": "dim",
}


FILE_WIDTH = 160  # columns
ARM_HEADINGS = ("arm", "n", "test %, mean ± sd", "worst", "best", "time")


def console(stderr: bool = False, file: IO[str] | None = None) -> Console:
    """The terminal; where the output is a file or a pipe, lines are not broken to fit one."""
    found = Console(stderr=stderr, file=file, highlight=False)
    return found if found.is_terminal else Console(stderr=stderr, file=file, highlight=False, width=FILE_WIDTH)


def jobs_table(rows: Sequence[Row]) -> Table:
    """One line a job: what it is and where it stands."""
    table = plain_table("job", "experiment", "model", "optimizer", ">seed", "status", ">test")
    for row in rows:
        table.add_row(
            formatting.short_id(row["id"]),
            row["experiment"],
            formatting.model(row),
            formatting.optimizer(row),
            str(row["seed"]),
            _status(row),
            formatting.percent(row["test_accuracy"]),
        )
    return table


def workers_table(rows: Sequence[Row]) -> Table:
    """One line a worker, in 80 columns."""
    table = plain_table("worker", "device", ">running", ">done", ">last beat")
    for row in rows:
        device = f"{row['device']}: {row['model']}"
        ago = f"{formatting.seconds((row['now'] - row['beat_at']).total_seconds())} ago"
        table.add_row(row["name"], device, str(row["jobs_running"]), str(row["jobs_done"]), ago)
    return table


def worker_facts(row: Row) -> dict[str, Any]:
    """A worker as JSON."""
    host, process, _ = row["name"].rsplit(":", 2)
    return {"host": host, "process": int(process), **{name: value for name, value in row.items() if name != "now"}}


def results_table(rows: Sequence[Row]) -> Table:
    """One line a job with its figures, in 80 columns; one without a result shows its status instead."""
    table = plain_table("job", "model", "optimizer", ">seed", ">epochs", ">correct", ">test %", ">time")
    for row in rows:
        *figures, time = results_cells(row)
        table.add_row(*figures, time if row["status"] == "succeeded" else _status(row))
    return table


def results_cells(row: Row) -> list[str]:
    run, planned = row["epochs_run"], row["epochs"]
    return [
        formatting.short_id(row["id"]),
        formatting.model(row),
        formatting.optimizer(row),
        str(row["seed"]),
        f"{run} of {planned}" if run and run != planned else str(planned),
        "" if row["test_correct"] is None else f"{row['test_correct']}/{row['test_total']}",
        formatting.percent(row["test_accuracy"]).removesuffix(" %"),
        formatting.seconds(row["train_seconds"]) if row["status"] == "succeeded" else formatting.status(row),
    ]


def arms_table(found: Sequence[Arm]) -> Table:
    """One line an arm: n, mean ± standard deviation over its seeds, worst and best."""
    table = plain_table(*(("" if index == 0 else ">") + heading for index, heading in enumerate(ARM_HEADINGS)))
    for arm in found:
        table.add_row(*arm_cells(arm))
    return table


def arm_cells(arm: Arm) -> list[str]:
    label = f"{formatting.model(arm.first)}, {formatting.optimizer(arm.first)}"
    if arm.parent is not None:
        label += f", on from {formatting.optimizer(arm.parent)}"
    if arm.accuracy is None:
        return [label, f"0 of {len(arm.rows)}", "", "", "", ""]
    n = str(arm.accuracy.n) if arm.accuracy.n == len(arm.rows) else f"{arm.accuracy.n} of {len(arm.rows)}"
    ends = [f"{100 * end:.2f}" for end in (arm.accuracy.least, arm.accuracy.most)] if arm.accuracy.n > 1 else ["", ""]
    return [label, n, formatting.spread(arm.accuracy), *ends, formatting.seconds(arm.seconds)]


def print_results(rows: Sequence[Row], ancestors: Sequence[Row]) -> None:
    """The jobs, and below them the arms where one has several seeds: no mean without its n and spread."""
    out = console()
    out.print(results_table(rows))
    found = arms(rows, ancestors)
    if len(found) < len(rows):
        out.print()
        out.print(arms_table(found))
    for row in rows:
        if row["error"]:
            out.print(f"{formatting.short_id(row['id'])}: {row['error']}", markup=False)


def plan_table(specs: Sequence[JobSpec]) -> Table:
    """One line an arm of a submission that was only planned."""
    table = plain_table("model", "optimizer", ">epochs", ">batch", ">parameters", "seeds", ">jobs")
    by_hash = {spec.hash: spec for spec in specs}
    rows = [
        {
            **spec.model_dump(mode="json"),
            "id": spec.hash,
            "spec_hash": spec.hash,
            "parent_id": spec.parent if spec.parent in by_hash else None,
            "status": "planned",
            "test_accuracy": None,
        }
        for spec in specs
    ]
    for arm in arms(rows):
        first = by_hash[arm.first["id"]]
        seeds = [row["seed"] for row in arm.rows]
        table.add_row(
            formatting.model(arm.first), formatting.optimizer(arm.first), str(first.epochs), str(first.batch_size),
            f"{first.parameters:,}", formatting.seeds(seeds), str(len(arm.rows)),
        )  # fmt: skip
    return table


def textbook_table(rows: Sequence[Row], curves: Mapping[str, Sequence[Row]]) -> Table | None:
    """The source's figures beside ours, by count; None where these jobs are not the source's protocol."""
    protocol = {"dataset": "fashion-mnist", "seed": 42, "epochs": 10, "batch_size": 32}
    if any(row[key] != value for row in rows for key, value in protocol.items()):
        return None
    table = plain_table("textbook", ">epochs", ">it prints", ">its loop", ">ours", ">ours %", ">off by")
    for figure in FIGURES:
        correct, total = _reached(figure, rows, curves)
        ours = formatting.percent(None if correct is None else correct / total).removesuffix(" %")
        difference = "" if correct is None else f"{correct - figure.counted:+d}".replace("+0", "0")
        table.add_row(
            figure.run, str(figure.epoch), figure.printed, f"{figure.counted}/10000",
            "" if correct is None else f"{correct}/{total}", ours, difference,
        )  # fmt: skip
    return table


def _reached(figure: Figure, rows: Sequence[Row], curves: Mapping[str, Sequence[Row]]) -> tuple[int | None, int]:
    for row in rows:
        same = (row["optimizer"], tuple(row["hidden"]), row["parent_id"] is not None)
        if same == (figure.optimizer, figure.hidden, figure.goes_on):
            for epoch in curves[row["id"]]:
                if epoch["epoch"] == figure.epoch:
                    return epoch["test_correct"], epoch["test_total"]
    return None, 0


def to_json(document: Any) -> str:
    """JSON, indented; times in ISO 8601 with their zone."""
    return json.dumps(document, indent=2, default=datetime.isoformat)


def to_csv(rows: Sequence[Row], columns: Sequence[str]) -> str:
    """A heading and one line a row; times in ISO 8601, lists and mappings as JSON, hidden layers as "1000,500"."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([[_csv_cell(name, row[name]) for name in columns] for row in rows])
    return out.getvalue().rstrip("\n")


def results_markdown(rows: Sequence[Row], ancestors: Sequence[Row], heading: str | None) -> str:
    """The tables of jobs and of arms as Markdown, under a heading or none."""
    columns = ["job", "model", "optimizer", "seed", "epochs", "correct", "test %", "time"]
    jobs = markdown(columns, [results_cells(row) for row in rows])
    summary = markdown(ARM_HEADINGS, [arm_cells(arm) for arm in arms(rows, ancestors)])
    title = f"## {heading}\n\n" if heading else ""
    return f"{title}{jobs}\n\n{summary}\n"


def _csv_cell(name: str, value: object) -> object:
    if name == "hidden" and isinstance(value, list):
        return ",".join(map(str, value)) if value else "none"
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, bool):
        return str(value).lower()
    return json.dumps(value) if isinstance(value, (dict, list)) else value


def markdown(heading: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """A table in Markdown; what would end a cell or a row is written otherwise."""
    cells = [[cell.replace("|", "\\|").replace("\n", "<br>") for cell in line] for line in (heading, *lines)]
    rows = [cells[0], ["---"] * len(heading), *cells[1:]]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _status(row: Row) -> Text:
    word = formatting.status(row)
    return Text(word, style=STATUS_STYLES[word])


class PlainTable(Table):
    """A table whose cells are text as it stands: what people typed is never read as markup."""

    def add_row(self, *cells: Any, **options: Any) -> None:
        super().add_row(*(Text(cell) if isinstance(cell, str) else cell for cell in cells), **options)


def print_tables(out: Console, tables: Iterable[Cells]) -> None:
    """Each with an empty line before it; those without a line of cells are left out."""
    for headings, lines in tables:
        if lines:
            table = plain_table(*headings)
            for line in lines:
                table.add_row(*line)
            out.print()
            out.print(table)


def plain_table(*headings: str) -> PlainTable:
    """Headings that begin with ">" stand at the right, as figures do."""
    table = PlainTable(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    for heading in headings:
        right = heading.startswith(">")
        table.add_column(heading.lstrip(">"), justify="right" if right else "left", no_wrap=right, overflow="fold")
    return table
