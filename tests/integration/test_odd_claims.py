"""Rows that no program of mlpq writes: each fails alone in a claim, and the jobs behind it run."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import text

from mlpq.jobs import Status
from mlpq.records import UnreadableJob
from mlpq.store import claiming, execution, queries, worker_queries
from mlpq.store.schema import (
    jobs,
)
from mlpq.store.session import Store
from mlpq.worker_records import WorkerCapabilities
from tests.support.job_steps import FACTS, child_of, spec, submit
from tests.support.odd_rows import SKIPPED, SPECS, WORKER, disable_checks, keys, set_value, values_of


@pytest.mark.parametrize("document", SPECS)
def test_unreadable_spec_fails_alone_with_its_reason(store: Store, document: str) -> None:
    """Whatever JSON it is, or even none: the job behind it runs."""
    disable_checks(store)
    bad, good = submit(store, spec(seeds=1), spec(seeds=2))
    is_stored = set_value(store, jobs, 1, "spec", f"'{document}'")
    assert set_value(store, jobs, 1, "priority", "9")
    claimed = [each.id for _ in range(3) for each in claiming.claim(store, WORKER, WorkerCapabilities("cpu"), FACTS)]
    if not is_stored:
        assert claimed == [bad, good]
        return  # PostgreSQL refuses to store it
    assert claimed == [good]
    (found,) = queries.listed_by_id(store, [bad])
    assert isinstance(found, UnreadableJob)
    assert (found.status, found.error) == (Status.FAILED, f"this worker's mlpq can't read the job: {found.reason}")
    (attempt,) = queries.attempts_of(store, bad)
    assert attempt.error == found.error
    assert queries.retryable(store, None) == []


UNCLAIMED = {*SKIPPED, "status", "lease_until", "finished_at", "experiment_id"}  # a queued row has them as they are


@pytest.mark.parametrize("column", [pytest.param(each, id=each.name) for each in jobs.c if each.name not in UNCLAIMED])
def test_worker_goes_on_after_odd_values(store: Store, column: Any) -> None:
    """Whatever a queued row of high priority holds, the jobs behind it are claimed, and leases are taken back."""
    disable_checks(store)
    capabilities = WorkerCapabilities("cpu")
    for value in values_of(column, store.is_sqlite):
        experiment = uuid.uuid4().hex
        with store.write() as connection:
            connection.execute(text("DELETE FROM epochs"))
            for table in ("job_results", "attempts", "jobs"):
                connection.execute(text(f"DELETE FROM {table}"))
        _, good = submit(store, spec(seeds=1), spec(seeds=2), experiment=experiment)
        (first, _) = keys(store, jobs)
        set_value(store, jobs, first, "priority", "9")
        set_value(store, jobs, first, column.name, value)
        worker_queries.fair_share(store, "cpu", 8)
        claimed = []
        for _ in range(3):
            setup = claiming.next_setup(store, WORKER, capabilities)
            claimed += [each.id for each in claiming.claim(store, WORKER, capabilities, FACTS, 1, setup)]
        assert good in claimed, value
        with store.write() as connection:
            connection.execute(text("UPDATE jobs SET lease_until = '2000-01-01' WHERE status = 'running'"))
        execution.requeue_expired(store)
        assert not queries.listed_jobs(store, statuses=["running"]), value


def claim_with(store: Store, change: Callable[[Store], None]) -> list[str]:
    disable_checks(store)
    bad, good = submit(store, spec(seeds=1), spec(seeds=2))
    change(store)
    claimed = [each.id for _ in range(3) for each in claiming.claim(store, WORKER, WorkerCapabilities("cpu"), FACTS)]
    assert claimed == [good]
    (found,) = queries.listed_by_id(store, [bad])
    assert found.status is Status.FAILED
    return [str(found.error)]


def test_attempt_that_is_recorded_already_fails_its_job_alone(store: Store) -> None:
    def change(store: Store) -> None:
        with store.write() as connection:
            connection.execute(
                text(
                    "INSERT INTO attempts (job_id, attempt, worker, device, started_at) "
                    "SELECT id, 1, 'x', 'cpu', '2026-01-01' FROM jobs ORDER BY seq LIMIT 1"
                )
            )

    assert claim_with(store, change) == ["this worker's mlpq can't read the job: its attempt 1 is recorded already"]


def test_world_size_below_one_fails_its_job_alone(store: Store) -> None:
    def change(store: Store) -> None:
        with store.write() as connection:
            connection.execute(text("UPDATE jobs SET world_size = 0 WHERE seq = 1"))

    assert claim_with(store, change) == ["this worker's mlpq can't read the job: its world size is less than 1"]


def test_child_of_a_job_with_an_odd_id_fails_with_it(store: Store) -> None:
    disable_checks(store)
    submit(store, spec(), child_of(spec()))
    with store.write() as connection:
        for change in ("parent_id = NULL", "id = 'evil' WHERE seq = 1", "parent_id = 'evil' WHERE seq = 2"):
            connection.execute(text(f"UPDATE jobs SET {change}"))
    assert claiming.claim(store, WORKER, WorkerCapabilities("cpu"), FACTS) == []
    assert queries.count_by_status(store) == {Status.FAILED: 2}


def test_parent_without_a_result_fails_its_child_alone(store: Store) -> None:
    def change(store: Store) -> None:
        with store.write() as connection:
            connection.execute(text("UPDATE jobs SET parent_id = (SELECT max(id) FROM jobs) WHERE seq = 1"))

    (error,) = claim_with(store, change)
    assert error.endswith("the job that it continues from has no result")
