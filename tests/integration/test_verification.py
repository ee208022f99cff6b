"""What mlpq verify files, concludes and stores, on both databases."""

from __future__ import annotations

from typing import Any

import pytest

from mlpq.errors import NotFoundError
from mlpq.jobs import VERIFY, Outcome
from mlpq.store import execution, queries, submission
from mlpq.store.execution import Able
from mlpq.store.session import Store
from mlpq.store.submission import Again
from mlpq.verification import verify
from mlpq.verification.grading import Grade
from tests.support.job_steps import FACTS, child_of, claim, claim_one, fail, file, finish, row, spec, specs, whole_row


def run_again(store: Store, job: str) -> str:
    """The claimed job that runs it again."""
    (new,) = submission.file_repeats(store, VERIFY, [Again(queries.spec_of(store, job), None, "cpu", 1)])
    return new.id


def verified(store: Store, job: str, rerun: str) -> dict[str, Any]:
    cases = verify.look_through(store, [job])
    verify.conclude(store, cases, {job: rerun})
    return queries.verifications_of(store, job)[-1]


@pytest.fixture
def done(store: Store) -> str:
    """A job with a result; its epochs are not those of its result, and its weights are nowhere."""
    (job,) = file(store, spec())
    finish(store, claim_one(store))
    return job


def test_repeats_have_ids_of_their_own_also_of_one_spec(store: Store) -> None:
    one, other = spec(), spec(seeds=7)
    file(store, one, experiment=VERIFY)
    again = [Again(each, None, "cpu", 1) for each in (one, other, one)]
    ids = [new.id for new in submission.file_repeats(store, VERIFY, again)]
    assert len(set(ids)) == 3
    assert [whole_row(store, job)["repeat"] for job in ids] == [1, 0, 2]
    assert [queries.spec_of(store, job) for job in ids] == [one, other, one]
    assert row(store, ids[0])["requested_device"] == "cpu"
    assert row(store, ids[0])["requested_world_size"] == 1


def test_a_repeat_goes_on_from_the_parent_that_is_there_also_beside_a_repeat_of_it(store: Store) -> None:
    parent, child = spec(), child_of(spec())
    first, second = file(store, parent, child)
    finish(store, claim_one(store))
    again = [Again(parent, None, "cpu", 1), Again(child, first, "cpu", 1)]
    ids = [new.id for new in submission.file_repeats(store, VERIFY, again)]
    assert [row(store, job)["parent_id"] for job in (second, ids[1])] == [first, first]
    assert row(store, ids[1])["status"] == "queued"


def test_a_training_that_diverges_now_refutes_the_result(store: Store, done: str) -> None:
    rerun = run_again(store, done)
    fail(store, claim_one(store), Outcome.DIVERGED, "the loss became nan in epoch 1")
    found = verified(store, done, rerun)
    assert (found["grade"], found["rerun_id"]) == (Grade.REFUTED, rerun)
    assert "the training diverged: the loss became nan" in found["reason"]


def test_an_attempt_that_could_not_run_proves_nothing(store: Store, done: str) -> None:
    submission.cancel(store, [rerun := run_again(store, done)])
    cases = verify.look_through(store, [done])
    cases = [verify.Case(case.record, case.curve, verify.Audit(case.audit.spec, [], [])) for case in cases]
    (found,) = verify.conclude(store, cases, {done: rerun})
    assert found.grade is Grade.NOT_VERIFIED
    assert found.reason == "the new run was cancelled: cancelled"


def test_what_was_found_is_stored_each_time(store: Store, done: str) -> None:
    assert queries.verifications_of(store, done) == []
    rerun = run_again(store, done)
    finish(store, claim_one(store), test_correct=449)
    first, second = verified(store, done, rerun), verified(store, done, rerun)
    assert len(queries.verifications_of(store, done)) == 2
    assert {**first, "checked_at": None} == {**second, "checked_at": None}
    assert first["checked_at"] <= second["checked_at"]
    assert {"name": "test_correct", "recorded": 450, "now": 449, "agrees": True} in first["figures"]
    assert "test_correct: 450 in the result, 400 in epoch 2 of the curve" in first["misfits"]
    assert "/nowhere/attempt-1.safetensors" in first["unchecked"][0]


ELSEWHERE = {"torch": "2.14.0"}


def test_a_figure_is_held_against_the_other_seeds_as_they_come_out_now(store: Store) -> None:
    """Four seeds whose records were all doctored alike: the new run is the odd one out, until all are run again."""
    ids = file(store, *specs(seeds="1..4"))
    for correct in (480, 482, 484, 486):
        finish(store, claim_one(store), test_correct=correct, best_epoch=2)
    repeats = [Again(queries.spec_of(store, job), None, "cpu", 1) for job in ids]
    reruns = [new.id for new in submission.file_repeats(store, VERIFY, repeats)]
    for correct in (420, 422, 424, 426):
        held = execution.claim(store, "bob", Able("cpu"), {**FACTS, **ELSEWHERE})[0]
        finish(store, held, test_correct=correct, weights_sha256="cd" * 32)
    cases = [
        verify.Case(case.record, case.curve, verify.Audit(case.audit.spec, [], []))
        for case in verify.look_through(store, ids)
    ]
    (alone,) = verify.conclude(store, cases[:1], {ids[0]: reruns[0]})
    assert alone.reason.startswith("the new accuracy lies outside")
    assert "of its 3 other seeds" in alone.reason
    together = verify.conclude(store, cases, dict(zip(ids, reruns, strict=True)))
    assert [found.grade for found in together] == [Grade.REFUTED] * 4
    assert all("the recorded accuracy lies outside" in found.reason for found in together)


def test_a_parent_that_is_not_verified_too_is_said_not_to_be_checked(store: Store) -> None:
    parent, child = file(store, spec(), child_of(spec()))
    for _ in range(2):
        finish(store, claim_one(store))
    (rerun,) = submission.file_repeats(store, VERIFY, [Again(queries.spec_of(store, child), parent, "cpu", 1)])
    finish(store, claim_one(store))
    lines = {}
    for ids in ([child], [parent, child]):
        found = verify.conclude(store, verify.look_through(store, ids), dict.fromkeys(ids, rerun.id))
        lines[len(ids)] = found[-1].unchecked
    note = f"job {parent[:8]}, which it goes on from: mlpq verify {parent[:8]}"
    assert (note in lines[1], note in lines[2]) == (True, False)


def test_results_are_found_by_experiment_and_by_the_beginning_of_an_id(store: Store) -> None:
    good, other = file(store, *specs(seeds="1,2")), file(store, spec(), experiment=VERIFY)
    assert len(claim(store, limit=9)) == 3
    for job in (*good, *other):
        assert row(store, job)["status"] == "running"
    with pytest.raises(NotFoundError, match="the experiment lab has no result yet"):
        verify.candidates(store, ["lab"])
    with pytest.raises(NotFoundError, match="is running: only one that succeeded has a result"):
        verify.candidates(store, [good[0]])


def test_an_experiment_is_meant_before_a_job(store: Store) -> None:
    (job,) = file(store, spec())
    finish(store, claim_one(store))
    (other,) = file(store, spec(), experiment=job[:8])
    finish(store, claim_one(store))
    assert verify.candidates(store, [job[:8]]) == [other]
    assert verify.candidates(store, [job[:9], "lab", other, job[:8]]) == [job, other]
    with pytest.raises(NotFoundError, match="no experiment is called 'zzz', and 'zzz' is no job id"):
        verify.candidates(store, ["zzz"])
