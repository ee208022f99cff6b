"""Arms: each has every seed once, whatever the rows say."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from mlpq.analysis.arms import arms
from mlpq.analysis.comparison import compare
from mlpq.analysis.params import ComparisonParams
from mlpq.records import JobRecord
from mlpq.spec.job import JobSpec, spec_from
from mlpq.spec.parsing import parse_seeds
from mlpq.spec.sweep import Sweep
from tests.support.result_rows import job_record, job_result, specs

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
