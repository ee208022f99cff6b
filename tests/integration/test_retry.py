"""Retrying: a finished job stays unchanged, and a new one is submitted for its spec. On both databases."""

from __future__ import annotations

import pytest

from mlpq.errors import SpecError
from mlpq.jobs import Outcome, job_id
from mlpq.records import ClaimedJob
from mlpq.store import queries, submission
from mlpq.store.session import Store
from tests.support.job_steps import (
    child_of,
    claim_one,
    claim_rest,
    fail,
    finish,
    let_delay_pass,
    row,
    spec,
    specs,
    status,
    submit,
    whole_row,
)


def use_up_attempts(store: Store, claimed: ClaimedJob) -> None:
    while fail(store, claimed) == "queued":
        let_delay_pass(store, claimed.id)
        (claimed,) = [other for other in claim_rest(store) if other.id == claimed.id]


def test_retry_submits_a_failed_job_again_and_leaves_it_unchanged(store: Store) -> None:
    (job,) = submit(store, spec(), device="cpu", priority=3, attempts=2)
    use_up_attempts(store, claim_one(store))
    before = whole_row(store, job)
    (retried,) = submission.retry_jobs(store, [job])
    assert whole_row(store, job) == before
    new = whole_row(store, retried.id)
    assert (new["status"], new["attempt"], new["repeat"]) == ("queued", 0, 1)
    kept = ("spec", "spec_hash", "seed", "device", "priority", "max_attempts", "experiment_id")
    assert all(new[key] == before[key] for key in kept)
    claimed = claim_one(store)
    assert (claimed.id, claimed.attempt, claimed.spec) == (retried.id, 1, spec())


def test_retry_submits_a_cancelled_job_again(store: Store) -> None:
    (job,) = submit(store, spec())
    submission.cancel(store, [job])
    (retried,) = submission.retry_jobs(store, [job])
    assert status(store, retried.id) == "queued"


@pytest.mark.parametrize("state", ["queued", "running", "succeeded"])
def test_only_failed_and_cancelled_jobs_are_retried(store: Store, state: str) -> None:
    (job,) = submit(store, spec())
    claimed = claim_one(store) if state != "queued" else None
    if claimed is not None and state == "succeeded":
        finish(store, claimed)
    with pytest.raises(SpecError, match=f"is {state}: only failed and cancelled"):
        submission.retry_jobs(store, [job])
    assert len(queries.job_records(store)) == 1


def test_retried_children_continue_from_the_retried_parent(store: Store) -> None:
    child = child_of(spec())
    ids = submit(store, spec(), child, child_of(child))
    use_up_attempts(store, claim_one(store))
    assert queries.with_descendants(store, ids[0]) == ids
    retried = [job.id for job in submission.retry_jobs(store, ids)]
    assert [row(store, job).parent_id for job in retried] == [None, *retried[:2]]
    assert [status(store, job) for job in retried] == ["queued", "blocked", "blocked"]
    finish(store, claim_one(store))
    finish(store, claim_one(store))
    finish(store, claim_one(store))
    assert [status(store, job) for job in retried] == ["succeeded"] * 3


def test_retried_child_continues_from_its_succeeded_parent(store: Store) -> None:
    parent, child = submit(store, spec(), child_of(spec()))
    finish(store, claim_one(store))
    use_up_attempts(store, claim_one(store))
    assert queries.with_descendants(store, child) == [child]
    (retried,) = submission.retry_jobs(store, [child])
    assert (status(store, retried.id), row(store, retried.id).parent_id) == ("queued", parent)


def test_child_of_a_failed_parent_is_not_retried_alone(store: Store) -> None:
    _, child = submit(store, spec(), child_of(spec()))
    use_up_attempts(store, claim_one(store))
    with pytest.raises(SpecError, match="no job can continue from it"):
        submission.retry_jobs(store, [child])
    assert len(queries.job_records(store)) == 2


def test_descendants_to_retry_exclude_queued_children(store: Store) -> None:
    """Of two children of a succeeded parent, the cancelled one can be retried, the queued one not."""
    ids = submit(store, spec(), child_of(spec()))
    submission.cancel(store, ids[1:])
    finish(store, claim_one(store))
    submit(store, child_of(spec(), lr="0.5"), parent_id=ids[0])
    assert queries.with_descendants(store, ids[0]) == ids


def test_retryable_includes_failed_jobs_and_their_descendants(store: Store) -> None:
    ids = submit(store, spec(), child_of(spec()))
    use_up_attempts(store, claim_one(store))
    assert queries.retryable(store, "lab") == ids
    assert queries.retryable(store, None) == ids


def test_retryable_excludes_diverged_jobs_and_their_descendants(store: Store) -> None:
    submit(store, spec(), child_of(spec()))
    fail(store, claim_one(store), Outcome.DIVERGED)
    assert queries.retryable(store, None) == []


def test_retryable_excludes_cancelled_jobs_and_other_experiments(store: Store) -> None:
    (cancelled, failed) = submit(store, *specs(seeds="1,2"))
    submission.cancel(store, [cancelled])
    use_up_attempts(store, claim_one(store))
    (elsewhere,) = submit(store, spec(), experiment="other")
    use_up_attempts(store, claim_one(store))
    assert queries.retryable(store, "lab") == [failed]
    assert queries.retryable(store, "other") == [elsewhere]
    assert queries.retryable(store, None) == [failed, elsewhere]


def test_retryable_excludes_jobs_that_were_retried(store: Store) -> None:
    ids = submit(store, spec(), child_of(spec()))
    use_up_attempts(store, claim_one(store))
    retried = [job.id for job in submission.retry_jobs(store, ids)]
    assert queries.retryable(store, None) == []
    use_up_attempts(store, claim_one(store))
    assert queries.retryable(store, None) == retried


def test_more_jobs_are_retried_than_a_statement_takes_parameters(store: Store) -> None:
    """PostgreSQL's driver takes 65,535 parameters; the made-up ids exceed that."""
    ids = submit(store, *specs(seeds="0..2"))
    submission.cancel(store, ids)
    made_up = [job_id("nowhere", "", number) for number in range(65_535)]
    assert len(submission.retry_jobs(store, [*ids[:2], *made_up, ids[2]])) == 3


def test_retried_job_has_all_its_attempts(store: Store) -> None:
    (job,) = submit(store, spec())
    use_up_attempts(store, claim_one(store))
    submission.retry_jobs(store, [job])
    for _ in range(2):
        claimed = claim_one(store)
        assert fail(store, claimed) == "queued"
        let_delay_pass(store, claimed.id)
    assert fail(store, claim_one(store)) == "failed"
