"""Which results are drawn, and what a person reads of what was found."""

from __future__ import annotations

from typing import Any

from rich.console import Console

from mlpq.report.grades import print_grades, summary
from mlpq.store.queries import COLUMNS
from mlpq.verification.grading import Grade
from mlpq.verification.verify import sampled
from tests.support.job_steps import specs

IDS = [f"{number:08x}-0000-5000-8000-000000000000" for number in range(10)]


def found(number: int, grade: Grade, reason: str = "", **more: Any) -> dict[str, Any]:
    lists: dict[str, Any] = {"misfits": [], "unchecked": [], "figures": [], "differences": []}
    return {"job_id": IDS[number], "rerun_id": IDS[-1 - number], "grade": grade, "reason": reason, **lists, **more}


def rows() -> dict[str, dict[str, Any]]:
    jobs = specs(optimizer="sgd:lr=0.0125,momentum=0.9,nesterov=true", seeds="0..9")
    figures = {**dict.fromkeys(COLUMNS), "test_correct": 8705, "test_total": 10_000}
    return {id_: {**figures, **job.model_dump(mode="json"), "id": id_} for id_, job in zip(IDS, jobs, strict=True)}


def printed(*all_found: dict[str, Any]) -> list[str]:
    out = Console(width=80)
    with out.capture() as capture:
        print_grades(out, all_found, rows())
    return [line.rstrip() for line in capture.get().splitlines()]


def test_a_sample_is_the_same_for_the_same_seed_and_in_order() -> None:
    one = sampled(IDS, 4, seed=1)
    assert one == sampled(IDS, 4, seed=1) == sorted(one)
    assert len(set(one)) == 4
    assert len({tuple(sampled(IDS, 4, seed)) for seed in range(20)}) > 10
    assert sampled(IDS, 99, seed=1) == IDS


def test_the_table_has_80_columns_and_a_line_a_result() -> None:
    lines = printed(found(0, Grade.SAME_BITS), found(1, Grade.NOT_VERIFIED, "it was cancelled"))
    assert all(len(line) <= 80 for line in lines)
    assert lines[2].split()[-4:] == ["8705/10000", "8705/10000", "same", "bits"]
    assert "00000001: not verified: it was cancelled" in lines


def test_what_many_have_in_common_is_said_once() -> None:
    threads = {"differences": [{"field": "threads", "recorded": 1, "now": 2}]}
    lines = printed(*(found(number, Grade.SAME_BITS, **threads) for number in range(4)))
    assert [line for line in lines if "threads" in line] == ["all 4: environment: threads was 1, now 2"]


def test_what_differs_what_does_not_fit_and_what_was_not_checked_is_named() -> None:
    figures = [
        {"name": "test_correct", "recorded": 450, "now": 430, "agrees": False},
        {"name": "test_total", "recorded": 500, "now": 500, "agrees": True},
    ]
    lines = printed(found(3, Grade.REFUTED, "why", misfits=["seed: 1"], figures=figures, unchecked=["the weights: x"]))
    assert lines[-6:-2] == [
        "00000003: refuted: why",
        "00000003: does not fit: seed: 1",
        "00000003: test_correct was 450, now 430",
        "00000003: not checked: the weights: x",
    ]


def test_the_summary_counts_each_grade() -> None:
    all_bits = [found(number, Grade.SAME_BITS) for number in range(3)]
    assert summary(all_bits) == "3 of 3 results: same bits"
    assert summary(all_bits[:1]) == "1 of 1 result: same bits"
    mixed = [*all_bits, found(3, Grade.REFUTED), found(4, Grade.NOT_VERIFIED), found(5, Grade.REFUTED)]
    assert summary(mixed) == "3 of 6 results: same bits; 2: refuted; 1: not verified"
