"""Own data sets: what is registered under which name, and the files that were pushed to the database."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from sqlalchemy import ColumnElement, delete, func, insert, select

from mlpq.data_records import DataSetRecord, UnreadableDataSet
from mlpq.errors import DataError, NotFoundError, SpecError, StoreError
from mlpq.formatting import count_of
from mlpq.jobs import Status
from mlpq.spec.data_content import DataContent, unknown_dataset
from mlpq.store.reading import UnreadableRowError, record
from mlpq.store.schema import data_chunks, data_sets, jobs
from mlpq.store.session import Store, insert_or_ignore, now

MAX_PUSHED = 64_000_000  # bytes of a file
CHUNK_BYTES = 2**20  # of the file in each row
NEEDING = (Status.QUEUED, Status.BLOCKED, Status.RUNNING)


def register(
    store: Store, name: str, content: DataContent, size: int, about: Mapping[str, Any]
) -> tuple[DataSetRecord, bool]:
    """Make this content the newest of the name; returns what is stored, and whether it was not the newest before.

    `size` is that of the file in bytes; `about` is what is known of the data without the file.
    """
    with store.write() as connection:
        newest = connection.execute(_select(data_sets.c.name == name).limit(1)).mappings().one_or_none()
        if newest is not None and newest["sha256"] == content.sha256:
            return _readable(newest), False
        values = {"name": name, **content.model_dump(), "size": size, "about": dict(about), "registered_at": now()}
        row = connection.execute(insert(data_sets).values(values).returning(*data_sets.c)).mappings().one()
        return _readable(row), True


def registered(store: Store) -> list[DataSetRecord | UnreadableDataSet]:
    """All contents of all names by name, the newest of each first."""
    with store.read() as connection:
        rows = connection.execute(_select().order_by(None).order_by(data_sets.c.name, data_sets.c.id.desc())).mappings()
        found = {(row["name"], row["sha256"]): _from_row(row) for row in reversed(rows.all())}
    newest = sorted(found.values(), key=lambda each: (each.name, -each.id))
    return list(newest)


def find(store: Store, reference: str) -> DataSetRecord:
    """The newest content of NAME, or that of NAME@HASH.

    Raises NotFoundError where there is none, or several, and StoreError where it can't be read.
    """
    name, at, digits = reference.partition("@")
    with store.read() as connection:
        rows = connection.execute(_select(data_sets.c.name == name)).mappings().all()
        known = connection.execute(select(data_sets.c.name).distinct()).scalars().all() if not rows else ()
    if not rows:
        raise NotFoundError(unknown_dataset(name, [str(each) for each in known]))
    found = {str(row["sha256"]): row for row in reversed(rows) if str(row["sha256"]).startswith(digits)} if at else None
    if found is None:
        return _readable(rows[0])
    if len(found) != 1:
        problem = f"{len(found)} contents of {name} begin" if found else f"no content of {name} begins"
        raise NotFoundError(f"{problem} with {digits}: mlpq data list shows them")
    return _readable(*found.values())


def contents_of(store: Store, name: str) -> list[DataSetRecord]:
    """The readable contents of a name, the newest first."""
    return [each for each in registered(store) if isinstance(each, DataSetRecord) and each.name == name]


def contents(store: Store, references: Iterable[str]) -> dict[str, DataContent]:
    """The contents of own data sets, by their references; raises SpecError for one that is not registered."""
    try:
        return {reference: find(store, reference).content for reference in references}
    except NotFoundError as error:
        raise SpecError(str(error)) from None


def by_hash(store: Store, hashes: Iterable[str]) -> dict[str, DataSetRecord]:
    """The registered contents among these, without those that can't be read."""
    with store.read() as connection:
        rows = connection.execute(_select(data_sets.c.sha256.in_(sorted(set(hashes))))).mappings().all()
    found = (_from_row(row) for row in rows)
    return {each.content.sha256: each for each in found if isinstance(each, DataSetRecord)}


