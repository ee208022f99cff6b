"""The statuses of a job, their transitions, and ids that are the same for every submission."""

from __future__ import annotations

import uuid

import pytest

from mlpq.jobs import BEAT_SECONDS, FINISHED, LEASE_SECONDS, TRANSITIONS, Status, fingerprint, job_id


def test_finished_statuses_have_no_transitions() -> None:
    with_transitions = {before for before, _ in TRANSITIONS}
    assert set(Status) - with_transitions == FINISHED
    assert {status for status in Status if status.is_finished} == FINISHED


def test_every_status_is_reachable_from_blocked_or_queued() -> None:
    reached = {Status.BLOCKED, Status.QUEUED}
    for _ in Status:
        reached |= {after for before, after in TRANSITIONS if before in reached}
    assert reached == set(Status)


@pytest.mark.parametrize("before", sorted(set(Status) - {Status.RUNNING}))
def test_only_a_running_job_succeeds(before: Status) -> None:
    assert (before, Status.SUCCEEDED) not in TRANSITIONS


def test_three_heartbeats_fit_into_a_lease() -> None:
    assert (BEAT_SECONDS, LEASE_SECONDS) == (20, 60)


def test_id_is_a_uuid_of_experiment_spec_and_repeat() -> None:
    first = job_id("lab", "ab" * 32, 0)
    assert str(uuid.UUID(first)) == first
    assert job_id("lab", "ab" * 32, 0) == first
    others = {job_id("lab", "ab" * 32, 1), job_id("lab", "cd" * 32, 0), job_id("lab2", "ab" * 32, 0)}
    assert len(others | {first}) == 4


def test_ids_are_the_same_in_every_version() -> None:
    assert job_id("lab", "ab" * 32, 0) == "923e58e1-e3ec-571f-bf69-cb43784a9112"


def test_fingerprint_of_an_environment_does_not_depend_on_the_order_of_its_facts() -> None:
    assert fingerprint({"a": 1, "b": 2}) == fingerprint({"b": 2, "a": 1}) != fingerprint({"a": 1, "b": 3})
