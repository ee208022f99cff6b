"""What results say about each test image: recorded exactly once with the result, and read back as it was recorded."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from sqlalchemy import func, select, text, update

from mlpq.jobs import Status
from mlpq.records import AttemptEnding
from mlpq.store import execution, queries
from mlpq.store.image_queries import bitmaps_of, images_of
from mlpq.store.schema import result_images
from mlpq.store.session import Store
from mlpq.verification import weights
from mlpq.verification.audit import audit
from mlpq.weights_format import predictions_sha256
from mlpq.worker_records import TrainingSetup
from mlpq_workers.worker.gang_run import GangRun, WorkerContext
from mlpq_workers.worker.trainer_client import Trainer
from mlpq_workers.worker.watchdog import Pulse
from tests.support.job_steps import (
    IMAGES,
    TOO_BIG_TO_STACK,
    claim,
    claim_one,
    failure,
    let_lease_expire,
    result,
    spec,
    specs,
    submit,
    success,
)

WORLD_SIZE = 1


def count(store: Store) -> int:
    with store.read() as connection:
        return connection.execute(select(func.count()).select_from(result_images)).scalar_one()


def test_images_are_read_as_they_were_recorded(store: Store) -> None:
    first, second, third = submit(store, *specs(seeds="1..3"))
    execution.record(store, [success(claim_one(store)), success(claim_one(store))])
    found = images_of(store, [first, second, third])
    assert found.keys() == {first, second}
    assert found[first] == found[second]
    mine = found[first]
    assert (mine.correct, mine.predictions_sha256) == (IMAGES.correct, IMAGES.predictions_sha256)
    assert (mine.confusion, mine.calibration) == (IMAGES.confusion, IMAGES.calibration)
    assert mine.sha256 == IMAGES.sha256
    assert mine.correct_count == 450


def test_images_are_recorded_once_with_the_result(store: Store) -> None:
    (job,) = submit(store, spec())
    late = claim_one(store)
    let_lease_expire(store, job)
    execution.requeue_expired(store)
    ending = success(claim_one(store))
    assert execution.record(store, [success(late)]) == {}
    assert count(store) == 0
    for _ in range(2):  # a call whose response was lost may be repeated
        assert execution.record(store, [ending]) == {job: Status.SUCCEEDED}
    assert execution.record(store, [success(late)]) == {}
    assert count(store) == 1


def test_failed_attempt_has_no_images(store: Store) -> None:
    submit(store, spec())
    execution.record(store, [failure(claim_one(store))])
    assert count(store) == 0


def test_result_without_images_is_left_out(store: Store) -> None:
    """As those of version 0.1."""
    (job,) = submit(store, spec())
    ending = success(claim_one(store))
    old = AttemptEnding(ending.job, ending.outcome, ending.result, None, ending.log_tail, ending.curve)
    execution.record(store, [old])
    assert images_of(store, [job]) == {}


ODD: dict[str, object] = {
    "predictions_sha256": "none",
    "confusion": [["many"]],
    "calibration": [[1, 0.5, 1]],
}


@pytest.mark.parametrize("column", ODD)
def test_row_that_no_program_wrote_counts_as_missing(store: Store, column: str) -> None:
    first, second = submit(store, *specs(seeds="1,2"))
    execution.record(store, [success(claim_one(store)), success(claim_one(store))])
    with store.write() as connection:
        odd = update(result_images).where(result_images.c.job_id == first)
        connection.execute(odd.values({column: ODD[column]}))
    assert images_of(store, [first, second]).keys() == {second}


def test_bitmap_that_is_no_blob_counts_as_missing(store: Store) -> None:
    """Only SQLite stores other types in the column."""
    (job,) = submit(store, spec())
    execution.record(store, [success(claim_one(store))])
    if store.is_sqlite:
        with store.write() as connection:
            connection.execute(text("UPDATE result_images SET correct = 'text'"))
    expected = set() if store.is_sqlite else {job}
    assert images_of(store, [job]).keys() == bitmaps_of(store, [job]).keys() == expected


@pytest.mark.parametrize("kernel", [True, False], ids=["kernel", "torch"])
@pytest.mark.parametrize("keys", [{}, TOO_BIG_TO_STACK], ids=["small", "large"])
def test_trained_job_records_the_images_that_it_counted(
    store: Store, trainer: Trainer, tmp_path: Path, keys: dict[str, object], kernel: bool
) -> None:
    trainer.ensure_ready(TrainingSetup(1, kernel))
    ids = submit(store, *specs(seeds="1,2", epochs=1, **keys))
    context = WorkerContext(threading.Event(), lambda: None, Pulse(""))
    while gang := claim(store, limit=2):
        GangRun(store, trainer, gang, tmp_path, context).run()
    found = images_of(store, ids)
    for job in ids:
        recorded, images = result(store, job), found[job]
        (stored,) = queries.stored_results(store, [job])
        assert recorded.engine == ("kernel" if kernel else "plain" if keys else "gang")
        assert images.correct_count == recorded.test_correct
        misfits = audit(stored, queries.curve(store, job), tmp_path, images).misfits
        assert [misfit for misfit in misfits if not misfit.startswith("world_size")] == []  # FACTS lack it
        file = weights.read(Path(recorded.weights_file))
        assert file.predictions is not None
        assert predictions_sha256(file.predictions) == images.predictions_sha256
        assert file.sha256 == recorded.weights_sha256
