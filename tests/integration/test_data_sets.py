"""Own data sets in the database: names and contents, files that are pushed, and which workers get which jobs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sqlalchemy import insert, text, update
from sqlalchemy.exc import DBAPIError

from mlpq import data_registry, formatting
from mlpq.data_records import DataSetRecord, UnreadableDataSet
from mlpq.errors import DataError, NotFoundError, SpecError, StoreError
from mlpq.jobs import Outcome
from mlpq.own_data import files
from mlpq.own_data.content import Content, write
from mlpq.records import AttemptEnding, ClaimedJob, WaitingJobs
from mlpq.spec.job import JobSpec
from mlpq.spec.sweep import Sweep
from mlpq.store import claiming, data_sets, execution, queries, submission, worker_queries
from mlpq.store.schema import data_chunks
from mlpq.store.session import Store
from mlpq.submit import plan
from mlpq.worker_records import TrainingSetup, WorkerCapabilities
from tests.support.job_steps import FACTS, let_delay_pass, row, submit, whole_row

CPU = WorkerCapabilities("cpu")


def made(number: int, rows: int = 6) -> Content:
    """A content of two classes, another one for each number."""
    x = np.arange(2 * rows, dtype=np.float32).reshape(rows, 2) + number
    y = np.arange(rows) % 2
    return Content(x, y, x[:4], y[:4], 1, {"classes": ["no", "yes"], "source": "made"})


def registered(store: Store, name: str = "wine", number: int = 0) -> DataSetRecord:
    found, _ = data_registry.register(store, name, made(number))
    return found


def spec_of(found: DataSetRecord, **keys: object) -> JobSpec:
    document = {"dataset": found.name, "epochs": 2, **keys}
    (spec,) = Sweep.parse(document).jobs(contents={found.name: found.content})
    return spec


def with_data(*found: DataSetRecord) -> WorkerCapabilities:
    return replace(CPU, data=frozenset(each.content.sha256 for each in found))


def claim(store: Store, capabilities: WorkerCapabilities, worker: str = "ann:1:a") -> list[ClaimedJob]:
    return claiming.claim(store, worker, capabilities, FACTS, 9)


# --- names and contents


def test_name_means_the_content_that_was_registered_last(store: Store) -> None:
    first, is_new = data_registry.register(store, "wine", made(0))
    assert is_new
    assert data_registry.register(store, "wine", made(0)) == (first, False)
    second, is_new = data_registry.register(store, "wine", made(1))
    assert is_new
    assert data_sets.find(store, "wine") == second
    again, is_new = data_registry.register(store, "wine", made(0))
    assert is_new
    assert data_sets.find(store, "wine") == again
    assert [each.id for each in data_sets.registered(store)] == [again.id, second.id]
    assert again.dataset.class_names == ("no", "yes")


def test_older_content_is_found_by_the_first_digits_of_its_hash(store: Store) -> None:
    first, second = registered(store), registered(store, number=1)
    assert data_sets.find(store, first.reference) == first
    assert data_sets.find(store, f"wine@{second.content.sha256}") == second
    with pytest.raises(NotFoundError, match="no content of wine begins with 00000000"):
        data_sets.find(store, "wine@00000000")
    with pytest.raises(NotFoundError, match=r"unknown data set 'wines' \(did you mean 'wine'\?\)"):
        data_sets.find(store, "wines")


def test_submission_takes_the_newest_content_and_a_stated_one(store: Store) -> None:
    first, second = registered(store), registered(store, number=1)
    specs = plan({"dataset": ["wine", first.reference, "digits"]}, None, store).specs
    assert [spec.content for spec in specs] == [second.content, first.content, None]
    assert [spec.dataset for spec in specs] == ["wine", "wine", "digits"]
    listed = plan({"sweeps": [{"dataset": "wine"}, {"dataset": "digits", "epochs": 1}]}, None, store).specs
    assert [spec.content for spec in listed] == [second.content, None]
    with pytest.raises(SpecError, match="did you mean 'wine'"):
        plan({"dataset": "winne"}, None, store)


def test_continued_job_trains_on_the_content_of_its_parent(store: Store) -> None:
    first = registered(store)
    (parent,) = submit(store, spec_of(first))
    registered(store, number=1)
    keys = {"continue_from": parent, "optimizer": "adam"}
    assert [spec.content for spec in plan(keys, None, store).specs] == [first.content]
    with pytest.raises(SpecError, match="wine has had other content"):
        plan({**keys, "dataset": "wine"}, None, store)


def test_job_row_names_the_content_that_it_needs(store: Store) -> None:
    found = registered(store)
    own, other = submit(store, spec_of(found), *Sweep.parse({"dataset": "digits"}).jobs())
    assert [whole_row(store, job)["data_sha256"] for job in (own, other)] == [found.content.sha256, None]
    submission.cancel(store, [own])
    (again,) = submission.retry_jobs(store, [own])
    assert whole_row(store, again.id)["data_sha256"] == found.content.sha256


def test_what_is_registered_of_a_content_is_bounded_and_storable(store: Store) -> None:
    about = {"classes": ["a\0b", "\ud800"], "features": ["x" * 1000] * 1000, "source": "t.csv"}
    x, y = np.zeros((2, 1), np.float32), np.array([0, 1])
    content = replace(made(0), train_x=x, train_y=y, test_x=x, test_y=y, about={**about, "classes": ["a\0b", "c"]})
    found, _ = data_registry.register(store, "odd", content)
    assert found.about == {"classes": ["a\\u0000b", "c"], "source": "t.csv"}


# --- removal


def test_data_set_is_removed_only_when_no_unfinished_job_needs_it(store: Store, tmp_path: Path) -> None:
    found = registered(store)
    write(made(0), tmp_path)
    data_registry.push(store, found, tmp_path)
    parent = spec_of(found)
    (child,) = Sweep.parse({"dataset": "wine", "optimizer": "adam"}).jobs(parent, contents={"wine": found.content})
    running, blocked = submit(store, parent, child)
    claim(store, with_data(found))
    (queued,) = submit(store, spec_of(found, seeds=1))
    assert [row(store, job).status for job in (running, blocked, queued)] == ["running", "blocked", "queued"]
    for left in ("3 unfinished jobs", "2 unfinished jobs"):
        with pytest.raises(DataError, match=f"^{left} of {found.reference}: wait until finished"):
            data_sets.remove(store, found)
        submission.cancel(store, [queued])
    assert data_sets.pushed(store, [found.content.sha256])


def test_removed_data_set_is_forgotten_with_what_was_pushed(store: Store, tmp_path: Path) -> None:
    found, same = registered(store), registered(store, "copy")
    write(made(0), tmp_path)
    data_registry.push(store, found, tmp_path)
    (job,) = submit(store, spec_of(found))
    assert not data_sets.remove(store, same)  # the other name still has the content
    assert data_sets.pushed(store, [found.content.sha256])
    submission.cancel(store, [job])
    assert data_sets.remove(store, found)
    assert not data_sets.pushed(store, [found.content.sha256])
    assert data_sets.registered(store) == []
    assert queries.job_by_id(store, job).spec.content == found.content


# --- files through the database


def test_pushed_file_is_pulled_with_the_same_bytes(store: Store, tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    content = made(3, rows=200_000)  # several chunks
    found, _ = data_registry.register(store, "wine", content)
    path = write(content, here)
    assert data_registry.push(store, found, here)
    assert not data_registry.push(store, found, here)
    calls: list[int] = []
    assert data_registry.pull(store, found.content.sha256, there, lambda: calls.append(1))
    assert not data_registry.pull(store, found.content.sha256, there)
    assert files.path_of(found.content.sha256, there).read_bytes() == path.read_bytes()
    assert len(calls) == -(-found.size // data_sets.CHUNK_BYTES)
    assert files.stored(there) == {found.content.sha256}


def test_file_that_is_not_here_or_damaged_is_not_pushed(store: Store, tmp_path: Path) -> None:
    found = registered(store)
    with pytest.raises(DataError, match="is not on this machine"):
        data_registry.push(store, found, tmp_path)
    path = write(made(0), tmp_path)
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(DataError, match="is damaged"):
        data_registry.push(store, found, tmp_path)
    assert not data_sets.pushed(store, [found.content.sha256])
    with pytest.raises(DataError, match="is damaged"):
        data_registry.push(store, replace(found, size=64_000_000), tmp_path)
    with pytest.raises(DataError, match="up to 64,000,000 go through the database"):
        data_registry.push(store, replace(found, size=64_000_001), tmp_path)


@pytest.mark.parametrize("stored", [b"", b"x", b"x\x9c" * 9, None])
def test_damaged_chunks_are_refused_and_leave_no_file(store: Store, tmp_path: Path, stored: bytes | None) -> None:
    found = registered(store)
    write(made(0), tmp_path / "here")
    data_registry.push(store, found, tmp_path / "here")
    statement = update(data_chunks).values(content=stored) if stored is not None else data_chunks.delete()
    with store.write() as connection:
        connection.execute(statement)
    with pytest.raises(DataError, match=r"holds no intact file of [0-9a-f]*: mlpq data push it again"):
        data_registry.pull(store, found.content.sha256, tmp_path)
    assert files.stored(tmp_path) == frozenset()
    assert data_registry.push(store, found, tmp_path / "here")
    assert data_registry.pull(store, found.content.sha256, tmp_path)


def test_bomb_among_the_chunks_is_not_decompressed(store: Store, tmp_path: Path) -> None:
    import zlib

    bomb = zlib.compress(b"\0" * 10 * data_sets.CHUNK_BYTES)
    with store.write() as connection:
        connection.execute(insert(data_chunks).values(sha256="ab" * 32, number=0, content=bomb))
    with pytest.raises(DataError, match="holds no intact file"):
        data_registry.pull(store, "ab" * 32, tmp_path)


@pytest.mark.parametrize("parts", [[b"something else"], [b"x" * data_sets.CHUNK_BYTES] * 70])
def test_other_content_under_a_hash_is_refused_until_it_is_pushed_again(
    store: Store, tmp_path: Path, parts: list[bytes]
) -> None:
    found = registered(store)
    data_sets.push(store, found.content.sha256, parts)
    with pytest.raises(DataError, match="mlpq data push it again"):
        data_registry.pull(store, found.content.sha256, tmp_path)
    assert files.stored(tmp_path) == frozenset()
    write(made(0), tmp_path / "here")
    assert data_registry.push(store, found, tmp_path / "here")
    assert data_registry.pull(store, found.content.sha256, tmp_path)


# --- workers


def test_worker_without_the_data_leaves_the_job_to_others(store: Store) -> None:
    found = registered(store)
    own, other = submit(store, spec_of(found), *Sweep.parse({"dataset": "digits"}).jobs())
    assert claiming.next_setup(store, "ann:1:a", CPU) == TrainingSetup()
    assert [job.id for job in claim(store, CPU)] == [other]
    assert claim(store, CPU) == []
    (claimed,) = claim(store, with_data(found), "bob:2:b")
    assert (claimed.id, claimed.spec.content) == (own, found.content)
    (attempt,) = queries.attempts_of(store, own)
    assert attempt.environment is not None
    assert attempt.environment["data_checksum"] == found.content.sha256


def test_worker_prepares_for_a_job_whose_data_it_can_pull(store: Store, tmp_path: Path) -> None:
    found = registered(store)
    submit(store, spec_of(found))
    assert claiming.next_setup(store, "ann:1:a", CPU) is None
    write(made(0), tmp_path)
    data_registry.push(store, found, tmp_path)
    setup = claiming.next_setup(store, "ann:1:a", CPU)
    assert setup is not None
    assert setup.data == found.content.sha256
    assert claim(store, CPU) == []  # it has to pull them first


def test_jobs_of_different_contents_are_no_gang(store: Store) -> None:
    first, second = registered(store), registered(store, number=1)
    submit(store, spec_of(first), spec_of(second), spec_of(first, seeds=1))
    claimed = claim(store, with_data(first, second))
    assert {job.spec.content for job in claimed} == {first.content}
    assert len(claimed) == 2


def test_last_attempt_is_not_left_to_a_worker_without_the_data(store: Store) -> None:
    found = registered(store)
    (job,) = submit(store, spec_of(found), attempts=2)
    for name, able in (("ann:1:a", with_data(found)), ("bob:2:b", CPU)):
        execution.worker_heartbeat(store, name, able)
    (claimed,) = claim(store, with_data(found))
    execution.record(store, [AttemptEnding(claimed, Outcome.FAILED, None, "broken", "")])
    let_delay_pass(store, job)
    assert [again.id for again in claim(store, with_data(found))] == [job]


def test_waiting_jobs_say_which_data_no_worker_has(store: Store, tmp_path: Path) -> None:
    found = registered(store)
    submit(store, spec_of(found), spec_of(found, seeds=1), *Sweep.parse({"dataset": "digits"}).jobs())
    sha256 = found.content.sha256
    assert worker_queries.jobs_without_worker(store) == [WaitingJobs("auto", None, 3)]
    execution.worker_heartbeat(store, "ann:1:a", CPU)
    (waiting,) = worker_queries.jobs_without_worker(store)
    assert waiting == WaitingJobs("auto", None, 2, sha256, found.reference)
    assert f"2 jobs waiting for a worker that has the data set {found.reference}" in formatting.jobs_without_worker(
        waiting
    )
    execution.worker_heartbeat(store, "ann:1:a", with_data(found))
    assert worker_queries.jobs_without_worker(store) == []
    execution.worker_heartbeat(store, "ann:1:a", CPU)
    write(made(0), tmp_path)
    data_registry.push(store, found, tmp_path)
    assert worker_queries.jobs_without_worker(store) == []


def test_live_worker_tells_which_data_it_has(store: Store) -> None:
    found = registered(store)
    execution.worker_heartbeat(store, "ann:1:a", with_data(found))
    (ann,) = worker_queries.live_workers(store)
    assert ann.data == {found.content.sha256}
    with store.write() as connection:
        connection.execute(text("UPDATE workers SET data = NULL"))  # as a worker of an older version
    (ann,) = worker_queries.live_workers(store)
    assert ann.data == frozenset()


# --- rows that no program of mlpq writes

ODD: list[tuple[str, list[Any]]] = [
    ("name", ["", "../../x", "\x1b]0;x\x07", "X"]),
    ("sha256", ["", "x", "AB" * 32]),
    ("features", [0, -1, 2_000_000]),
    ("classes", [0, 1, 1001]),
    ("train", [0, 1_000_001]),
    ("test", [-5]),
    ("size", [0]),
    ("about", ["5", "null", '"x"', "[]", '{"classes": 5}', '{"classes": [1]}']),
    ("registered_at", ["infinity", "20000-01-01"]),
]


@pytest.mark.parametrize(("column", "values"), ODD, ids=[column for column, _ in ODD])
def test_odd_rows_are_refused_or_listed_as_unreadable(store: Store, column: str, values: list[Any]) -> None:
    sound, found = registered(store, "sound", 1), registered(store)
    for value in values:
        cast = f"CAST('{value}' AS jsonb)" if column == "about" and not store.is_sqlite else ":value"
        try:
            with store.write() as connection:
                statement = f"UPDATE data_sets SET {column} = {cast} WHERE id = {found.id}"
                connection.execute(text(statement), {} if "CAST" in cast else {"value": value})
        except DBAPIError:
            continue
        listed = data_sets.registered(store)
        assert sound in listed
        (other,) = (each for each in listed if each != sound)
        if isinstance(other, UnreadableDataSet):
            assert "\n" not in other.reason
            if other.name == "wine":
                with pytest.raises(StoreError, match="can't be read"):
                    data_sets.find(store, "wine")


def test_rows_of_foreign_jobs_without_the_hash_are_still_claimed(store: Store) -> None:
    """Who inserts jobs by other means may not know the column. The training process then looks for the data."""
    found = registered(store)
    (job,) = submit(store, spec_of(found))
    with store.write() as connection:
        connection.execute(text("UPDATE jobs SET data_sha256 = NULL"))
    assert [claimed.id for claimed in claim(store, CPU)] == [job]
