"""Reading: jobs by prefixes of their ids, the view `results`, and equal results on both databases."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import update

from mlpq.errors import NotFoundError
from mlpq.experiment_list import experiment_list
from mlpq.jobs import Outcome
from mlpq.records import JobRecord
from mlpq.results_view import COLUMNS, FIGURE_COLUMNS, flat
from mlpq.store import queries
from mlpq.store.schema import jobs
from mlpq.store.session import Store
from tests.support.job_steps import child_of, claim_one, fail, finish, result, row, spec, specs, submit

A = "aaaaaaaa-1111-5000-8000-000000000001"
B = "aaaaaaaa-1111-5000-8000-000000000002"
C = "aaaaaaab-0000-5000-8000-000000000003"


@pytest.fixture
def named(store: Store) -> Store:
    """Three jobs whose ids are A, B and C."""
    for given, id_ in zip(submit(store, *specs(seeds="1..3")), (A, B, C), strict=True):
        with store.write() as connection:
            connection.execute(update(jobs).where(jobs.c.id == given).values(id=id_))
    return store


@pytest.mark.parametrize(
    ("typed", "found"),
    [
        (A, A),
        (A.upper(), A),
        (A.replace("-", ""), A),
        (f" {B} ", B),
        (C[:8], C),
        (C[:9], C),
        ("aaaaaaab0000", C),
        ("AAAAAAAB-00", C),
        (B.replace("-", "")[:32], B),
    ],
)
def test_unambiguous_prefix_finds_the_job(named: Store, typed: str, found: str) -> None:
    assert queries.find_job(named, typed) == found


@pytest.mark.parametrize("typed", ["a", "aaaaaaaa", "aaaaaaaa-", A[:-1], "aaaaaaaa1111"])
def test_ambiguous_prefix_error_names_two_jobs(named: Store, typed: str) -> None:
    with pytest.raises(NotFoundError, match=f"several jobs begin with.*{A} and {B}"):
        queries.find_job(named, typed)


@pytest.mark.parametrize("typed", ["b", "aaaaaaac", A + "0", "0" * 33])
def test_unknown_prefix_is_an_error(named: Store, typed: str) -> None:
    with pytest.raises(NotFoundError, match="mlpq jobs"):
        queries.find_job(named, typed)


@pytest.mark.parametrize("typed", ["", "-", "xyz", "aaaaaaag", "a%", "a_", "'; DROP TABLE jobs", "ä"])
def test_invalid_prefix_is_an_error(named: Store, typed: str) -> None:
    with pytest.raises(NotFoundError, match="is not a job id"):
        queries.find_job(named, typed)


def test_unknown_experiment_error_names_the_latest_ones(store: Store) -> None:
    with pytest.raises(NotFoundError, match="there is none yet"):
        queries.check_experiment(store, "lab")
    submit(store, spec(), experiment="one")
    submit(store, spec(), experiment="two")
    with pytest.raises(NotFoundError, match="the latest are: two, one"):
        queries.check_experiment(store, "lab")
    queries.check_experiment(store, "one")
    queries.check_experiment(store, None)


def test_jobs_are_counted_and_filtered_by_status_and_experiment(store: Store) -> None:
    submit(store, *specs(seeds="0..2"), experiment="one")
    submit(store, spec(), child_of(spec()), experiment="two")
    finish(store, claim_one(store))
    assert queries.count_by_status(store) == {"blocked": 1, "queued": 3, "succeeded": 1}
    assert queries.count_by_status(store, "two") == {"blocked": 1, "queued": 1}
    assert [found.spec.seed for found in queries.job_records(store, "one", ["queued"])] == [1, 2]
    assert [
        found.spec.seed
        for found in queries.listed_jobs(store, "one", limit=2, newest_first=True)
        if isinstance(found, JobRecord)
    ] == [2, 1]
    assert len(queries.job_records(store, statuses=["succeeded", "blocked"])) == 2


def fill(store: Store) -> None:
    """Jobs with every status, and every type of value in the view."""
    arms = [
        *specs(optimizer="adam", seeds="0..1"),
        *specs(optimizer="sgd:momentum=0.9", lr="0.1,0.001", seeds="0..1", hidden="16,8", activation="tanh"),
        spec(hidden="none", bias=False, l1="1e-7", initialisation="truncated-normal"),
        spec(dropout="0.25", validation="0.1", patience=2, optimizer="adamw", lr="1e30"),
        spec(optimizer="rprop:step_sizes=1e-06/50"),
        spec(schedule="cosine", warmup=0.25, clip_norm=1, label_smoothing=0.1, epochs=3),
    ]
    submit(store, *arms, experiment="lab", priority=1)
    submit(store, spec(seeds=5), child_of(spec(seeds=5), seeds=5), experiment="other", device="cpu")
    for number, claimed in enumerate([claim_one(store) for _ in arms[1:]]):
        if number == 1:
            fail(store, claimed, Outcome.DIVERGED, "the loss became nan in epoch 1")
        elif number == 2:
            fail(store, claimed, Outcome.CANCELLED, "cancelled")
        elif number != 3:
            held_out = {"validation_correct": 100, "validation_total": 130, "validation_loss": 0.5}
            extra = held_out if claimed.spec.validation else {}
            finish(store, claimed, test_correct=400 + number, weights_sha256=f"{number:064x}", **extra)


STATEMENTS = (
    "SELECT experiment, status, count(*) FROM results GROUP BY experiment, status ORDER BY experiment, status",
    "SELECT optimizer, lr, count(*), avg(test_accuracy), min(test_correct) FROM results WHERE status = 'succeeded' "
    "GROUP BY optimizer, lr ORDER BY optimizer, lr",
    "SELECT seed, test_correct FROM results WHERE hidden = '16,8' AND lr < 0.01 ORDER BY seed",
    "SELECT id FROM results WHERE hidden = 'none' AND NOT bias",
    "SELECT count(*) FROM results WHERE bias",
    "SELECT id, test_correct IS NULL, train_seconds IS NULL FROM results WHERE status = 'queued' ORDER BY seq",
    "SELECT max(epochs), sum(batch_size), max(lr), min(l1), max(dropout) FROM results",
    "SELECT seed, validation_correct, validation_total, validation_accuracy, patience FROM results "
    "WHERE validation > 0",
    "SELECT child.seed, parent.status FROM results AS child JOIN results AS parent ON child.parent_id = parent.id",
    "SELECT weight_decay, count(*) FROM results GROUP BY weight_decay ORDER BY weight_decay NULLS LAST",
    "SELECT status, outcome, error FROM results WHERE error IS NOT NULL ORDER BY seq",
    "SELECT initialisation, count(*) FROM results GROUP BY initialisation ORDER BY initialisation",
    "SELECT schedule, warmup, clip_norm, label_smoothing, count(*) FROM results "
    "GROUP BY schedule, warmup, clip_norm, label_smoothing ORDER BY schedule",
    "SELECT dataset, activation, requested_device, priority, world_size, gang_size, engine, device, worker, attempt "
    "FROM results ORDER BY seq",
    "SELECT test_correct, test_total, test_accuracy, weights_sha256 FROM results "
    "ORDER BY test_accuracy DESC NULLS LAST, seq LIMIT 2 OFFSET 1",
    "SELECT count(*) FROM results WHERE finished_at >= started_at AND started_at >= created_at",
)


@pytest.mark.parametrize("statement", STATEMENTS)
def test_plain_sql_returns_the_same_on_both_databases(both_stores: tuple[Store, Store], statement: str) -> None:
    answers = []
    for store in both_stores:
        fill(store)
        with store.read() as connection:
            answers.append([tuple(found) for found in connection.exec_driver_sql(statement)])
    assert answers[0] == answers[1]
    assert answers[0]


def raw(store: Store) -> list[dict[str, Any]]:
    with store.read() as connection:
        return [dict(found) for found in connection.exec_driver_sql("SELECT * FROM results ORDER BY seq").mappings()]


def test_view_has_the_same_columns_types_and_values_on_both_databases(both_stores: tuple[Store, Store]) -> None:
    """SQLite has no booleans and times, and returns 0 or 1, and text. JSON is text on both, with different spaces."""
    for store in both_stores:
        fill(store)
    sqlite, postgresql = map(raw, both_stores)
    times = {"created_at", "started_at", "finished_at"}
    assert len(sqlite) == len(postgresql) > 8
    for one, other in zip(sqlite, postgresql, strict=True):
        assert list(one) == list(other) == ["seq", *COLUMNS]
        for name in ("optimizer_settings", "schedule_settings"):
            assert json.loads(one[name]) == json.loads(other[name])
        for name in set(one) - times - {"optimizer_settings", "schedule_settings"}:
            assert one[name] == other[name], name
            assert type(one[name]) is type(other[name]) or name == "bias", name
        assert [one[name] is None for name in times] == [other[name] is None for name in times]


def test_records_are_equal_on_both_databases(both_stores: tuple[Store, Store]) -> None:
    for store in both_stores:
        fill(store)
    sqlite, postgresql = ([without_times(job) for job in queries.job_records(store)] for store in both_stores)
    assert sqlite == postgresql
    for store in both_stores:
        assert all(job.created_at.tzinfo is UTC for job in queries.job_records(store))


def without_times(job: JobRecord) -> JobRecord:
    return replace(job, created_at=datetime.min, started_at=None, finished_at=None)


def test_view_has_a_row_for_every_job(store: Store) -> None:
    fill(store)
    assert Counter(found["status"] for found in raw(store)) == {
        "succeeded": 6, "failed": 1, "cancelled": 1, "running": 1, "queued": 2, "blocked": 1,
    }  # fmt: skip


def test_job_without_a_result_has_no_figures(store: Store) -> None:
    (job,) = submit(store, spec())
    found = row(store, job)
    assert (found.result, found.outcome, found.worker, found.error) == (None, None, None, None)
    assert (found.started_at, found.finished_at) == (None, None)
    assert (found.status, found.attempt, found.spec.hidden, found.spec.bias) == ("queued", 0, (32,), True)
    columns = flat(found)
    assert list(columns) == list(COLUMNS)
    assert {columns[name] for name in FIGURE_COLUMNS} == {None}


def test_accuracy_is_correct_divided_by_total(store: Store) -> None:
    (job,) = submit(store, spec())
    finish(store, claim_one(store), test_correct=333, test_total=500)
    assert result(store, job).test_accuracy == 333 / 500


def test_owner_is_who_submitted_to_the_experiment_first(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    for login, experiment in (("ann", "hers"), ("bob", "his"), ("bob", "hers")):
        monkeypatch.setenv("LOGNAME", login)
        submit(store, spec(), experiment=experiment, again=True)
    assert {each.name: each.owner for each in experiment_list(store, 9)} == {"hers": "ann", "his": "bob"}
