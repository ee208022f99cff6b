"""What a transaction may wait for on PostgreSQL, where several write at once; SQLite has one writer at a time."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import insert, update

from mlpq.jobs import Status, fingerprint, job_id
from mlpq.store import execution
from mlpq.store.schema import environments, jobs
from mlpq.store.session import Store, now
from tests.support.job_steps import (
    FACTS,
    attempts,
    child_of,
    claim,
    claim_one,
    finish,
    heartbeat,
    let_lease_expire,
    spec,
    specs,
    status,
    submit,
    whole_row,
)
from tests.support.transactions import wait_for_a_waiter

ANSWER_SECONDS = 5.0  # a statement that waits for another transaction fails after this, rather than hang


@pytest.fixture
def postgresql(both_stores: tuple[Store, Store]) -> Iterator[Store]:
    _, store = both_stores
    store.answer_seconds = ANSWER_SECONDS
    yield store
    store.answer_seconds = None


def test_expired_lease_that_is_being_renewed_is_not_waited_for(postgresql: Store) -> None:
    """Nor is it taken: the heartbeat came first. The other one is requeued."""
    submit(postgresql, *specs(seeds="1..2"))
    renewed, other = claim(postgresql, limit=2)
    for job in (renewed, other):
        let_lease_expire(postgresql, job.id)
    with postgresql.write() as connection:
        connection.execute(update(jobs).where(jobs.c.id == renewed.id).values(lease_until=now(60)))
        assert execution.requeue_expired(postgresql) == [other.id]
    assert status(postgresql, renewed.id) is Status.RUNNING
    assert heartbeat(postgresql, renewed) is False


def test_heartbeat_does_not_wait_for_a_submission_that_continues_from_its_job(postgresql: Store) -> None:
    """It would deadlock with a submission that continues from several jobs of a gang."""
    parent, child = submit(postgresql, spec(), child_of(spec()))
    claimed = claim_one(postgresql)
    row = {name: value for name, value in whole_row(postgresql, child).items() if name not in ("seq", "id", "repeat")}
    another = job_id("lab", row["spec_hash"], 1)
    with postgresql.write() as connection:
        connection.execute(insert(jobs).values(**row, id=another, repeat=1))  # locks the parent's key
        assert heartbeat(postgresql, claimed) is False
    assert finish(postgresql, claimed) is Status.SUCCEEDED
    assert status(postgresql, another) is Status.QUEUED
    assert attempts(postgresql, parent) == [(1, "succeeded")]


def test_claims_record_an_environment_that_another_claim_is_recording(postgresql: Store) -> None:
    submit(postgresql, spec())
    facts = {**FACTS, "data_checksum": spec().data.checksum}
    with ThreadPoolExecutor(1) as pool:
        with postgresql.write() as connection:
            connection.execute(insert(environments).values(fingerprint=fingerprint(facts), facts=facts))
            claimed = pool.submit(claim_one, postgresql)
            wait_for_a_waiter(connection)
        assert claimed.result().attempt == 1
