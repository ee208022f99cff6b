"""Submitting: every spec once, children wait for parents, all or nothing. On both databases."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from mlpq.errors import SpecError
from mlpq.jobs import VERIFY, Engine, Outcome
from mlpq.records import Rerun, SubmittedJob
from mlpq.spec.sweep import Sweep, inherited
from mlpq.store import queries, session, submission, worker_queries
from mlpq.store.session import Store
from tests.support.job_steps import (
    child_of,
    claim_one,
    fail,
    finish,
    heartbeat,
    row,
    spec,
    specs,
    status,
    submit,
    whole_row,
)


def test_spec_is_submitted_once_per_experiment(store: Store) -> None:
    first = submission.submit_jobs(store, "lab", specs(seeds="0..2"))
    second = submission.submit_jobs(store, "lab", specs(seeds="1..3"))
    assert [job.is_new for job in first] == [True, True, True]
    assert [job.is_new for job in second] == [False, False, True]
    assert [job.id for job in second[:2]] == [job.id for job in first[1:]]
    assert len(queries.job_records(store)) == 4


def test_other_experiment_gets_its_own_job(store: Store) -> None:
    assert submit(store, spec(), experiment="one") != submit(store, spec(), experiment="two")
    assert [found.experiment for found in queries.job_records(store)] == ["one", "two"]


def test_again_submits_the_spec_each_time(store: Store) -> None:
    (first,) = submit(store, spec())
    (second,) = submit(store, spec(), again=True)
    (third,) = submit(store, spec(), again=True)
    assert len({first, second, third}) == 3
    assert [whole_row(store, job)["repeat"] for job in (first, second, third)] == [0, 1, 2]


def test_without_again_the_latest_repeat_is_returned(store: Store) -> None:
    submit(store, spec())
    (second,) = submit(store, spec(), again=True)
    (found,) = submission.submit_jobs(store, "lab", [spec()])
    assert (found.id, found.is_new) == (second, False)


def test_stored_specs_are_unchanged(store: Store) -> None:
    """JSON in a database must not change numbers: a worker's spec has the hash of the submitted one."""
    sent = [
        spec(lr="1e30", optimizer="asgd:t0=1e16,lambd=1e-300", l1="1e-7", seeds=2**32 - 1),
        spec(lr="5e-324", optimizer="adam:eps=1e22,betas=0.1/0.30000000000000004"),
        spec(hidden="16,8", activation="tanh", bias=False, dropout="0.1", validation="0.1", patience=3),
        spec(hidden="none", optimizer="rprop:step_sizes=0/1e16", initialisation="truncated-normal"),
    ]
    ids = submit(store, *sent)
    back = {job: row(store, job).spec for job in ids}
    assert [back[job] for job in ids] == sent
    assert [back[job].hash for job in ids] == [job.hash for job in sent]


