"""Retrying: a finished job stays as it is, and another one is filed in its place. On both databases."""

from __future__ import annotations

import pytest

from mlpq.errors import SpecError
from mlpq.jobs import MAX_ATTEMPTS, Outcome, job_id
from mlpq.store import queries, submission
from mlpq.store.execution import Held
from mlpq.store.session import Store
from tests.support.job_steps import (
    child_of,
    claim_one,
    claim_rest,
    fail,
    file,
    finish,
    let_delay_pass,
    row,
    spec,
    specs,
    status,
    whole_row,
)


def fail_for_good(store: Store, held: Held) -> None:
    while fail(store, held) == "queued":
        let_delay_pass(store, held.id)
        (held,) = [other for other in claim_rest(store) if other.id == held.id]


def test_a_failed_job_is_filed_anew_and_itself_unchanged(store: Store) -> None:
    (job,) = file(store, spec(), device="cpu", priority=3, attempts=2)
    fail_for_good(store, claim_one(store))
    before = whole_row(store, job)
    (renewed,) = submission.file_again(store, [job])
    assert whole_row(store, job) == before
    new = whole_row(store, renewed.id)
    assert (new["status"], new["attempt"], new["repeat"]) == ("queued", 0, 1)
    kept = ("spec", "spec_hash", "seed", "device", "priority", "max_attempts", "experiment_id")
    assert all(new[key] == before[key] for key in kept)
    held = claim_one(store)
    assert (held.id, held.attempt, held.spec) == (renewed.id, 1, spec())


def test_a_cancelled_job_is_filed_anew(store: Store) -> None:
    (job,) = file(store, spec())
    submission.cancel(store, [job])
    (renewed,) = submission.file_again(store, [job])
    assert status(store, renewed.id) == "queued"


@pytest.mark.parametrize("state", ["queued", "running", "succeeded"])
def test_only_jobs_that_ended_badly_are_retried(store: Store, state: str) -> None:
    (job,) = file(store, spec())
    held = claim_one(store) if state != "queued" else None
    if held is not None and state == "succeeded":
        finish(store, held)
    with pytest.raises(SpecError, match=f"is {state}: only failed and cancelled"):
        submission.file_again(store, [job])
    assert len(queries.job_rows(store)) == 1


def test_a_family_is_filed_anew_as_a_family(store: Store) -> None:
    child = child_of(spec())
    ids = file(store, spec(), child, child_of(child))
    fail_for_good(store, claim_one(store))
    assert queries.with_descendants(store, ids[0]) == ids
    renewed = [job.id for job in submission.file_again(store, ids)]
    assert [row(store, job)["parent_id"] for job in renewed] == [None, *renewed[:2]]
    assert [status(store, job) for job in renewed] == ["queued", "blocked", "blocked"]
    finish(store, claim_one(store))
    finish(store, claim_one(store))
    finish(store, claim_one(store))
    assert [status(store, job) for job in renewed] == ["succeeded"] * 3


def test_a_child_alone_goes_on_from_the_parent_that_it_had(store: Store) -> None:
    parent, child = file(store, spec(), child_of(spec()))
    finish(store, claim_one(store))
    fail_for_good(store, claim_one(store))
    assert queries.with_descendants(store, child) == [child]
    (renewed,) = submission.file_again(store, [child])
    assert (status(store, renewed.id), row(store, renewed.id)["parent_id"]) == ("queued", parent)


def test_a_child_of_a_failed_parent_is_not_retried_alone(store: Store) -> None:
    _, child = file(store, spec(), child_of(spec()))
    fail_for_good(store, claim_one(store))
    with pytest.raises(SpecError, match="nothing can go on from it"):
        submission.file_again(store, [child])
    assert len(queries.job_rows(store)) == 2


def test_living_children_are_no_descendants_to_retry(store: Store) -> None:
    """A child filed after the retry belongs to another parent; a cancelled one belongs to its own."""
    ids = file(store, spec(), child_of(spec()))
    submission.cancel(store, ids[1:])
    finish(store, claim_one(store))
    file(store, child_of(spec(), lr="0.5"), parent_id=ids[0])
    assert queries.with_descendants(store, ids[0]) == ids


def test_retryable_are_the_failed_ones_and_what_was_to_go_on_from_them(store: Store) -> None:
    ids = file(store, spec(), child_of(spec()))
    fail_for_good(store, claim_one(store))
    assert queries.retryable(store, "lab") == ids
    assert queries.retryable(store, None) == ids


def test_retryable_leaves_out_what_diverged_and_what_waited_for_it(store: Store) -> None:
    file(store, spec(), child_of(spec()))
    fail(store, claim_one(store), Outcome.DIVERGED)
    assert queries.retryable(store, None) == []


def test_retryable_leaves_out_cancelled_and_other_experiments_jobs(store: Store) -> None:
    (cancelled, failed) = file(store, *specs(seeds="1,2"))
    submission.cancel(store, [cancelled])
    fail_for_good(store, claim_one(store))
    (elsewhere,) = file(store, spec(), experiment="other")
    fail_for_good(store, claim_one(store))
    assert queries.retryable(store, "lab") == [failed]
    assert queries.retryable(store, "other") == [elsewhere]
    assert queries.retryable(store, None) == [failed, elsewhere]


def test_retryable_leaves_out_what_was_filed_anew(store: Store) -> None:
    ids = file(store, spec(), child_of(spec()))
    fail_for_good(store, claim_one(store))
    renewed = [job.id for job in submission.file_again(store, ids)]
    assert queries.retryable(store, None) == []
    fail_for_good(store, claim_one(store))
    assert queries.retryable(store, None) == renewed


def test_more_jobs_are_retried_at_once_than_a_driver_takes_parameters(store: Store) -> None:
    """PostgreSQL's takes 65,535 in a statement; the ids made up here only fill it."""
    ids = file(store, *specs(seeds="0..2"))
    submission.cancel(store, ids)
    made_up = [job_id("nowhere", "", number) for number in range(65_535)]
    assert len(submission.file_again(store, [*ids[:2], *made_up, ids[2]])) == 3


def test_attempts_start_over_in_the_job_that_was_filed_anew(store: Store) -> None:
    (job,) = file(store, spec())
    fail_for_good(store, claim_one(store))
    submission.file_again(store, [job])
    for _ in range(MAX_ATTEMPTS - 1):
        held = claim_one(store)
        assert fail(store, held) == "queued"
        let_delay_pass(store, held.id)
    assert fail(store, claim_one(store)) == "failed"
