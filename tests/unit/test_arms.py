"""Arms: each has every seed once, whatever the rows say."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from mlpq.analysis.arms import arms
from mlpq.analysis.comparison import compare
from mlpq.analysis.params import ComparisonParams
from mlpq.jobs import Outcome, Status
from mlpq.records import JobRecord
from mlpq.spec.job import JobSpec, spec_from
from mlpq.spec.parsing import parse_seeds
from mlpq.spec.sweep import Sweep
from tests.support.result_rows import job_record, job_result, specs, with_figures

PARENTS = specs(seeds="0..2")
ANCESTORS = [job_record(spec, number, 400) for number, spec in enumerate(PARENTS)]


def children(parent: int, seeds: str) -> list[JobRecord]:
    """Jobs with these seeds that continue from one of PARENTS."""
    (own,) = Sweep.parse({"dataset": "digits", "optimizer": "adam", "seeds": parent}).jobs(PARENTS[parent])
    jobs = [
        spec_from(**{**own.model_dump(mode="json"), "seed": seed}) for seed in parse_seeds(seeds)
    ]  # mlpq itself keeps the seed
    return [
        job_record(job, 100 * parent + job.seed + 10, 400 + job.seed, parent_id=ANCESTORS[parent].id) for job in jobs
    ]


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 3), st.integers(0, 1)), min_size=1, max_size=12))
def test_arm_has_each_seed_once_and_no_job_is_lost(picked: list[tuple[int, int, int]]) -> None:
    """Also for jobs that continue from several seeds of one arm, and for rows with a wrong hash."""
    records = []
    for number, (parent, seed, copy) in enumerate(picked):
        (job,) = children(parent, str(seed))
        hash_ = job.spec_hash if copy == 0 else f"{number:064x}"
        records.append(replace(job, id=f"{number:08x}-1111-5000-8000-000000000000", spec_hash=hash_))
    found = arms(records, ANCESTORS)
    for arm in found:
        seeds = [job.spec.seed for job in arm.records]
        assert len(set(seeds)) == len(seeds)
    assert {job.spec.hash for arm in found for job in arm.records} == {job.spec.hash for job in records}
    compare(records, ANCESTORS, {}, ComparisonParams())


def test_jobs_that_continue_from_two_seeds_are_two_arms_where_their_seeds_overlap() -> None:
    records = children(0, "0..3") + children(1, "2..5")
    assert [[job.spec.seed for job in arm.records] for arm in arms(records, ANCESTORS)] == [[0, 1, 2, 3], [2, 3, 4, 5]]
    assert len(arms(children(0, "0..1") + children(1, "2..3"), ANCESTORS)) == 1


def test_job_with_an_unreadable_parent_is_not_in_the_arm_of_jobs_without_one() -> None:
    (child,) = children(0, "5")
    alone = job_record(replace_parent(child), 7, result=job_result(child.spec, 400))
    assert len(arms([child, alone])) == 2


def replace_parent(child: JobRecord) -> JobSpec:
    return spec_from(**{**child.spec.model_dump(mode="json"), "parent": None})


def test_lineage_tells_arms_apart_though_no_seed_is_in_both() -> None:
    """Seeds that overlap would separate them anyhow."""
    grandparents = [job_record(spec, 10 + i, 400) for i, spec in enumerate(specs(lr="0.1,0.2"))]
    jobs = []
    for number, parent in enumerate(grandparents):
        (own,) = Sweep.parse({"dataset": "digits", "optimizer": "adam", "seeds": 42}).jobs(parent.spec)
        moved = spec_from(**{**own.model_dump(mode="json"), "seed": number})
        jobs.append(job_record(moved, 20 + number, 400, parent_id=parent.id))
    assert len(arms(jobs, grandparents)) == 2
    (child,) = children(0, "5")
    alone = spec_from(**{**child.spec.model_dump(mode="json"), "seed": 6, "parent": None})
    assert len(arms([child, job_record(alone, 7, 400)])) == 2


def test_job_that_is_its_own_ancestor_ends_its_lineage() -> None:
    """No program of mlpq writes such rows."""
    first, second = (job_record(spec, 30 + i, 400) for i, spec in enumerate(PARENTS[:2]))
    (arm,) = arms([replace(first, parent_id=second.id), replace(second, parent_id=first.id)])
    assert len(arm.records) == 2


def test_job_is_diverged_only_once_it_failed() -> None:
    (parent,) = [replace(job, status=Status.FAILED, outcome=Outcome.DIVERGED, result=None) for job in ANCESTORS[:1]]
    (child,) = children(0, "0")
    queued = replace(child, status=Status.BLOCKED, outcome=None, result=None)
    failed = replace(queued, status=Status.FAILED, outcome=Outcome.FAILED)
    assert [arms([job], [parent])[0].diverged for job in (child, queued, failed)] == [set(), set(), {0}]


def test_seconds_and_accuracy_of_an_arm_are_means() -> None:
    jobs = [with_figures(job, train_seconds=job.spec.seed + 1.0) for job in children(0, "0..2")]
    (arm,) = arms(jobs, ANCESTORS)
    assert arm.accuracy is not None
    assert (arm.seconds, arm.accuracy.mean, arm.parent) == (2.0, 401 / 500, ANCESTORS[0])
    (queued,) = arms([replace(jobs[0], status=Status.QUEUED, result=None)], ANCESTORS)
    assert (queued.seconds, queued.accuracy) == (None, None)
