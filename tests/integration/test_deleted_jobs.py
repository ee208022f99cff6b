"""Jobs whose rows were deleted while they ran: their workers lost the lease, and the rest of the gang is recorded."""

from __future__ import annotations

import sqlite3

import pytest
from sqlalchemy import delete

from mlpq.jobs import Outcome, Status
from mlpq.records import AttemptProgress
from mlpq.store import execution
from mlpq.store.schema import attempts as attempts_table
from mlpq.store.schema import epochs, jobs
from mlpq.store.session import Store, sqlite_file
from tests.support.job_steps import attempts, claim, claim_one, epoch, fail, finish, heartbeat, specs, submit, success


def delete_job(store: Store, job: str) -> None:
    with store.write() as connection:
        for table, column in ((epochs, epochs.c.job_id), (attempts_table, attempts_table.c.job_id), (jobs, jobs.c.id)):
            connection.execute(delete(table).where(column == job))


@pytest.mark.parametrize("gone", [0, 1, 2])
def test_job_whose_row_is_gone_has_lost_its_lease_and_its_gang_is_recorded(store: Store, gone: int) -> None:
    ids = submit(store, *specs(seeds="0..2"))
    gang = claim(store, limit=3)
    delete_job(store, ids[gone])
    left = [job for job in ids if job != ids[gone]]
    beat = execution.heartbeat(store, [AttemptProgress(job, [epoch(1)], "a line") for job in gang])
    assert beat == dict.fromkeys(left, False)
    endings = [success(job) for job in gang]
    recorded = execution.record(store, endings)
    assert recorded == dict.fromkeys(left, Status.SUCCEEDED)
    assert [attempts(store, job) for job in left] == [[(1, Outcome.SUCCEEDED)]] * 2
    assert execution.record(store, endings) == recorded  # the answer to the first call may have been lost


def test_job_whose_row_is_gone_has_lost_its_lease(store: Store) -> None:
    submit(store, *specs())
    claimed = claim_one(store)
    delete_job(store, claimed.id)
    assert heartbeat(store, claimed) is None
    assert finish(store, claimed) is None
    assert fail(store, claimed) is None


@pytest.mark.parametrize("store", ["sqlite"], indirect=True)
def test_row_that_was_deleted_without_its_attempts_is_gone(store: Store) -> None:
    """As by the program sqlite3, which checks no foreign keys, after the answer to the first call was lost."""
    submit(store, *specs())
    claimed = claim_one(store)
    assert finish(store, claimed) is Status.SUCCEEDED
    with sqlite3.connect(sqlite_file(store.url)) as connection:
        connection.execute("DELETE FROM jobs")
    assert finish(store, claimed) is None
