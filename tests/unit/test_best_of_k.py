"""The best of k settings: of one optimizer on one split of one data set, by validation accuracy, over common seeds."""

from __future__ import annotations

from typing import Any

import pytest

from mlpq.analysis.best_of_k import BestOf, best_of
from mlpq.analysis.summary import summarize
from mlpq.records import JobRecord
from mlpq.report.comparison_tables import best_of_table
from mlpq.spec.sweep import Sweep
from tests.support.compared_arms import arm, counts, diverged
from tests.support.result_rows import failed_job, job_record, with_figures


def settings(first: int = 0, optimizer: str = "sgd", **keys: Any) -> list[JobRecord]:
    """Two settings with two seeds each: the first one has the better validation accuracy."""
    return [
        job
        for i, (lr, validated) in enumerate(((0.1, 90), (0.5, 80)))
        for job in arm(
            first + 10 * i, counts(400 + 20 * i, 410 + 20 * i), validated, optimizer=optimizer, lr=lr, **keys
        )
    ]


def found(records: list[JobRecord], ancestors: list[JobRecord] | None = None) -> list[tuple[str, int, list[float]]]:
    """Name, number of settings and means of each optimizer."""
    each = best_of(records, ancestors or [])
    return [(one.optimizer, one.settings, [round(summary.mean, 6) for summary in one.expected]) for one in each]


def test_each_optimizer_has_its_own_settings() -> None:
    both = [*settings(), *settings(100, "adam")]
    assert found(both) == [("sgd", 2, [83.0, 81.0]), ("adam", 2, [83.0, 81.0])]
    assert found([*settings(), *arm(100, counts(400, 400), 90, optimizer="adam")]) == [("sgd", 2, [83.0, 81.0])]


def test_settings_of_other_splits_are_not_pooled() -> None:
    other = [
        with_figures(job_record(spec, 100 + i, 450), validation_correct=99, validation_total=100)
        for i, lr in enumerate((0.1, 0.5))
        for spec in Sweep.parse({"dataset": "digits", "validation": 0.2, "lr": lr, "seeds": "0"}).jobs()
    ]
    assert found([*settings(), *other[:1]]) == [("sgd", 2, [83.0, 81.0])]
    assert found([*settings(), *other]) == [("sgd", 2, [83.0, 81.0]), ("sgd", 2, [90.0, 90.0])]


def test_settings_on_other_data_are_not_pooled_and_named_for_them() -> None:
    both = [*settings(), *settings(100, dataset="mnist")]
    assert [each[:2] for each in found(both)] == [("sgd, digits", 2), ("sgd, mnist", 2)]
    assert [each[:2] for each in found([*settings(), *arm(100, counts(400), 90, dataset="mnist")])] == [
        ("sgd, digits", 2)
    ]


def test_jobs_that_continue_from_others_are_not_pooled_with_new_ones() -> None:
    parents = settings(200, "adam", epochs=3)
    children = [
        with_figures(
            job_record(spec, 300 + i, 480, parent_id=parent.id), validation_correct=95, validation_total=100
        )
        for i, parent in enumerate(parents)
        for spec in Sweep.parse(
            {"dataset": "digits", "validation": 0.1, "lr": 0.1, "seeds": parent.spec.seed}
        ).jobs(parent.spec)
    ]  # fmt: skip
    assert found([*settings(), *children], parents) == [("sgd", 2, [83.0, 81.0]), ("sgd", 2, [96.0, 96.0])]
    assert found([*settings(), *children[:2]], parents) == [("sgd", 2, [83.0, 81.0])]


def test_formulas_of_one_name_are_not_pooled() -> None:
    texts = "mine: p = p - lr*g", "mine: p = p - lr*sign(g)"
    jobs = [job for i, text in enumerate(texts) for job in settings(100 * i, "mine", formula=text)]
    assert found(jobs) == [("mine", 2, [83.0, 81.0])] * 2


def test_jobs_without_a_validation_split_are_left_out() -> None:
    jobs = [*arm(0, counts(400), lr=0.1), *arm(10, counts(410), lr=0.5)]
    assert found(jobs) == []
    assert found([*jobs, *settings(100)]) == [("sgd", 2, [83.0, 81.0])]


def test_only_seeds_that_have_a_result_of_every_setting_count() -> None:
    jobs = settings()
    queued = job_record(jobs[3].spec, 3)
    failed = failed_job(jobs[3].spec, 3)
    unvalidated = with_figures(jobs[3], validation_correct=None, validation_total=None)
    for lost in (queued, failed, unvalidated):
        (each,) = best_of([*jobs[:3], lost])
        assert (each.seeds, [summary.n for summary in each.expected]) == ((0,), [1, 1])
    (wild,) = best_of([*jobs[:3], *diverged(jobs[3:])])
    assert wild.seeds == (0, 1)
    assert [summary.mean for summary in wild.expected] == pytest.approx([(82 + 46) / 2, 81])


def test_a_diverged_run_is_the_worst_even_beside_a_validation_accuracy_of_0() -> None:
    jobs = settings()
    low = [with_figures(job, validation_correct=0) for job in jobs[:2]]
    (each,) = best_of([*low, *diverged(jobs[2:])])
    assert each.expected[1].mean == 81.0


def test_the_table_has_the_first_numbers_of_settings_and_the_last() -> None:
    """Numbers between them would make a long table."""

    def rows(number: int) -> list[str]:
        expected = tuple(summarize([80.0 + k, 82.0 + k]) for k in range(1, number + 1))
        headings, lines = best_of_table([BestOf("sgd", number, (0, 1), expected)])
        assert {line[0] for line in lines} == {f"sgd ({number} settings)"}
        assert [line[2:] for line in lines] == [[f"{81 + int(line[1]):.2f} ± 1.41", "2"] for line in lines]
        assert len(headings) == len(lines[0])
        return [line[1] for line in lines]

    assert rows(2) == ["1", "2"]
    assert rows(3) == ["1", "2", "3"]
    assert rows(4) == ["1", "2", "3", "4"]
    assert rows(6) == ["1", "2", "3", "5", "6"]
    assert rows(120) == ["1", "2", "3", "5", "10", "20", "50", "100", "120"]


def test_the_table_says_where_no_seed_has_every_setting() -> None:
    (line,) = best_of_table([BestOf("sgd", 2, (), ())])[1]
    assert line == ["sgd (2 settings)", "", "no seed has a result of every setting", "0"]
