"""What a shell completes from the database. On both databases."""

from __future__ import annotations

from mlpq.spec.data_content import DataContent
from mlpq.store import completion, data_sets
from mlpq.store.session import Store
from tests.support.job_steps import spec, specs, submit


def test_latest_experiments_are_completed_first(store: Store) -> None:
    for name in ("one", "two", "three"):
        submit(store, spec(), experiment=name)
    assert completion.experiments(store, 2) == ["three", "two"]


def test_each_own_data_set_is_completed_once_by_name(store: Store) -> None:
    for name, digit in (("wine", "a"), ("iris", "b"), ("wine", "c"), ("yeast", "d")):
        content = DataContent(sha256=digit * 64, features=2, classes=2, train=6, test=4)
        data_sets.register(store, name, content, 100, {})
    assert completion.data_sets(store, 3) == ["iris", "wine", "yeast"]
    assert completion.data_sets(store, 2) == ["iris", "wine"]


def test_latest_jobs_whose_ids_begin_so_are_completed_first(store: Store) -> None:
    ids = submit(store, *specs(seeds="1..40"))
    found = completion.jobs(store, "", 3)
    assert found == [(job, "lab, queued") for job in ids[:-4:-1]]
    first = ids[0][:1]
    assert completion.jobs(store, first, 99) == [(job, "lab, queued") for job in reversed(ids) if job[0] == first]
    assert completion.jobs(store, "%", 99) == completion.jobs(store, "_", 99) == []
