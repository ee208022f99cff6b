"""Options of a job that the experiment has already: they change it while it waits, or it is said. On both databases."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlpq.jobs import VERIFY, Engine
from mlpq.records import Placement, Rerun, SubmittedJob
from mlpq.settings import read_settings
from mlpq.spec.sweep import Sweep
from mlpq.store import submission
from mlpq.store.session import Store
from mlpq.submit import change_waiting_jobs, plan, submit
from tests.support.job_steps import child_of, claim_one, finish, row, whole_row
from tests.support.job_steps import submit as submit_specs

KEYS = {"experiment": "lab", "dataset": "digits", "seeds": "1..3"}


def resubmit(store: Store, folder: Path, **options: object) -> str:
    config = read_settings({"MLPQ_HOME": str(folder), "MLPQ_DATABASE_URL": store.url})
    submission = plan({**KEYS, **options})
    submitted, _ = submit(config, store, submission)
    return change_waiting_jobs(config, store, submission, submitted)


@pytest.mark.parametrize(
    ("options", "column", "value"),
    [
        ({"device": "cuda"}, "device", "cuda"),
        ({"world_size": 2}, "world_size", 2),
        ({"priority": 7}, "priority", 7),
        ({"attempts": 9}, "max_attempts", 9),
    ],
    ids=str,
)
def test_requested_option_changes_waiting_jobs_and_nothing_else(
    store: Store, tmp_path: Path, options: dict[str, object], column: str, value: object
) -> None:
    jobs = submit_specs(store, *Sweep.parse(KEYS).jobs(), priority=3, device="cpu")
    before = [whole_row(store, job) for job in jobs]
    said = resubmit(store, tmp_path, **options)
    assert said == f"--{next(iter(options)).replace('_', '-')} changed for 3 waiting jobs"
    for job, old in zip(jobs, before, strict=True):
        gang_key = row(store, job).spec.gang_key_on(2 if column == "world_size" else None)
        assert whole_row(store, job) == {**old, column: value, "gang_key": gang_key}
    assert resubmit(store, tmp_path, **options) == ""


def test_option_that_is_not_given_changes_nothing(store: Store, tmp_path: Path) -> None:
    jobs = submit_specs(store, *Sweep.parse(KEYS).jobs(), priority=3, device="cuda")
    before = [whole_row(store, job) for job in jobs]
    assert resubmit(store, tmp_path, lr="0.001") == ""
    assert [whole_row(store, job) for job in jobs] == before


def test_blocked_job_changes_with_its_parent(store: Store, tmp_path: Path) -> None:
    config = read_settings({"MLPQ_HOME": str(tmp_path), "MLPQ_DATABASE_URL": store.url})
    for device in ("auto", "cpu"):
        submission = plan({"dataset": "digits", "device": device}, "textbook")
        submitted, _ = submit(config, store, submission)
        said = change_waiting_jobs(config, store, submission, submitted)
    assert said == "--device changed for 3 waiting jobs"
    assert {whole_row(store, job.id)["device"] for job in submitted} == {"cpu"}


def test_jobs_that_started_keep_what_they_run_on_and_it_is_said(store: Store, tmp_path: Path) -> None:
    jobs = submit_specs(store, *Sweep.parse(KEYS).jobs())
    finish(store, claim_one(store))
    claim_one(store)
    before = [whole_row(store, job) for job in jobs[:2]]
    said = resubmit(store, tmp_path, device="cpu", priority=1)
    assert said == (
        "--device and --priority changed for 1 waiting job; no effect of --device and --priority on 2 jobs that "
        "started before: --again runs them anew"
    )
    assert [whole_row(store, job) for job in jobs[:2]] == before
    assert whole_row(store, jobs[2])["device"] == "cpu"


def test_child_in_another_submission_keeps_its_device(store: Store, tmp_path: Path) -> None:
    jobs = submit_specs(store, *Sweep.parse(KEYS).jobs())
    (other,) = submit_specs(store, child_of(row(store, jobs[0]).spec, seeds=1), parent_id=jobs[0])
    resubmit(store, tmp_path, device="cpu")
    assert whole_row(store, other)["device"] == "auto"


def test_changed_priority_leaves_a_job_in_its_gang(store: Store) -> None:
    (one, *_) = Sweep.parse(KEYS).jobs()
    ids = submit_specs(store, one, world_size=2)
    reruns = submission.submit_reruns(store, VERIFY, [Rerun(one, None, "cpu", 1, Engine.PLAIN)])
    ids += [rerun.id for rerun in reruns]
    before = [whole_row(store, job) for job in ids]
    known = [SubmittedJob(job, one, is_new=False) for job in ids]
    assert submission.change_placement(store, known, Placement(priority=7), ["priority"]) == (2, 0)
    assert [whole_row(store, job) for job in ids] == [{**old, "priority": 7} for old in before]
