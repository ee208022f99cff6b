"""Runs that diverged or never reached the target: they count as the worst there is, and their seeds stay."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlpq.analysis.arms import arms
from mlpq.analysis.fairness import notes
from mlpq.analysis.planning import seeds_for, seeds_missing
from mlpq.analysis.verdicts import verdict
from mlpq.jobs import Outcome, Status
from mlpq.records import JobRecord
from mlpq.report.comparison_tables import comparison_markup, sides_table, to_document
from mlpq.report.markup import MARKDOWN
from mlpq.report.tables import arm_lines, to_json
from tests.support.compared_arms import arm, compared, counts, diverged
from tests.support.result_rows import curve, failed_job, job_record, specs

SGD = arm(0, counts(*range(430, 442)), optimizer="sgd:lr=0.1")
ADAM = arm(50, counts(*range(435, 447)), optimizer="adam")


def partly_diverged(records: Sequence[JobRecord], seeds: set[int]) -> list[JobRecord]:
    return [diverged([job])[0] if job.spec.seed in seeds else job for job in records]


def test_a_diverged_run_counts_with_the_accuracy_of_chance() -> None:
    """Without the five seeds that diverged, adam would be better on the other seven."""
    found = compared(SGD, partly_diverged(ADAM, {0, 3, 5, 8, 11}))
    best, worst = found.sides
    assert (best.label, worst.label, worst.diverged) == ("sgd lr=0.1", "adam lr=0.001", (0, 3, 5, 8, 11))
    assert [worst.values[seed] for seed in worst.diverged] == [10] * 5
    assert (len(worst.values), worst.missing, len(found.pairs[0].seeds)) == (12, {}, 12)
    words = "adam lr=0.001: 5 of 12 seeds diverged (0,3,5,8,11), counted with the test accuracy of guessing, 10.00"
    assert words in notes(found)
    (line,) = [verdict(pair, found.metric) for pair in found.pairs]
    assert "; 5 of 12 seeds of adam lr=0.001 diverged" in line


def test_tables_and_documents_show_how_many_diverged() -> None:
    found = compared(SGD, partly_diverged(ADAM, {1, 2}))
    rows = {cells[0]: cells for cells in sides_table(found)[1]}
    assert rows["adam lr=0.001"][1] == "12, 2 diverged"
    assert "2 of 12 seeds diverged" in comparison_markup(found, [], MARKDOWN)
    document = json.loads(json.dumps(to_document(found, [])))
    counted = {each["arm"]: (each["diverged"], each["n"], each["left_out"]) for each in document["arms"]}
    assert counted == {"adam lr=0.001": (2, 12, {}), "sgd lr=0.1": (0, 12, {})}
    (line,) = arm_lines(arms(partly_diverged(ADAM, {1, 2})))
    assert line[1] == "12, 2 diverged"
    assert line[3] == "10.00"


@pytest.mark.parametrize(("metric", "worst"), [("accuracy", 10.0), ("validation", 10.0), ("loss", math.log(10))])
def test_each_metric_has_a_figure_for_a_diverged_run(metric: str, worst: float) -> None:
    (side,) = compared(diverged(SGD), metric=metric).sides
    assert set(side.values.values()) == {worst}


def test_a_job_whose_parent_diverged_counts_as_diverged() -> None:
    (parent,) = diverged(arm(0, {0: 400}, optimizer="sgd"))
    (spec,) = specs(seeds=0, optimizer="adam")
    child = failed_job(spec, 7, parent_id=parent.id)
    assert [side.diverged for side in compared([replace(child, outcome=None), parent]).sides] == [(0,), (0,)]
    lost = replace(parent, outcome=Outcome.LOST)
    assert [side.diverged for side in compared([child, lost]).sides] == [(), ()]


def test_a_plan_keeps_the_seeds_that_diverged() -> None:
    found = compared(SGD, partly_diverged(ADAM, {1, 2}))
    assert seeds_for(found, 12) == list(range(12))
    assert seeds_missing(found, seeds_for(found, 12)) == []
    lost = [replace(SGD[0], status=Status.FAILED, outcome=Outcome.LOST, result=None), *SGD[1:]]
    assert seeds_for(compared(lost, ADAM), 12) == list(range(1, 13))


def by_epochs(
    reached: Sequence[int | None], first: int, optimizer: str
) -> tuple[list[JobRecord], dict[str, list[int]]]:
    """An arm of 8 epochs that reaches 85 % after these numbers of epochs, or never; and its test counts by job."""
    jobs = arm(first, counts(*[400] * len(reached)), optimizer=optimizer)
    curves = {
        job.id: [90 if at is not None and epoch >= at else 10 for epoch in range(1, 9)]
        for job, at in zip(jobs, reached, strict=True)
    }
    return jobs, curves


def test_a_target_that_was_never_reached_is_slower_than_any_other_and_tested_by_signs() -> None:
    """Of the runs that reached it, sgd is the faster one."""
    adam, fast = by_epochs([5, 6, 5, 6, 5, 6, 5, 6], 0, "adam")
    sgd, slow = by_epochs([4, None, None, None, None, None, None, None], 50, "sgd")
    curves = {job: curve(counts) for job, counts in {**fast, **slow}.items()}
    found = compared(adam, sgd, metric="epochs", target="85", curves=curves)
    (pair,) = found.pairs
    assert (pair.a.label, len(pair.seeds), pair.a.missed, pair.b.missed) == (
        "adam", 8, (), tuple(range(1, 8)),
    )  # fmt: skip
    assert pair.paired is not None
    assert (pair.paired.by_signs, pair.paired.p_value) == (True, 2 * 9 / 2**8)
    assert pair.differences == [1, -1, -1, -1, -1, -1, -1, -1]
    assert "sgd: 7 of 8 seeds never reached 85 % (1..7), counted as slower than any that reached it" in notes(found)
    (_, row) = sides_table(found)[1]
    assert row[1:3] == ["8, 7 never", "median ∞"]
    document = json.loads(to_json(to_document(found, [])))
    assert [each["missed_target"] for each in document["arms"]] == [0, 7]
    assert document["pairs"][0]["test"] == "signs"
    assert document["pairs"][0]["superiority"] == 7 / 8


@settings(max_examples=30)  # each compares several times
@given(st.lists(st.tuples(st.integers(50, 500), st.integers(50, 500)), min_size=2, max_size=8), st.data())
def test_a_seed_that_diverges_never_improves_an_arm(figures: list[tuple[int, int]], data: st.DataObject) -> None:
    one = arm(0, counts(*(figure for figure, _ in figures)), optimizer="sgd")
    two = arm(50, counts(*(figure for _, figure in figures)), optimizer="adam")
    seed = data.draw(st.integers(0, len(figures) - 1))

    def advantage(records: list[JobRecord]) -> tuple[float, float, float]:
        """Of sgd: mean, difference and P(sgd better)."""
        (pair,) = compared(records, two).pairs
        sign = 1 if pair.a.label.startswith("sgd") else -1
        assert pair.paired is not None
        better = pair.paired.better if sign > 0 else 1 - pair.paired.better
        (side,) = [side for side in (pair.a, pair.b) if side.label.startswith("sgd")]
        assert side.summary is not None
        return side.summary.mean, sign * pair.paired.difference, better

    before, after = advantage(one), advantage(partly_diverged(one, {seed}))
    assert all(new <= old + 1e-9 for old, new in zip(before, after, strict=True))


@settings(max_examples=30)  # each compares several times
@given(
    st.lists(st.tuples(st.integers(0, 500), st.integers(0, 500)), min_size=1, max_size=8),
    st.randoms(use_true_random=False),
)
def test_the_order_of_jobs_and_of_arms_changes_nothing(figures: list[tuple[int, int]], random: object) -> None:
    one = arm(0, counts(*(figure for figure, _ in figures)), validated=50, optimizer="sgd")
    two = arm(50, counts(*(figure for _, figure in figures)), validated=50, optimizer="adam")
    third = arm(90, counts(*(figure for _, figure in figures)), validated=50, optimizer="adam:lr=0.1")
    records = [*one, *two, *third]
    shuffled = list(records)
    assert hasattr(random, "shuffle")
    random.shuffle(shuffled)
    assert to_document(compared(shuffled, by="optimizer"), []) == to_document(compared(records, by="optimizer"), [])
    assert to_document(compared(two, one), []) == to_document(compared(one, two), [])


def test_an_unfinished_seed_holds_the_later_pairs_back_from_the_anytime_test() -> None:
    """The order of the pairs is fixed; otherwise the jobs that finish first would choose it."""
    slow = list(ADAM)
    slow[4] = job_record(ADAM[4].spec, 54)
    (pair,) = compared(SGD, slow).pairs
    assert pair.anytime is not None
    assert (len(pair.seeds), pair.anytime.n) == (11, 4)
    lost = [*SGD[:4], failed_job(SGD[4].spec, 4), *SGD[5:]]
    (never,) = compared(lost, slow).pairs
    assert never.anytime is not None
    assert never.anytime.n == 11  # seed 4 will never be a pair
    (whole,) = compared(SGD, ADAM).pairs
    assert whole.anytime is not None
    assert whole.anytime.n == 12


def test_the_verdict_while_jobs_run_is_that_of_the_anytime_test() -> None:
    slow = [*ADAM[:-1], job_record(ADAM[-1].spec, 61)]
    found = compared(SGD, slow)
    assert found.is_running
    document = to_document(found, [])
    line = document["pairs"][0]["verdict"]
    assert line.startswith("so far, adam lr=0.001 is better than sgd lr=0.1 by 1.00 ")
    assert "fixed beforehand" not in line
    early = to_document(
        compared(SGD, [*ADAM[:5], *(job_record(job.spec, 80 + i) for i, job in enumerate(ADAM[5:]))]), []
    )
    assert early["pairs"][0]["verdict"].startswith("not decided yet between adam lr=0.001 and sgd lr=0.1: 1.00 ")
