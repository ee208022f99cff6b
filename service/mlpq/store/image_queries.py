"""Reads of what results say about each test image. Results that versions before 0.2 recorded have nothing there."""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import select

from mlpq.image_records import CalibrationBin, ResultImages
from mlpq.store.schema import result_images
from mlpq.store.session import Store, chunks


def bitmaps_of(store: Store, ids: Iterable[str]) -> dict[str, bytes]:
    """Which test images the results of these jobs classify correctly, by job id; see `ResultImages.correct`."""
    found: dict[str, bytes] = {}
    query = select(result_images.c.job_id, result_images.c.correct)
    with store.read() as connection:
        for chunk in chunks(ids):
            rows = connection.execute(query.where(result_images.c.job_id.in_(chunk)))
            found |= {job: bitmap for job, bitmap in rows}  # noqa: C416
    return found


def images_of(store: Store, ids: Iterable[str]) -> dict[str, ResultImages]:
    """What the results of these jobs say about each test image, by job id; jobs without it are missing."""
    found: dict[str, ResultImages] = {}
    with store.read() as connection:
        for chunk in chunks(ids):
            for row in connection.execute(select(result_images).where(result_images.c.job_id.in_(chunk))):
                calibration = [CalibrationBin(*each) for each in row.calibration]
                found[row.job_id] = ResultImages(row.correct, row.predictions_sha256, row.confusion, calibration)
    return found
