"""Specs that are not valid here, such as those of another version of mlpq, are listed, and audited by verify."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, update

from mlpq.errors import NotFoundError
from mlpq.records import UnreadableJob
from mlpq.store import queries
from mlpq.store.schema import jobs
from mlpq.store.session import Store
from mlpq.verification import verify
from tests.support.job_steps import claim_one, finish, spec, submit


def change(store: Store, job: str, **changes: Any) -> None:
    with store.write() as connection:
        stored = connection.execute(select(jobs.c.spec).where(jobs.c.id == job)).scalar_one()
        connection.execute(update(jobs).where(jobs.c.id == job).values(spec={**stored, **changes}))


def test_job_with_a_field_of_another_version_is_listed_as_unreadable_among_the_others(store: Store) -> None:
    first, second = submit(store, spec(seeds=1), spec(seeds=2))
    change(store, first, schedule="cosine")
    unreadable, other = queries.listed_jobs(store)
    assert isinstance(unreadable, UnreadableJob)
    assert "schedule" in unreadable.reason
    assert (unreadable.id, other.id) == (first, second)
    with pytest.raises(NotFoundError, match=f"the job {first} can't be read: spec: .*schedule"):
        queries.job_by_id(store, first)


def test_result_whose_spec_was_made_invalid_is_a_finding_of_the_audit(store: Store, tmp_path: Path) -> None:
    (job,) = submit(store, spec())
    finish(store, claim_one(store))
    change(store, job, lr=-1)
    (case,) = verify.audit_results(store, verify.candidates(store, [job]), tmp_path)
    assert case.audit.spec is None
    assert "not valid" in case.audit.misfits[0]
