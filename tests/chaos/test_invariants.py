"""The database under random orders of events: submit, claim, heartbeat, expiry, late endings, cancel, retry.

The invariants hold after each step, on SQLite and on PostgreSQL.
"""

from __future__ import annotations

from collections import Counter
from typing import Any, cast

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import select, text

from mlpq.jobs import MAX_ATTEMPTS, Outcome, Status
from mlpq.records import AttemptEnding, AttemptProgress, ClaimedJob, Placement
from mlpq.store import claiming, execution, submission
from mlpq.store.schema import attempts, job_results, jobs, metadata
from mlpq.store.session import Store
from mlpq.worker_records import WorkerCapabilities
from tests.support.job_steps import FACTS, RESULT, child_of, epoch, let_delay_pass, let_lease_expire, spec

WORKERS = st.sampled_from(["ann:1:a", "bob:2:b", "cy:3:c"])
PARENTS = [spec(seeds=seed) for seed in range(4)]
SPECS = [*PARENTS, *(child_of(parent, seeds=parent.seed) for parent in PARENTS[:2])]
CHOICES = st.lists(st.sampled_from(PARENTS), min_size=1, max_size=3, unique_by=lambda one: one.hash)
ENDINGS = st.sampled_from([outcome for outcome in Outcome if outcome is not Outcome.LOST])  # what workers record


