"""What the number of a result's arithmetic promises, in grades and in comparisons."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from mlpq.analysis.comparison import compare
from mlpq.analysis.fairness import notes
from mlpq.analysis.params import ComparisonParams
from mlpq.jobs import Engine
from mlpq.verification.grading import Run, judge
from mlpq.verification_records import Grade
from mlpq.worker_records import WorkerCapabilities
from tests.support.job_steps import RESULT, epoch
from tests.support.result_rows import job_record, specs, with_figures

HERE = {"cpu": "EPYC", "threads": 1, "device": "cpu", "world_size": 1, "arithmetic": 1, "kernel": "avx512"}
ELSEWHERE = {**HERE, "cpu": "Cortex", "threads": 8, "kernel": "plain", "os": "macOS", "python": "3.14"}
OTHER_WEIGHTS: dict[str, Any] = {"weights_sha256": "cd" * 32}


def run(facts: dict[str, Any], arithmetic: int | None = 1, **figures: Any) -> Run:
    engine = Engine.GANG if arithmetic is None else Engine.KERNEL
    return Run(replace(RESULT, engine=engine, arithmetic=arithmetic, **figures), [epoch(1), epoch(2)], facts)


def test_other_bits_of_the_same_arithmetic_are_refuted_in_any_environment() -> None:
    found = judge(run(HERE), run(ELSEWHERE, **OTHER_WEIGHTS))
    assert found.grade is Grade.REFUTED
    assert found.reason == (
        "with arithmetic 1, on every CPU, the same spec gives the same bits, and this rerun did not"
    )
    assert {each.field for each in found.differences} == {"cpu", "threads", "kernel", "os", "python"}
    assert judge(run(HERE), run(ELSEWHERE)).grade is Grade.SAME_BITS


@pytest.mark.parametrize(
    ("recorded", "now", "names"),
    [
        (1, 2, "recorded by the kernel (arithmetic 1), now by the kernel (arithmetic 2), which round differently"),
        (None, 1, "recorded by torch's stacked engine, now by the kernel (arithmetic 1), which round differently"),
    ],
)
def test_figures_count_and_both_are_named_where_the_arithmetic_differs(
    recorded: int | None, now: int | None, names: str
) -> None:
    """Also in an equal environment."""
    found = judge(run(HERE, recorded), run(HERE, now, **OTHER_WEIGHTS))
    assert found.grade is Grade.SAME_FIGURES
    assert found.reason == f"counts within ±1, losses within 0.1 %; {names}"
    assert judge(run(HERE, recorded), run(HERE, now)).reason == "weights, figures and curve have the same bits"


def test_other_engine_of_torch_in_an_equal_environment_refutes_nothing() -> None:
    other = run(HERE, None, **OTHER_WEIGHTS)
    plain = replace(other, result=replace(other.result, engine=Engine.PLAIN))
    assert judge(run(HERE, None), other).grade is Grade.REFUTED
    assert judge(run(HERE, None), plain).grade is Grade.SAME_FIGURES


def test_results_of_different_arithmetics_are_noted() -> None:
    each = specs(optimizer=["sgd:lr=0.1", "adam"], seeds="0,1")
    jobs = [job_record(spec, number, 440 + number) for number, spec in enumerate(each)]

    def noted(*numbers: int | None) -> list[str]:
        records = [with_figures(job, arithmetic=number) for job, number in zip(jobs, numbers, strict=True)]
        return notes(compare(records, [], {}, ComparisonParams(by="optimizer")))

    assert noted(None, 1, 1, 2) == [
        "different arithmetics: 2 results of arithmetic 1, 1 result of arithmetic 2, 1 result of torch; equal specs "
        "differ between them by rounding"
    ]
    assert noted(1, 1, 1, 1) == noted(None, None, None, None) == []


def test_kernel_trains_jobs_of_world_size_1_that_do_not_request_torch() -> None:
    both = WorkerCapabilities("cpu", most_ranks=2, kernel=True)
    assert [both.uses_kernel(1, engine) for engine in (None, *Engine)] == [True, False, False, True]
    assert not any(both.uses_kernel(2, engine) for engine in (None, *Engine))
    assert all(replace(both, torch=False).uses_kernel(1, engine) for engine in (None, *Engine))
    assert not any(replace(both, kernel=False).uses_kernel(1, engine) for engine in (None, *Engine))
