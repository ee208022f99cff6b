"""The sample of `mlpq verify`, and the table, notes and JSON of what it found."""

from __future__ import annotations

import json
from typing import Any

from rich.console import Console

from mlpq.records import JobRecord
from mlpq.report.grades import print_grades, print_history, summary, verification_document
from mlpq.verification.verify import sampled
from mlpq.verification_records import EnvironmentDifference, FigureCheck, Grade, Verification
from tests.support.result_rows import SUBMITTED, job_id, job_record, specs, with_figures

IDS = [job_id(number) for number in range(10)]


def found(number: int, grade: Grade, reason: str = "", **changes: Any) -> Verification:
    nothing: dict[str, Any] = {"misfits": [], "unchecked": [], "figures": [], "differences": []}
    return Verification(IDS[number], IDS[-1 - number], grade, reason, **{**nothing, **changes})


def jobs() -> dict[str, JobRecord]:
    some = specs(optimizer="sgd:lr=0.0125,momentum=0.9,nesterov=true", seeds="0..9")
    records = [job_record(spec, number, 8705) for number, spec in enumerate(some)]
    return {job.id: with_figures(job, test_total=10_000) for job in records}


def printed(*all_found: Verification) -> list[str]:
    out = Console(width=80)
    with out.capture() as capture:
        print_grades(out, all_found, jobs())
    return [line.rstrip() for line in capture.get().splitlines()]


def test_a_sample_is_ordered_and_determined_by_its_seed() -> None:
    one = sampled(IDS, 4, seed=1)
    assert one == sampled(IDS, 4, seed=1) == sorted(one)
    assert len(set(one)) == 4
    assert len({tuple(sampled(IDS, 4, seed)) for seed in range(20)}) > 10
    assert sampled(IDS, 99, seed=1) == IDS


def test_the_table_has_80_columns_and_one_line_per_result() -> None:
    lines = printed(found(0, Grade.SAME_BITS), found(1, Grade.NOT_VERIFIED, "it was cancelled"))
    assert all(len(line) <= 80 for line in lines)
    assert lines[2].split()[-4:] == ["8705/10000", "8705/10000", "same", "bits"]
    assert "00000001: not verified: it was cancelled" in lines


def test_a_note_on_several_results_is_printed_once() -> None:
    threads = [EnvironmentDifference("threads", 1, 2)]
    lines = printed(*(found(number, Grade.SAME_BITS, differences=threads) for number in range(4)))
    assert [line for line in lines if "threads" in line] == ["all 4: environment: threads was 1, now 2"]


def test_notes_list_what_differs_is_inconsistent_or_was_not_checked() -> None:
    figures = [FigureCheck("test_correct", 450, 430, False), FigureCheck("test_total", 500, 500, True)]
    lines = printed(found(3, Grade.REFUTED, "why", misfits=["seed: 1"], figures=figures, unchecked=["the weights: x"]))
    assert lines[-6:-2] == [
        "00000003: refuted: why",
        "00000003: inconsistent: seed: 1",
        "00000003: test_correct was 450, now 430",
        "00000003: not checked: the weights: x",
    ]


def test_the_history_of_a_job_has_the_notes_on_its_last_verification() -> None:
    out = Console(width=80)
    with out.capture() as capture:
        last = found(0, Grade.REFUTED, "why", checked_at=SUBMITTED)
        print_history(out, [found(0, Grade.CONSISTENT, "chance", checked_at=SUBMITTED), last])
    lines = [line.rstrip() for line in capture.get().splitlines()]
    assert lines[2:] == [
        "2026-03-02 09:30:00  00000009  consistent",
        "2026-03-02 09:30:00  00000009  refuted",
        "  refuted: why",
    ]


def test_the_summary_counts_each_grade() -> None:
    all_bits = [found(number, Grade.SAME_BITS) for number in range(3)]
    assert summary(all_bits) == "3 of 3 results: same bits"
    assert summary(all_bits[:1]) == "1 of 1 result: same bits"
    mixed = [*all_bits, found(3, Grade.REFUTED), found(4, Grade.NOT_VERIFIED), found(5, Grade.REFUTED)]
    assert summary(mixed) == "3 of 6 results: same bits; 2: refuted; 1: not verified"


def test_the_json_of_a_new_verification_has_its_findings() -> None:
    figures, differences = [FigureCheck("test_total", 500, 500, True)], [EnvironmentDifference("threads", 1, None)]
    document = verification_document(found(0, Grade.SAME_BITS, "why", figures=figures, differences=differences))
    assert list(json.loads(json.dumps(document)).items()) == [
        ("job_id", IDS[0]),
        ("rerun_id", IDS[9]),
        ("grade", "same_bits"),
        ("reason", "why"),
        ("misfits", []),
        ("unchecked", []),
        ("figures", [{"name": "test_total", "recorded": 500, "now": 500, "agrees": True}]),
        ("differences", [{"field": "threads", "recorded": 1, "now": None}]),
    ]
    assert verification_document(found(0, Grade.SAME_BITS, checked_at=SUBMITTED))["checked_at"] == SUBMITTED
