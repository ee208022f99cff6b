"""Reads of what results say about each test image. Results that versions before 0.2 recorded have nothing there."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from dataclasses import fields

from sqlalchemy import select

from mlpq.image_records import ResultImages
from mlpq.store.reading import UnreadableRowError, record
from mlpq.store.schema import result_images
from mlpq.store.session import Store, chunks

FIELDS = tuple(field.name for field in fields(ResultImages))


def bitmaps_of(store: Store, ids: Iterable[str]) -> dict[str, bytes]:
    """Which test images the results of these jobs classify correctly, by job id; see `ResultImages.correct`."""
    found: dict[str, bytes] = {}
    query = select(result_images.c.job_id, result_images.c.correct)
    with store.read() as connection:
        for chunk in chunks(ids):
            rows = connection.execute(query.where(result_images.c.job_id.in_(chunk)))
            found |= {job: bitmap for job, bitmap in rows if isinstance(bitmap, bytes)}
    return found


def images_of(store: Store, ids: Iterable[str]) -> dict[str, ResultImages]:
    """What the results of these jobs say about each test image, by job id.

    Jobs without it are missing, and those whose row can't be read.
    """
    found: dict[str, ResultImages] = {}
    with store.read() as connection:
        for chunk in chunks(ids):
            query = select(result_images).where(result_images.c.job_id.in_(chunk))
            for row in connection.execute(query).mappings():
                with contextlib.suppress(UnreadableRowError):
                    found[row["job_id"]] = record(ResultImages, {name: row[name] for name in FIELDS})
    return found
