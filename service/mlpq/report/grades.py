"""What `mlpq verify` found, as a table for the terminal and as JSON."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.text import Text

from mlpq import formatting
from mlpq.records import AnyJob, JobRecord
from mlpq.report.tables import Cells, plain_table
from mlpq.verification_records import EnvironmentDifference, FigureCheck, Grade, Verification

HEADINGS = ("job", "optimizer", ">seed", ">recorded", ">now", "grade")
GRADE_STYLES = {
    Grade.SAME_BITS: "green",
    Grade.SAME_FIGURES: "green",
    Grade.CONSISTENT: "yellow",
    Grade.REFUTED: "red",
    Grade.NOT_VERIFIED: "yellow",
}


def print_grades(out: Console, found: Sequence[Verification], jobs: Mapping[str, AnyJob]) -> None:
    """Print the grades, then what differs or is inconsistent, then a summary.

    `jobs` has the verified jobs and their reruns, by id.
    """
    headings, cells = grades_cells(found, jobs)
    table = plain_table(*headings)
    for each, (*others, _) in zip(found, cells, strict=True):
        table.add_row(*others, _grade(each))
    out.print(table)
    ids_by_note: dict[str, list[str]] = {}
    for each in found:
        for line in notes_on(each):
            ids_by_note.setdefault(line, []).append(formatting.short_id(each.job_id))
    if ids_by_note:
        out.print()
    for line, ids in ids_by_note.items():
        out.print(f"{_those(ids, len(found))}: {line}", markup=False, soft_wrap=True)
    out.print()
    out.print(summary(found), markup=False, soft_wrap=True)


def grades_cells(found: Sequence[Verification], jobs: Mapping[str, AnyJob]) -> Cells:
    """One line per result: what it is, the counts that were recorded and are found now, and the grade."""
    lines = []
    for each in found:
        job, rerun = jobs[each.job_id], jobs.get(each.rerun_id or "")
        if isinstance(job, JobRecord):
            own = [formatting.optimizer(job.spec), str(job.spec.seed)]
        else:
            own = [job.description, ""]
        grade = formatting.grade_text(each.grade)
        lines.append([formatting.short_id(job.id), *own, _correct(job), _correct(rerun), grade])
    return HEADINGS, lines


def notes_on(verification: Verification) -> list[str]:
    """The reason for the grade, what is inconsistent, what differs, and what was not checked."""
    grade = verification.grade
    lines = [] if grade is Grade.SAME_BITS else [f"{formatting.grade_text(grade)}: {verification.reason}"]
    lines += [f"inconsistent: {misfit}" for misfit in verification.misfits]
    lines += [_change(figure.name, figure) for figure in verification.figures if not figure.is_same]
    lines += [f"environment: {_change(each.field, each)}" for each in verification.differences]
    return lines + [f"not checked: {unchecked}" for unchecked in verification.unchecked]


def summary(found: Sequence[Verification]) -> str:
    """ "10 of 10 results: same bits", or "8 of 10 results: same bits; 2: refuted"."""
    counts = Counter(each.grade for each in found)
    parts = [f"{counts[grade]}: {formatting.grade_text(grade)}" for grade in Grade if counts[grade]]
    first, *rest = parts
    number, _, grade = first.partition(": ")
    return "; ".join([f"{number} of {formatting.count_of(len(found), 'result')}: {grade}", *rest])


def print_history(out: Console, found: Sequence[Verification]) -> None:
    """Print the stored verifications of one job, the latest last, and the notes on that one."""
    headings, lines = history_cells(found)
    table = plain_table(*headings)
    for each, (at, rerun, _) in zip(found, lines, strict=True):
        table.add_row(at, rerun, _grade(each))
    out.print(table)
    for line in notes_on(found[-1]):
        out.print(f"  {line}", markup=False, soft_wrap=True)


def history_cells(found: Sequence[Verification]) -> Cells:
    """One line for each stored verification of a job."""
    lines = []
    for each in found:
        at = f"{each.checked_at:%Y-%m-%d %H:%M:%S}" if each.checked_at else ""
        rerun = formatting.short_id(each.rerun_id) if each.rerun_id else ""
        lines.append([at, rerun, formatting.grade_text(each.grade)])
    return ("verified (UTC)", "rerun", "grade"), lines


def verification_document(verification: Verification) -> dict[str, Any]:
    """A verification as JSON; one that is not stored yet has no `checked_at`."""
    document = asdict(verification)
    if verification.checked_at is None:
        del document["checked_at"]
    return document


def _grade(verification: Verification) -> Text:
    return Text(formatting.grade_text(verification.grade), style=GRADE_STYLES[verification.grade])


def _correct(job: AnyJob | None) -> str:
    if not isinstance(job, JobRecord) or job.result is None:
        return ""
    return f"{job.result.test_correct}/{job.result.test_total}"


def _change(name: str, change: FigureCheck | EnvironmentDifference) -> str:
    recorded, now = _text(change.recorded), _text(change.now)
    if name.endswith("_sha256"):
        recorded, now = f"{recorded[:12]}…", f"{now[:12]}…"
    return f"{name} was {recorded}, now {now}"


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _those(ids: Sequence[str], of: int) -> str:
    if len(ids) == of > 1:
        return f"all {of}"
    return ", ".join(ids) if len(ids) <= 3 else f"{', '.join(ids[:3])} and {len(ids) - 3} more"
