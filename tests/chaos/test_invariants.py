"""The database under every order of events that Hypothesis thinks of: submit, claim, beat, expire, finish late, cancel.

The invariants hold after each step, on SQLite and on PostgreSQL.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

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
from mlpq.store import execution, submission
from mlpq.store.execution import Able, Ending, Held, Progress
from mlpq.store.schema import attempts, job_results, jobs, metadata
from mlpq.store.session import Store
from tests.support.job_steps import FACTS, RESULT, child_of, epoch, let_delay_pass, let_lease_expire, spec

WORKERS = st.sampled_from(["ann", "bob", "cy"])
PARENTS = [spec(seeds=seed) for seed in range(4)]
SPECS = [*PARENTS, *(child_of(parent, seeds=parent.seed) for parent in PARENTS[:2])]
CHOICES = st.lists(st.sampled_from(PARENTS), min_size=1, max_size=3, unique_by=lambda one: one.hash)
CHOICES = st.lists(st.sampled_from(PARENTS), min_size=1, max_size=3, unique_by=lambda one: one.hash)
ENDINGS = st.sampled_from([outcome for outcome in Outcome if outcome is not Outcome.LOST])  # what holders say


class Machine(RuleBasedStateMachine):
    """Submitters, workers that may be late, a clock that leaps, and people who cancel."""

    def __init__(self, store: Store, reached: Counter[str]) -> None:
        super().__init__()
        self.store, self.reached = store, reached
        self.acknowledged: set[str] = set()
        self.holders: list[Held] = []
        self.accepted: dict[str, int] = {}  # the attempt whose result was taken
        self.finished: dict[str, Any] = {}
        self.attempts: dict[str, int] = {}
        self.may_try: dict[str, int] = {}  # attempts, where not as many as usual
        self.seen: dict[str, Any] = {}  # the rows after the last step: to read them costs most of the time
        with store.write() as connection:
            for name in reversed([table.name for table in metadata.sorted_tables]):
                connection.execute(text(f"DELETE FROM {name}"))

    def rows(self) -> dict[str, Any]:
        with self.store.read() as connection:
            return {row.id: row for row in connection.execute(select(jobs))}

    def holding(self) -> list[Held]:
        """The holders that still have their jobs."""
        return [
            held
            for held in self.holders
            if (self.seen[held.id].status, self.seen[held.id].attempt) == ("running", held.attempt)
        ]

    def late(self) -> list[Held]:
        """The holders that were too slow, or that were already heard."""
        holding = self.holding()
        return [held for held in self.holders if held not in holding]

    @initialize(chosen=CHOICES, attempts=st.integers(1, MAX_ATTEMPTS))
    def begin(self, chosen: list[Any], attempts: int) -> None:
        self.submit(chosen, attempts, again=False)

    @rule(chosen=CHOICES, attempts=st.integers(1, MAX_ATTEMPTS), again=st.booleans())
    def submit(self, chosen: list[Any], attempts: int, again: bool) -> None:
        for job in submission.file_jobs(self.store, "lab", chosen, attempts=attempts, again=again):
            self.acknowledged.add(job.id)
            self.may_try.setdefault(job.id, attempts)

    @rule(parent=st.sampled_from([0, 1]))
    def submit_with_a_child(self, parent: int) -> None:
        filed = submission.file_jobs(self.store, "family", [SPECS[parent], SPECS[4 + parent]])
        self.acknowledged.update(job.id for job in filed)

    @rule(worker=WORKERS, limit=st.integers(1, 4), patient=st.booleans())
    def claim(self, worker: str, limit: int, patient: bool) -> None:
        if patient:
            for job, row in self.rows().items():
                if row.status == Status.QUEUED and row.not_before is not None:
                    let_delay_pass(self.store, job)
        execution.worker_beat(self.store, worker, Able("cpu"))
        self.holders += execution.claim(self.store, worker, Able("cpu"), FACTS, limit)

    @precondition(lambda self: self.holders)
    @rule(data=st.data())
    def beat(self, data: st.DataObject) -> None:
        held = data.draw(st.sampled_from(self.holders))
        is_holding = held in self.holding()
        answer = execution.beat(self.store, [Progress(held, [epoch(held.attempt)], "a line")])
        assert (held.id in answer) == is_holding

    @precondition(lambda self: self.holding())
    @rule(data=st.data(), outcome=ENDINGS, alone=st.booleans())
    def finish(self, data: st.DataObject, outcome: Outcome, alone: bool) -> None:
        held = data.draw(st.sampled_from(self.holding()))
        answer = self.record(held, outcome, alone)
        assert held.id in answer
        if outcome is Outcome.SUCCEEDED:
            assert held.id not in self.accepted, "recorded twice"
            self.accepted[held.id] = held.attempt

    @precondition(lambda self: self.late())
    @rule(data=st.data(), outcome=ENDINGS, alone=st.booleans())
    def finish_late(self, data: st.DataObject, outcome: Outcome, alone: bool) -> None:
        """Or for the second time, because the first answer was not heard: nothing changes."""
        held = data.draw(st.sampled_from(self.late()))
        before = self.rows()
        answer = self.record(held, outcome, alone)
        assert answer.get(held.id, before[held.id].status) == before[held.id].status
        assert self.rows() == before
        self.reached["an ending that came too late"] += 1

    def record(self, held: Held, outcome: Outcome, alone: bool) -> dict[str, Status]:
        succeeds = outcome is Outcome.SUCCEEDED
        ending = Ending(held, outcome, RESULT if succeeds else None, None if succeeds else "a reason", "log", (), alone)
        return execution.record(self.store, [ending])

    @precondition(lambda self: self.holding())
    @rule(data=st.data(), then_reap=st.booleans())
    def expire(self, data: st.DataObject, then_reap: bool) -> None:
        let_lease_expire(self.store, data.draw(st.sampled_from(self.holding())).id)
        if then_reap:
            self.reap()

    @rule(worker=WORKERS, dies=st.booleans())
    def try_in_vain(self, worker: str, dies: bool) -> None:
        """Or no third attempt would come up: too many other things happen."""
        before = len(self.holders)
        self.claim(worker, 1, patient=True)
        for held in self.holders[before:]:
            if dies:
                let_lease_expire(self.store, held.id)
                self.reap()
            else:
                self.record(held, Outcome.FAILED, alone=False)

    @rule()
    def reap(self) -> None:
        self.reached["a job that was taken back"] += len(execution.reap(self.store))

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
            for filed in submission.file_again(self.store, [job]):
                self.acknowledged.add(filed.id)
                self.may_try.setdefault(filed.id, row.max_attempts)

    @invariant()
    def all_holds(self) -> None:
        self.seen = self.rows()
        self.every_acknowledged_job_is_there_in_one_state()
        self.a_result_is_there_once_for_each_success_and_is_that_of_the_holder()
        self.what_is_finished_never_changes()
        self.attempts_only_grow_and_run_out()
        self.a_blocked_job_waits_for_one_that_can_still_succeed()
        self.whatever_failed_says_why()

    def every_acknowledged_job_is_there_in_one_state(self) -> None:
        assert self.seen.keys() == self.acknowledged
        assert all(row.status in set(Status) for row in self.seen.values())

    def a_result_is_there_once_for_each_success_and_is_that_of_the_holder(self) -> None:
        with self.store.read() as connection:
            results = dict(connection.execute(select(job_results.c.job_id, job_results.c.attempt)).all())
        assert results == self.accepted
        assert {job for job, row in self.seen.items() if row.status == Status.SUCCEEDED} == results.keys()

    def what_is_finished_never_changes(self) -> None:
        for job, before in self.finished.items():
            assert self.seen[job] == before
        self.finished |= {job: row for job, row in self.seen.items() if Status(row.status).is_finished}

    def attempts_only_grow_and_run_out(self) -> None:
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

    def a_blocked_job_waits_for_one_that_can_still_succeed(self) -> None:
        for row in self.seen.values():
            if row.status == Status.BLOCKED:
                assert not Status(self.seen[row.parent_id].status).is_finished

    def whatever_failed_says_why(self) -> None:
        assert all(row.error for row in self.seen.values() if row.status in (Status.FAILED, Status.CANCELLED))


def test_no_order_of_events_loses_a_job_or_records_it_twice(store: Store) -> None:
    reached: Counter[str] = Counter()
    run_state_machine_as_test(  # type: ignore[no-untyped-call]
        lambda: Machine(store, reached), settings=settings(max_examples=25, stateful_step_count=40, deadline=None)
    )
    print(reached)
    assert all(
        reached[what] for what in ("an ending that came too late", "a job that was taken back", "a third attempt")
    )
