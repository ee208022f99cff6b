"""Specs that are not valid here, such as those of another version of mlpq, are listed, and audited by verify."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import select, update

from mlpq.errors import StoreError
from mlpq.store import queries
from mlpq.store.schema import jobs
from mlpq.store.session import Store
from mlpq.verification import verify
from tests.support.job_steps import claim_one, finish, spec, submit


def change(store: Store, job: str, **changes: Any) -> None:
    with store.write() as connection:
        stored = connection.execute(select(jobs.c.spec).where(jobs.c.id == job)).scalar_one()
        connection.execute(update(jobs).where(jobs.c.id == job).values(spec={**stored, **changes}))


def test_job_with_a_field_of_another_version_is_listed_among_the_others(store: Store) -> None:
    first, second = submit(store, spec(seeds=1), spec(seeds=2))
    change(store, first, schedule="cosine")
    assert [job.spec.seed for job in queries.job_records(store)] == [1, 2]
    assert queries.jobs_by_id(store, [first])[0].spec.hidden == (32,)
    assert [job.id for job in queries.job_records(store)] == [first, second]


def test_spec_that_lacks_a_field_is_reported_in_one_line(store: Store) -> None:
    (job,) = submit(store, spec())
    with store.write() as connection:
        connection.execute(update(jobs).where(jobs.c.id == job).values(spec={"lr": 0.1}))
    with pytest.raises(StoreError, match=rf"job {job} has a spec that can't be read") as error:
        queries.job_records(store)
    assert "\n" not in str(error.value)


def test_result_whose_spec_was_made_invalid_is_a_finding_of_the_audit(store: Store) -> None:
    (job,) = submit(store, spec())
    finish(store, claim_one(store))
    change(store, job, lr=-1)
    (case,) = verify.audit_results(store, verify.candidates(store, [job]))
    assert case.audit.spec is None
    assert "not valid" in case.audit.misfits[0]
