"""Verifying: reruns, grades and their storage. On both databases."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from mlpq.errors import NotFoundError
from mlpq.jobs import VERIFY, Outcome
from mlpq.records import Rerun
from mlpq.store import claiming, queries, submission
from mlpq.store.session import Store
from mlpq.verification import verify
from mlpq.verification.audit import Audit
from mlpq.verification_records import FigureCheck, Grade, Verification
from mlpq.worker_records import WorkerCapabilities
from tests.support.job_steps import (
    FACTS,
    child_of,
    claim,
    claim_one,
    fail,
    finish,
    rerun_of,
    row,
    spec,
    specs,
    submit,
    whole_row,
)


def run_again(store: Store, job: str) -> str:
    """The id of a submitted rerun."""
    (new,) = submission.submit_reruns(store, VERIFY, [rerun_of(store, job)])
    return new.id


def verified(store: Store, job: str, rerun: str) -> Verification:
    cases = verify.audit_results(store, [job], Path("/"))
    verify.conclude(store, cases, {job: rerun})
    return queries.verifications_of(store, job)[-1]


@pytest.fixture
def done(store: Store) -> str:
    """A job with a result; its curve does not match its result, and its weights file is missing."""
    (job,) = submit(store, spec())
    finish(store, claim_one(store))
    return job


def test_reruns_of_one_spec_have_distinct_ids(store: Store) -> None:
    one, other = spec(), spec(seeds=7)
    submit(store, one, experiment=VERIFY)
    again = [Rerun(each, None, "cpu", 1) for each in (one, other, one)]
    ids = [new.id for new in submission.submit_reruns(store, VERIFY, again)]
    assert len(set(ids)) == 3
    assert [whole_row(store, job)["repeat"] for job in ids] == [1, 0, 2]
    assert [row(store, job).spec for job in ids] == [one, other, one]
    assert row(store, ids[0]).requested_device == "cpu"
    assert row(store, ids[0]).requested_world_size == 1


def test_rerun_continues_from_the_original_parent(store: Store) -> None:
    parent, child = spec(), child_of(spec())
    first, second = submit(store, parent, child)
    finish(store, claim_one(store))
    again = [Rerun(parent, None, "cpu", 1), Rerun(child, first, "cpu", 1)]
    ids = [new.id for new in submission.submit_reruns(store, VERIFY, again)]
    assert [row(store, job).parent_id for job in (second, ids[1])] == [first, first]
    assert row(store, ids[1]).status == "queued"


def test_diverged_rerun_refutes_the_result(store: Store, done: str) -> None:
    rerun = run_again(store, done)
    fail(store, claim_one(store), Outcome.DIVERGED, "the loss became nan in epoch 1")
    found = verified(store, done, rerun)
    assert (found.grade, found.rerun_id) == (Grade.REFUTED, rerun)
    assert "the training diverged: the loss became nan" in found.reason


def test_cancelled_rerun_verifies_nothing(store: Store, done: str) -> None:
    submission.cancel(store, [rerun := run_again(store, done)])
    cases = verify.audit_results(store, [done], Path("/"))
    cases = [verify.Case(case.stored, case.curve, Audit(case.audit.spec, [], [])) for case in cases]
    (found,) = verify.conclude(store, cases, {done: rerun})
    assert found.grade is Grade.NOT_VERIFIED
    assert found.reason == "the rerun was cancelled: cancelled"


def test_every_verification_is_stored(store: Store, done: str) -> None:
    assert queries.verifications_of(store, done) == []
    rerun = run_again(store, done)
    finish(store, claim_one(store), test_correct=449)
    first, second = verified(store, done, rerun), verified(store, done, rerun)
    assert len(queries.verifications_of(store, done)) == 2
    assert replace(first, checked_at=None) == replace(second, checked_at=None)
    assert first.checked_at is not None
    assert second.checked_at is not None
    assert first.checked_at <= second.checked_at
    assert FigureCheck("test_correct", recorded=450, now=449, agrees=True) in first.figures
    assert "test_correct: 450 in the result, 400 in epoch 2 of the curve" in first.misfits
    assert "/nowhere/attempt-1.safetensors" in first.unchecked[0]


ELSEWHERE = {"torch": "2.14.0"}


def test_accuracy_is_compared_with_reruns_of_the_other_seeds(store: Store) -> None:
    """All records were altered alike: one rerun alone is the outlier; all together they refute the whole arm."""
    ids = submit(store, *specs(seeds="1..8"))
    for correct in range(480, 496, 2):
        finish(store, claim_one(store), test_correct=correct, best_epoch=2)
    repeats = [rerun_of(store, job) for job in ids]
    reruns = [new.id for new in submission.submit_reruns(store, VERIFY, repeats)]
    for correct in range(420, 436, 2):
        claimed = claiming.claim(store, "bob", WorkerCapabilities("cpu"), {**FACTS, **ELSEWHERE})[0]
        finish(store, claimed, test_correct=correct, weights_sha256="cd" * 32)
    cases = [
        verify.Case(case.stored, case.curve, Audit(case.audit.spec, [], []))
        for case in verify.audit_results(store, ids, Path("/"))
    ]
    (alone,) = verify.conclude(store, cases[:1], {ids[0]: reruns[0]})
    assert alone.reason.startswith("the new accuracy is outside")
    assert "the 99.5 % prediction interval of its 7 other seeds" in alone.reason
    together = verify.conclude(store, cases, dict(zip(ids, reruns, strict=True)))
    assert [found.grade for found in together] == [Grade.REFUTED] * 8
    average = "over 8 seeds of its arm the recorded accuracies differ from the new ones by +12.00 points on average"
    assert all(found.reason.startswith(average) for found in together)


def test_parent_outside_the_verification_is_listed_as_unchecked(store: Store) -> None:
    parent, child = submit(store, spec(), child_of(spec()))
    for _ in range(2):
        finish(store, claim_one(store))
    (rerun,) = submission.submit_reruns(store, VERIFY, [rerun_of(store, child, parent)])
    finish(store, claim_one(store))
    lines = {}
    for ids in ([child], [parent, child]):
        found = verify.conclude(store, verify.audit_results(store, ids, Path("/")), dict.fromkeys(ids, rerun.id))
        lines[len(ids)] = found[-1].unchecked
    note = f"job {parent[:8]}, from which it continues: mlpq verify {parent[:8]}"
    assert (note in lines[1], note in lines[2]) == (True, False)


def test_names_without_results_are_errors(store: Store) -> None:
    good, other = submit(store, *specs(seeds="1,2")), submit(store, spec(), experiment=VERIFY)
    assert len(claim(store, limit=9)) == 3
    for job in (*good, *other):
        assert row(store, job).status == "running"
    with pytest.raises(NotFoundError, match="the experiment lab has no result yet"):
        verify.candidates(store, ["lab"])
    with pytest.raises(NotFoundError, match="is running: only a succeeded job has a result"):
        verify.candidates(store, [good[0]])


def test_experiment_takes_precedence_over_a_job_prefix(store: Store) -> None:
    (job,) = submit(store, spec())
    finish(store, claim_one(store))
    (other,) = submit(store, spec(), experiment=job[:8])
    finish(store, claim_one(store))
    assert verify.candidates(store, [job[:8]]) == [other]
    assert verify.candidates(store, [job[:9], "lab", other, job[:8]]) == [job, other]
    with pytest.raises(NotFoundError, match="no experiment is called 'zzz', and 'zzz' is not a job id"):
        verify.candidates(store, ["zzz"])