class Machine(RuleBasedStateMachine):
    """Submissions, workers that may be late, leases that expire, and cancellations."""

    def __init__(self, store: Store, reached: Counter[str]) -> None:
        super().__init__()
        self.store, self.reached = store, reached
        self.acknowledged: set[str] = set()
        self.claimed: list[ClaimedJob] = []
        self.accepted: dict[str, int] = {}  # the attempt whose result was recorded
        self.finished: dict[str, Any] = {}
        self.attempts: dict[str, int] = {}
        self.may_try: dict[str, int] = {}  # the maximum of attempts, by job
        self.seen: dict[str, Any] = {}  # the rows after the last step: reading them takes most of the time
        with store.write() as connection:
            for name in reversed([table.name for table in metadata.sorted_tables]):
                connection.execute(text(f"DELETE FROM {name}"))

    def rows(self) -> dict[str, Any]:
        with self.store.read() as connection:
            return {row.id: row for row in connection.execute(select(jobs))}

    def with_lease(self) -> list[ClaimedJob]:
        """The claimed jobs whose leases are valid."""
        return [
            job
            for job in self.claimed
            if (self.seen[job.id].status, self.seen[job.id].attempt) == ("running", job.attempt)
        ]

    def late(self) -> list[ClaimedJob]:
        """The claimed jobs whose leases expired, or that have ended."""
        valid = self.with_lease()
        return [job for job in self.claimed if job not in valid]

    @initialize(chosen=CHOICES, attempts=st.integers(1, MAX_ATTEMPTS))
    def begin(self, chosen: list[Any], attempts: int) -> None:
        self.submit(chosen, attempts, again=False)

    @rule(chosen=CHOICES, attempts=st.integers(1, MAX_ATTEMPTS), again=st.booleans())
    def submit(self, chosen: list[Any], attempts: int, again: bool) -> None:
        for job in submission.submit_jobs(self.store, "lab", chosen, Placement(attempts=attempts), again=again):
            self.acknowledged.add(job.id)
            self.may_try.setdefault(job.id, attempts)

    @rule(parent=st.sampled_from([0, 1]))
    def submit_with_a_child(self, parent: int) -> None:
        submitted = submission.submit_jobs(self.store, "family", [SPECS[parent], SPECS[4 + parent]])
        self.acknowledged.update(job.id for job in submitted)

    @rule(worker=WORKERS, limit=st.integers(1, 4), patient=st.booleans())
    def claim(self, worker: str, limit: int, patient: bool) -> None:
        if patient:
            for job, row in self.rows().items():
                if row.status == Status.QUEUED and row.not_before is not None:
                    let_delay_pass(self.store, job)
        execution.worker_heartbeat(self.store, worker, WorkerCapabilities("cpu"))
        self.claimed += claiming.claim(self.store, worker, WorkerCapabilities("cpu"), FACTS, limit)

    @precondition(lambda self: self.claimed)
    @rule(data=st.data())
    def heartbeat(self, data: st.DataObject) -> None:
        job = data.draw(st.sampled_from(self.claimed))
        has_lease = job in self.with_lease()
        answer = execution.heartbeat(self.store, [AttemptProgress(job, [epoch(job.attempt)], "a line")])
        assert (job.id in answer) == has_lease

    @precondition(lambda self: self.with_lease())
    @rule(data=st.data(), outcome=ENDINGS, alone=st.booleans())
    def finish(self, data: st.DataObject, outcome: Outcome, alone: bool) -> None:
        job = data.draw(st.sampled_from(self.with_lease()))
        answer = self.record(job, outcome, alone)
        assert job.id in answer
        if outcome is Outcome.SUCCEEDED:
            assert job.id not in self.accepted, "recorded twice"
            self.accepted[job.id] = job.attempt

    @precondition(lambda self: self.late())
    @rule(data=st.data(), outcome=ENDINGS, alone=st.booleans())
    def finish_late(self, data: st.DataObject, outcome: Outcome, alone: bool) -> None:
        """Too late, or again because the first response was lost: nothing changes."""
        job = data.draw(st.sampled_from(self.late()))
        before = self.rows()
        answer = self.record(job, outcome, alone)
        assert answer.get(job.id, before[job.id].status) == before[job.id].status
        assert self.rows() == before
        self.reached["a late ending"] += 1

    def record(self, job: ClaimedJob, outcome: Outcome, alone: bool) -> dict[str, Status]:
        succeeds = outcome is Outcome.SUCCEEDED
        ending = AttemptEnding(
            job, outcome, RESULT if succeeds else None, None if succeeds else "a reason", "log", (), alone
        )
        return execution.record(self.store, [ending])

    @precondition(lambda self: self.with_lease())
    @rule(data=st.data(), then_requeue=st.booleans())
    def expire(self, data: st.DataObject, then_requeue: bool) -> None:
        let_lease_expire(self.store, data.draw(st.sampled_from(self.with_lease())).id)
        if then_requeue:
            self.requeue()

    @rule(worker=WORKERS, dies=st.booleans())
    def attempt_without_result(self, worker: str, dies: bool) -> None:
        """Makes third attempts likely, which the other rules rarely reach."""
        before = len(self.claimed)
        self.claim(worker, 1, patient=True)
        for job in self.claimed[before:]:
            if dies:
                let_lease_expire(self.store, job.id)
                self.requeue()
            else:
                self.record(job, Outcome.FAILED, alone=False)

    @rule()
    def requeue(self) -> None:
        self.reached["a requeued job"] += len(execution.requeue_expired(self.store))

    @precondition(lambda self: self.acknowledged)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        submission.cancel(self.store, [data.draw(st.sampled_from(sorted(self.acknowledged)))])

    @precondition(lambda self: self.acknowledged)
    @rule(data=st.data())
    def retry(self, data: st.DataObject) -> None:
        job = data.draw(st.sampled_from(sorted(self.acknowledged)))
        row = self.rows()[job]
        parent = self.rows().get(row.parent_id)
        badly = (Status.FAILED, Status.CANCELLED)
        if row.status in badly and (parent is None or parent.status not in badly):
            for retried in submission.retry_jobs(self.store, [job]):
                self.acknowledged.add(retried.id)
                self.may_try.setdefault(retried.id, row.max_attempts)

    @invariant()
    def invariants_hold(self) -> None:
        self.seen = self.rows()
        self.every_acknowledged_job_exists()
        self.every_success_has_one_result_of_its_attempt()
        self.finished_jobs_never_change()
        self.attempts_are_numbered_and_limited()
        self.a_blocked_job_has_an_unfinished_parent()
        self.every_failure_has_a_reason()

    def every_acknowledged_job_exists(self) -> None:
        assert self.seen.keys() == self.acknowledged
        assert all(row.status in set(Status) for row in self.seen.values())

    def every_success_has_one_result_of_its_attempt(self) -> None:
        with self.store.read() as connection:
            results = dict(connection.execute(select(job_results.c.job_id, job_results.c.attempt)).all())
        assert results == self.accepted
        assert {job for job, row in self.seen.items() if row.status == Status.SUCCEEDED} == results.keys()

    def finished_jobs_never_change(self) -> None:
        for job, before in self.finished.items():
            assert self.seen[job] == before
        self.finished |= {job: row for job, row in self.seen.items() if Status(row.status).is_finished}

    def attempts_are_numbered_and_limited(self) -> None:
        with self.store.read() as connection:
            found = connection.execute(select(attempts)).all()
        for job, row in self.seen.items():
            assert row.attempt >= self.attempts.get(job, 0)
            self.attempts[job] = row.attempt
            mine = sorted((each for each in found if each.job_id == job), key=lambda each: each.attempt)
            assert [each.attempt for each in mine] == list(range(1, row.attempt + 1))
            counted = [each for each in mine if each.outcome not in (None, Outcome.RELEASED)]
            assert len(counted) <= self.may_try.get(job, MAX_ATTEMPTS)
            self.reached["a third attempt"] += len(counted) == MAX_ATTEMPTS
            still_open = [each.attempt for each in mine if each.ended_at is None]
            assert still_open == ([row.attempt] if row.status == Status.RUNNING else [])

    def a_blocked_job_has_an_unfinished_parent(self) -> None:
        for row in self.seen.values():
            if row.status == Status.BLOCKED:
                assert not Status(self.seen[row.parent_id].status).is_finished

    def every_failure_has_a_reason(self) -> None:
        assert all(row.error for row in self.seen.values() if row.status in (Status.FAILED, Status.CANCELLED))


def test_no_order_of_events_loses_a_job_or_records_it_twice(store: Store) -> None:
    reached: Counter[str] = Counter()
    run_state_machine_as_test(
        cast(type[RuleBasedStateMachine], lambda: Machine(store, reached)),
        settings=settings(max_examples=25, stateful_step_count=40, deadline=None),
    )
    print(reached)
    assert all(reached[what] for what in ("a late ending", "a requeued job", "a third attempt"))