def test_concurrent_submissions_of_a_sweep_submit_it_once(store: Store) -> None:
    sweep = specs(seeds="0..19")
    answers: list[list[SubmittedJob]] = []

    def submit_sweep() -> None:
        answers.append(submission.submit_jobs(store, "lab", sweep))

    threads = [threading.Thread(target=submit_sweep) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(answers) == 4
    assert sum(job.is_new for answer in answers for job in answer) == len(sweep)
    assert len(queries.job_records(store)) == len(sweep)


def test_priority_and_device_are_stored(store: Store) -> None:
    (job,) = submit(store, spec(), device="cuda", priority=7)
    assert (row(store, job).requested_device, row(store, job).priority) == ("cuda", 7)


def test_child_is_blocked_until_its_parent_succeeds(store: Store) -> None:
    parent, child = submit(store, spec(), child_of(spec()))
    assert (status(store, parent), status(store, child)) == ("queued", "blocked")
    assert row(store, child).parent_id == parent
    finish(store, claim_one(store))
    assert status(store, child) == "queued"


def test_claimed_child_has_its_parents_weights(store: Store) -> None:
    _, child = submit(store, spec(), child_of(spec()))
    finish(store, claim_one(store), weights_file="/some/file", weights_sha256="cd" * 32)
    claimed = claim_one(store)
    assert (claimed.id, claimed.parent_weights, claimed.parent_sha256) == (child, "/some/file", "cd" * 32)


def test_child_of_a_finished_parent_is_queued(store: Store) -> None:
    (parent,) = submit(store, spec())
    finish(store, claim_one(store))
    (child,) = submit(store, child_of(spec()), parent_id=parent)
    assert (status(store, child), row(store, child).parent_id) == ("queued", parent)


def test_each_job_of_a_submission_continues_from_its_own_parent(store: Store) -> None:
    (parent,) = submit(store, spec())
    child = child_of(spec())
    ids = submit(store, child, child_of(child), spec(seeds=2), parent_id=parent)
    assert [row(store, job).parent_id for job in ids] == [parent, ids[0], None]


def test_rerun_is_placed_as_it_requests(store: Store) -> None:
    (parent,) = submit(store, spec())
    (rerun,) = submission.submit_reruns(store, VERIFY, [Rerun(child_of(spec()), parent, "cuda", 2, Engine.PLAIN)])
    found = whole_row(store, rerun.id)
    assert (found["device"], found["world_size"], found["requested_engine"]) == ("cuda", 2, "plain")
    assert (found["parent_id"], found["status"]) == (parent, "blocked")


@pytest.mark.parametrize("outcome", [Outcome.DIVERGED, Outcome.CANCELLED])
def test_jobs_cannot_continue_from_a_job_without_weights(store: Store, outcome: Outcome) -> None:
    (parent,) = submit(store, spec())
    fail(store, claim_one(store), outcome)
    with pytest.raises(SpecError, match="no job can continue from it"):
        submit(store, child_of(spec()), parent_id=parent, experiment="new")
    assert [found.id for found in queries.job_records(store)] == [parent]
    assert not queries.has_experiment(store, "new")


@pytest.mark.parametrize("outcome", [Outcome.DIVERGED, Outcome.CANCELLED])
def test_descendants_end_with_their_parent(store: Store, outcome: Outcome) -> None:
    child = child_of(spec())
    parent_id, child_id, grandchild_id = submit(store, spec(), child, child_of(child))
    ended = fail(store, claim_one(store), outcome)
    assert {status(store, job) for job in (parent_id, child_id, grandchild_id)} == {ended}
    assert (row(store, child_id).error or "").startswith(f"its parent {parent_id} ")
    assert (row(store, grandchild_id).error or "").startswith(f"its parent {child_id} ")


def test_success_queues_only_the_next_generation(store: Store) -> None:
    child = child_of(spec())
    _, child_id, grandchild_id = submit(store, spec(), child, child_of(child))
    finish(store, claim_one(store))
    assert (status(store, child_id), status(store, grandchild_id)) == ("queued", "blocked")


def test_cancelling_a_queued_job_cancels_its_descendants(store: Store) -> None:
    child = child_of(spec())
    ids = submit(store, spec(), child, child_of(child))
    assert submission.cancel(store, ids[:1]) == {"cancelled": 3, "asked to stop": 0}
    assert {status(store, job) for job in ids} == {"cancelled"}


def test_cancelling_a_blocked_job_leaves_its_parent_unchanged(store: Store) -> None:
    parent, child = submit(store, spec(), child_of(spec()))
    assert submission.cancel(store, [child]) == {"cancelled": 1, "asked to stop": 0}
    assert (status(store, parent), status(store, child)) == ("queued", "cancelled")


def test_jobs_that_are_cancelled_with_their_parent_name_no_other_reason(store: Store) -> None:
    ids = submit(store, spec(), child_of(spec()))
    assert submission.cancel(store, ids) == {"cancelled": 2, "asked to stop": 0}
    assert [row(store, job).error for job in ids] == ["cancelled"] * 2


def test_cancelling_a_family_counts_each_job_once(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where a statement takes only some of the ids, and a job has ended together with its parent."""
    monkeypatch.setattr(session, "CHUNK", 1)
    family = [spec()]
    for _ in range(6):
        family.append(child_of(family[-1]))
    _, *children = submit(store, *family)
    finish(store, claim_one(store))
    assert submission.cancel(store, children) == {"cancelled": 6, "asked to stop": 0}
    assert {status(store, job) for job in children} == {"cancelled"}


def test_cancelling_a_running_job_reaches_its_worker(store: Store) -> None:
    job, other = submit(store, *specs(seeds="1,2"))
    claimed = claim_one(store)
    assert heartbeat(store, claimed) is False
    assert submission.cancel(store, [job]) == {"cancelled": 0, "asked to stop": 1}
    assert status(store, job) == "running"
    assert worker_queries.cancel_requested(store, [job, other]) == {job}
    assert heartbeat(store, claimed) is True
    assert fail(store, claimed, Outcome.CANCELLED) == "cancelled"


def test_cancelling_finished_jobs_changes_nothing(store: Store) -> None:
    (job,) = submit(store, spec())
    finish(store, claim_one(store))
    before = whole_row(store, job)
    assert submission.cancel(store, [job]) == {"cancelled": 0, "asked to stop": 0}
    assert whole_row(store, job) == before


@pytest.mark.parametrize("outcome", [Outcome.FAILED, Outcome.RELEASED])
def test_job_with_a_cancel_request_is_not_queued_again(store: Store, outcome: Outcome) -> None:
    """The attempt ended before its worker received the request, which still holds."""
    (job,) = submit(store, spec())
    claimed = claim_one(store)
    submission.cancel(store, [job])
    fail(store, claimed, outcome)
    assert status(store, job) == "cancelled"


def test_divergence_after_a_cancel_request_is_recorded_as_such(store: Store) -> None:
    """It is a finding about the settings, and the curve that led to it is complete."""
    (job,) = submit(store, spec())
    claimed = claim_one(store)
    submission.cancel(store, [job])
    assert fail(store, claimed, Outcome.DIVERGED, "the loss became nan in epoch 1") == "failed"
    assert (row(store, job).outcome, row(store, job).error) == ("diverged", "the loss became nan in epoch 1")


def test_success_after_a_cancel_request_is_recorded(store: Store) -> None:
    (job,) = submit(store, spec())
    claimed = claim_one(store)
    submission.cancel(store, [job])
    assert finish(store, claimed) == "succeeded"


def test_concurrent_submissions_of_children_do_not_deadlock(store: Store) -> None:
    (parent,) = submit(store, spec())
    before = row(store, parent).spec

    def submit_child(number: int) -> None:
        child = Sweep.parse({**inherited(before), "optimizer": "adam", "lr": number + 1}).jobs(before)
        submission.submit_jobs(store, f"e{number % 4}", child, parent_id=parent)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(submit_child, range(40)))
    assert queries.count_by_status(store) == {"blocked": 40, "queued": 1}
