"""What `mlpq verify` found, for people."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.text import Text

from mlpq import formatting
from mlpq.report.tables import plain_table
from mlpq.verification.grading import Grade, shown

Row = Mapping[str, Any]

GRADE_STYLES = {
    Grade.SAME_BITS: "green",
    Grade.SAME_FIGURES: "green",
    Grade.CONSISTENT: "yellow",
    Grade.REFUTED: "red",
    Grade.NOT_VERIFIED: "yellow",
}


def print_grades(out: Console, found: Sequence[Row], rows: Mapping[str, Row]) -> None:
    """The grades, what differs or doesn't fit, and a summary; `rows` are the jobs and those that ran them again."""
    table = plain_table("job", "optimizer", ">seed", ">recorded", ">now", "grade")
    for each in found:
        row, rerun = rows[each["job_id"]], rows.get(each["rerun_id"])
        table.add_row(
            formatting.short_id(row["id"]), formatting.optimizer(row), str(row["seed"]), _correct(row),
            _correct(rerun) if rerun else "", _grade(each),
        )  # fmt: skip
    out.print(table)
    notes: dict[str, list[str]] = {}
    for each in found:
        for line in notes_on(each):
            notes.setdefault(line, []).append(formatting.short_id(each["job_id"]))
    if notes:
        out.print()
    for line, ids in notes.items():
        out.print(f"{_those(ids, len(found))}: {line}", markup=False, soft_wrap=True)
    out.print()
    out.print(summary(found), markup=False, soft_wrap=True)


def notes_on(found: Row) -> list[str]:
    """What there is to say beside the grade: why, what doesn't fit, what differs, and what was not checked."""
    grade = Grade(found["grade"])
    lines = [] if grade is Grade.SAME_BITS else [f"{grade.words}: {found['reason']}"]
    lines += [f"does not fit: {misfit}" for misfit in found["misfits"]]
    lines += [_change(figure["name"], figure) for figure in found["figures"] if figure["recorded"] != figure["now"]]
    lines += [f"environment: {_change(each['field'], each)}" for each in found["differences"]]
    return lines + [f"not checked: {what}" for what in found["unchecked"]]


def summary(found: Sequence[Row]) -> str:
    """ "10 of 10 results: same bits", or "8 of 10 results: same bits; 2: refuted"."""
    counts = Counter(Grade(each["grade"]) for each in found)
    parts = [f"{counts[grade]}: {grade.words}" for grade in Grade if counts[grade]]
    first, *rest = parts
    number, _, grade = first.partition(": ")
    return "; ".join([f"{number} of {formatting.count_of(len(found), 'result')}: {grade}", *rest])


def print_history(out: Console, found: Sequence[Row]) -> None:
    """All that was found about one job, the latest last."""
    table = plain_table("verified (UTC)", "by", "grade")
    for each in found:
        by = formatting.short_id(each["rerun_id"]) if each["rerun_id"] else ""
        table.add_row(f"{each['checked_at']:%Y-%m-%d %H:%M:%S}", by, _grade(each))
    out.print(table)
    for line in notes_on(found[-1]):
        out.print(f"  {line}", markup=False, soft_wrap=True)


def _grade(found: Row) -> Text:
    grade = Grade(found["grade"])
    return Text(grade.words, style=GRADE_STYLES[grade])


def _correct(row: Row) -> str:
    return "" if row["test_correct"] is None else f"{row['test_correct']}/{row['test_total']}"


def _change(name: str, found: Row) -> str:
    recorded, now = shown(found["recorded"]), shown(found["now"])
    if name == "weights_sha256":
        recorded, now = f"{recorded[:12]}…", f"{now[:12]}…"
    return f"{name} was {recorded}, now {now}"


def _those(ids: Sequence[str], of: int) -> str:
    if len(ids) == of > 1:
        return f"all {of}"
    return ", ".join(ids) if len(ids) <= 3 else f"{', '.join(ids[:3])} and {len(ids) - 3} more"
