"""Submitting: once is once, a child waits for its parent, and nothing half is written. On both databases."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from mlpq.errors import SpecError
from mlpq.jobs import Outcome
from mlpq.spec.job import Sweep, inherited
from mlpq.store import queries, submission
from mlpq.store.session import Store
from tests.support.job_steps import beat, child_of, claim_one, fail, file, finish, row, spec, specs, status, whole_row


def test_a_spec_is_filed_once_in_an_experiment(store: Store) -> None:
    first = submission.file_jobs(store, "lab", specs(seeds="0..2"))
    second = submission.file_jobs(store, "lab", specs(seeds="1..3"))
    assert [job.is_new for job in first] == [True, True, True]
    assert [job.is_new for job in second] == [False, False, True]
    assert [job.id for job in second[:2]] == [job.id for job in first[1:]]
    assert len(queries.job_rows(store)) == 4


def test_another_experiment_has_jobs_of_its_own(store: Store) -> None:
    assert file(store, spec(), experiment="one") != file(store, spec(), experiment="two")
    assert [found["experiment"] for found in queries.job_rows(store)] == ["one", "two"]


def test_again_files_the_spec_once_more_each_time(store: Store) -> None:
    (first,) = file(store, spec())
    (second,) = file(store, spec(), again=True)
    (third,) = file(store, spec(), again=True)
    assert len({first, second, third}) == 3
    assert [whole_row(store, job)["repeat"] for job in (first, second, third)] == [0, 1, 2]


def test_without_again_the_latest_repeat_is_meant(store: Store) -> None:
    file(store, spec())
    (second,) = file(store, spec(), again=True)
    (found,) = submission.file_jobs(store, "lab", [spec()])
    assert (found.id, found.is_new) == (second, False)


def test_what_was_filed_comes_back_unchanged(store: Store) -> None:
    """JSON in a database must not bend numbers: the hash of the spec that a worker reads is that of the one filed."""
    sent = [
        spec(lr="1e30", optimizer="asgd:t0=1e16,lambd=1e-300", l1="1e-7", seeds=2**32 - 1),
        spec(lr="5e-324", optimizer="adam:eps=1e22,betas=0.1/0.30000000000000004"),
        spec(hidden="16,8", activation="tanh", bias=False, dropout="0.1", validation="0.1", patience=3),
        spec(hidden="none", optimizer="rprop:step_sizes=0/1e16", initialisation="truncated-normal"),
    ]
    ids = file(store, *sent)
    back = {job: queries.spec_of(store, job) for job in ids}
    assert [back[job] for job in ids] == sent
    assert [back[job].hash for job in ids] == [job.hash for job in sent]


def test_simultaneous_submissions_of_one_sweep_file_it_once(store: Store) -> None:
    sweep = specs(seeds="0..19")
    answers: list[list[submission.Filed]] = []

    def submit() -> None:
        answers.append(submission.file_jobs(store, "lab", sweep))

    threads = [threading.Thread(target=submit) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(answers) == 4
    assert sum(job.is_new for filed in answers for job in filed) == len(sweep)
    assert len(queries.job_rows(store)) == len(sweep)


def test_priority_and_device_are_kept(store: Store) -> None:
    (job,) = file(store, spec(), device="cuda", priority=7)
    assert (row(store, job)["requested_device"], row(store, job)["priority"]) == ("cuda", 7)


def test_a_child_waits_for_its_parent(store: Store) -> None:
    parent, child = file(store, spec(), child_of(spec()))
    assert (status(store, parent), status(store, child)) == ("queued", "blocked")
    assert row(store, child)["parent_id"] == parent
    finish(store, claim_one(store))
    assert status(store, child) == "queued"


def test_a_child_is_handed_its_parents_weights(store: Store) -> None:
    _, child = file(store, spec(), child_of(spec()))
    finish(store, claim_one(store), weights_file="/some/file", weights_sha256="cd" * 32)
    held = claim_one(store)
    assert (held.id, held.parent_weights, held.parent_sha256) == (child, "/some/file", "cd" * 32)


def test_a_child_of_a_finished_parent_is_queued_at_once(store: Store) -> None:
    (parent,) = file(store, spec())
    finish(store, claim_one(store))
    (child,) = file(store, child_of(spec()), parent_id=parent)
    assert (status(store, child), row(store, child)["parent_id"]) == ("queued", parent)


@pytest.mark.parametrize("outcome", [Outcome.DIVERGED, Outcome.CANCELLED])
def test_nothing_can_go_on_from_a_job_that_brought_no_weights(store: Store, outcome: Outcome) -> None:
    (parent,) = file(store, spec())
    fail(store, claim_one(store), outcome)
    with pytest.raises(SpecError, match="nothing can go on from it"):
        file(store, child_of(spec()), parent_id=parent, experiment="new")
    assert [found["id"] for found in queries.job_rows(store)] == [parent]
    assert not queries.has_experiment(store, "new")


@pytest.mark.parametrize("outcome", [Outcome.DIVERGED, Outcome.CANCELLED])
def test_what_waits_ends_with_the_job_it_waits_for_through_generations(store: Store, outcome: Outcome) -> None:
    child = child_of(spec())
    parent_id, child_id, grandchild_id = file(store, spec(), child, child_of(child))
    ended = fail(store, claim_one(store), outcome)
    assert {status(store, job) for job in (parent_id, child_id, grandchild_id)} == {ended}
    assert row(store, child_id)["error"].startswith(f"its parent {parent_id} ")
    assert row(store, grandchild_id)["error"].startswith(f"its parent {child_id} ")


def test_a_success_wakes_only_the_next_generation(store: Store) -> None:
    child = child_of(spec())
    _, child_id, grandchild_id = file(store, spec(), child, child_of(child))
    finish(store, claim_one(store))
    assert (status(store, child_id), status(store, grandchild_id)) == ("queued", "blocked")


def test_cancelling_a_queued_job_ends_all_that_waits_for_it(store: Store) -> None:
    child = child_of(spec())
    ids = file(store, spec(), child, child_of(child))
    assert submission.cancel(store, ids[:1]) == {"cancelled": 3, "asked to stop": 0}
    assert {status(store, job) for job in ids} == {"cancelled"}


def test_cancelling_a_blocked_job_leaves_its_parent_alone(store: Store) -> None:
    parent, child = file(store, spec(), child_of(spec()))
    assert submission.cancel(store, [child]) == {"cancelled": 1, "asked to stop": 0}
    assert (status(store, parent), status(store, child)) == ("queued", "cancelled")


def test_a_running_job_is_asked_to_stop_and_its_worker_hears_of_it(store: Store) -> None:
    job, other = file(store, *specs(seeds="1,2"))
    held = claim_one(store)
    assert beat(store, held) is False
    assert submission.cancel(store, [job]) == {"cancelled": 0, "asked to stop": 1}
    assert status(store, job) == "running"
    assert queries.cancel_requested(store, [job, other]) == {job}
    assert beat(store, held) is True
    assert fail(store, held, Outcome.CANCELLED) == "cancelled"


def test_cancelling_finished_jobs_changes_nothing(store: Store) -> None:
    (job,) = file(store, spec())
    finish(store, claim_one(store))
    before = whole_row(store, job)
    assert submission.cancel(store, [job]) == {"cancelled": 0, "asked to stop": 0}
    assert whole_row(store, job) == before


@pytest.mark.parametrize("outcome", [Outcome.FAILED, Outcome.RELEASED])
def test_a_job_that_was_asked_to_stop_is_not_queued_again(store: Store, outcome: Outcome) -> None:
    """Its attempt ended before its worker heard of the wish; the wish of the person still stands."""
    (job,) = file(store, spec())
    held = claim_one(store)
    submission.cancel(store, [job])
    fail(store, held, outcome)
    assert status(store, job) == "cancelled"


def test_many_submissions_that_go_on_from_one_job_do_not_block_each_other(store: Store) -> None:
    (parent,) = file(store, spec())
    before = queries.spec_of(store, parent)

    def go_on(number: int) -> None:
        child = Sweep.parse({**inherited(before), "optimizer": "adam", "lr": number + 1}).jobs(before)
        submission.file_jobs(store, f"e{number % 4}", child, parent_id=parent)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(go_on, range(40)))
    assert queries.count_by_status(store) == {"blocked": 40, "queued": 1}