def remove(store: Store, found: DataSetRecord) -> bool:
    """Forget this content of the name, and what was pushed of it unless another name has the same content.

    Returns whether no name has it any more. Raises DataError while unfinished jobs need it.
    """
    sha256 = found.content.sha256
    with store.write() as connection:
        others = select(func.count()).where(data_sets.c.sha256 == sha256, data_sets.c.name != found.name)
        is_last = not connection.execute(others).scalar_one()
        needing = select(func.count()).where(jobs.c.data_sha256 == sha256, jobs.c.status.in_(NEEDING))
        if is_last and (count := connection.execute(needing).scalar_one()):
            raise DataError(
                f"{count_of(count, 'unfinished job')} of {found.reference}: wait until finished, or mlpq cancel first"
            )
        connection.execute(delete(data_sets).where(data_sets.c.name == found.name, data_sets.c.sha256 == sha256))
        if is_last:
            connection.execute(delete(data_chunks).where(data_chunks.c.sha256 == sha256))
    return is_last


def pushed(store: Store, hashes: Iterable[str]) -> set[str]:
    """Those contents whose files can be pulled from the database."""
    first = select(data_chunks.c.sha256).where(data_chunks.c.number == 0)
    with store.read() as connection:
        return set(connection.execute(first.where(data_chunks.c.sha256.in_(sorted(set(hashes))))).scalars())


def is_pushed(sha256: ColumnElement[str]) -> ColumnElement[bool]:
    """Whether the file of a content can be pulled from the database."""
    return select(data_chunks.c.number).where(data_chunks.c.sha256 == sha256, data_chunks.c.number == 0).exists()


def push(store: Store, sha256: str, parts: Iterable[bytes], *, instead: bool = False) -> bool:
    """Store a file, in parts of CHUNK_BYTES; False where it is there already, unless it is stored `instead` of that."""
    with store.write() as connection:
        if instead:
            connection.execute(delete(data_chunks).where(data_chunks.c.sha256 == sha256))
        for number, part in enumerate(parts):
            values = {"sha256": sha256, "number": number, "content": zlib.compress(part, 1)}
            statement = insert_or_ignore(connection, data_chunks).values(values).returning(data_chunks.c.number)
            if connection.execute(statement).scalar() is None:
                return False
    return True


def pull(store: Store, sha256: str) -> Iterator[bytes]:
    """The parts of a file that was pushed; raises DataError where it was not, or is damaged.

    No more than MAX_PUSHED bytes are decompressed. The caller checks the hash.
    """
    number = size = 0
    while size <= MAX_PUSHED:
        query = select(data_chunks.c.content).where(data_chunks.c.sha256 == sha256, data_chunks.c.number == number)
        with store.read() as connection:
            stored = connection.execute(query).scalar()
        if stored is None and number:
            return
        part = _decompressed(stored)
        if part is None:
            raise DataError(f"the database holds no intact file of {sha256}: mlpq data push it again")
        number, size = number + 1, size + len(part)
        yield part
    raise DataError(f"what was pushed as {sha256} is larger than {MAX_PUSHED:,} bytes: mlpq data push it again")


def _decompressed(stored: object) -> bytes | None:
    try:
        stream = zlib.decompressobj()
        part = stream.decompress(stored, CHUNK_BYTES)  # type: ignore[arg-type]
    except (zlib.error, TypeError):
        return None
    return part if stream.eof and part else None


def _select(*conditions: ColumnElement[bool]) -> Any:
    """Rows of data sets, the newest first."""
    return select(data_sets).where(*conditions).order_by(data_sets.c.id.desc())


def _from_row(row: Mapping[Any, Any]) -> DataSetRecord | UnreadableDataSet:
    content = {name: row[name] for name in DataContent.model_fields}
    values = {name: row[name] for name in ("id", "name", "size", "about", "registered_at")}
    try:
        return record(DataSetRecord, {**values, "content": content})
    except UnreadableRowError as error:
        return UnreadableDataSet(row["id"], str(row["name"]), str(error))


def _readable(row: Mapping[Any, Any]) -> DataSetRecord:
    found = _from_row(row)
    if isinstance(found, UnreadableDataSet):
        raise StoreError(f"the data set {found.name} is registered, and can't be read: {found.reason}")
    return found
