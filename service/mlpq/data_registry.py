"""Own data sets in the database: what is registered of a content, and its file, pushed by who has it and pulled."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlpq.data_records import DataSetRecord, UnreadableDataSet
from mlpq.errors import DataError, NotFoundError, reason_of
from mlpq.own_data.files import is_here, path_of
from mlpq.regular_files import opened, write_parts
from mlpq.settings import Settings, writable_data_dir
from mlpq.spec.data_content import DataContent, parse_own_name, parse_reference, unknown_dataset
from mlpq.spec.datasets import DATASETS
from mlpq.store import data_sets
from mlpq.store.data_sets import CHUNK_BYTES, MAX_PUSHED
from mlpq.store.migrate import has_database, ready_store
from mlpq.store.session import Store
from mlpq.text import escaped

if TYPE_CHECKING:
    from mlpq.own_data.adding import Treatment
    from mlpq.own_data.content import Content  # which loads NumPy, as workers do not
    from mlpq.own_data.sources import ReadOptions


MAX_ABOUT = 100_000  # characters of what is registered of a content beside its sizes


@dataclass(frozen=True, slots=True)
class AddedDataSet:
    """A data set that was added, and its file; `is_new` where its name meant another content or nothing.

    `notes` are what to know of how it was read.
    """

    record: DataSetRecord
    path: Path
    is_new: bool
    notes: tuple[str, ...]


def add(config: Settings, name: str, source: str, reading: ReadOptions, treatment: Treatment) -> AddedDataSet:
    """Read a source, and store it as the data set of that name; raises DataError."""
    from mlpq.own_data import adding, content

    try:
        name = parse_own_name(name)
    except ValueError as error:
        raise DataError(str(error)) from None
    if has_database(config):  # before the source is read, which may take long
        ready_store(config)
    folder = writable_data_dir(config)
    added = adding.build(source, reading, treatment, folder)
    path = content.write(added.content, folder)
    record, is_new = register(ready_store(config), name, added.content)
    return AddedDataSet(record, path, is_new, added.notes)


def registered(config: Settings) -> tuple[list[DataSetRecord | UnreadableDataSet], set[str]]:
    """The registered contents, and the hashes of those whose files were pushed; both empty without a database."""
    if not has_database(config):
        return [], set()
    store = ready_store(config)
    found = data_sets.registered(store)
    return found, data_sets.pushed(store, [each.content.sha256 for each in found if isinstance(each, DataSetRecord)])


def named(config: Settings, name: str) -> tuple[Store, DataSetRecord]:
    """The store, and the own data set NAME or NAME@HASH; raises DataError and NotFoundError."""
    try:
        reference = parse_reference(name)
    except ValueError as error:
        raise DataError(str(error)) from None
    if reference in DATASETS:
        raise DataError(f"{reference} is built in: mlpq data list shows it")
    if not has_database(config):
        raise NotFoundError(unknown_dataset(reference.partition("@")[0]))
    store = ready_store(config)
    return store, data_sets.find(store, reference)


def register(store: Store, name: str, content: Content) -> tuple[DataSetRecord, bool]:
    """Make this content what the name means from now on; returns the row, and whether the name meant another one."""
    sizes = DataContent(
        sha256=content.sha256,
        features=content.features,
        classes=content.classes,
        train=len(content.train_y),
        test=len(content.test_y),
    )
    return data_sets.register(store, name, sizes, content.size, _summary(content.about))


def push(store: Store, found: DataSetRecord, data_dir: Path) -> bool:
    """Store the file of a content in the database; False where it is there already and intact. Raises DataError."""
    sha256 = found.content.sha256
    path = path_of(sha256, data_dir)
    if found.size > MAX_PUSHED:
        raise DataError(
            f"{found.reference} has {found.size:,} bytes; up to {MAX_PUSHED:,} go through the database: share "
            f"MLPQ_DATA_DIR between the workers, or copy {path} into theirs"
        )
    was_pushed = sha256 in data_sets.pushed(store, [sha256])
    if was_pushed and _is_intact(store, sha256):
        return False
    try:
        return data_sets.push(store, sha256, _parts(path, sha256), instead=was_pushed)
    except OSError as error:
        raise DataError(f"{found.reference} is not on this machine: {path}: {reason_of(error)}") from error


def pull(store: Store, sha256: str, data_dir: Path, meanwhile: Callable[[], None] = lambda: None) -> bool:
    """Write the file of a content that was pushed, unless it is here; returns whether it was not.

    `meanwhile` is called often. Raises DataError where it can't be written, or what was pushed is not that content.
    """
    if is_here(sha256, data_dir):
        return False
    path = path_of(sha256, data_dir)
    try:
        write_parts(path, _checked(data_sets.pull(store, sha256), sha256, meanwhile))
    except OSError as error:
        raise DataError(
            f"can't write to {path.parent}: {reason_of(error)}; set MLPQ_DATA_DIR to a folder you own"
        ) from error
    return True


def _is_intact(store: Store, sha256: str) -> bool:
    try:
        for _ in _checked(data_sets.pull(store, sha256), sha256, lambda: None):
            pass
    except DataError:
        return False
    return True


def _parts(path: Path, sha256: str) -> Iterator[bytes]:
    digest = hashlib.sha256()
    with opened(path, MAX_PUSHED) as file:
        while part := file.read(CHUNK_BYTES):
            digest.update(part)
            yield part
    if digest.hexdigest() != sha256:
        raise DataError(f"{path} is damaged: remove it, and add the data set again")


def _checked(parts: Iterator[bytes], sha256: str, meanwhile: Callable[[], None]) -> Iterator[bytes]:
    digest = hashlib.sha256()
    for part in parts:
        meanwhile()
        digest.update(part)
        yield part
    if digest.hexdigest() != sha256:
        raise DataError(f"what was pushed as {sha256} is another content: mlpq data push it again")


def _summary(about: Mapping[str, Any]) -> dict[str, Any]:
    """What fits into MAX_ABOUT, without the longest entries otherwise; the names of the classes are left out last."""
    kept: dict[str, Any] = _storable(about)
    lengths = {key: (key != "classes", len(json.dumps(value))) for key, value in kept.items()}
    for key in sorted(lengths, key=lengths.__getitem__, reverse=True):
        if len(json.dumps(kept)) <= MAX_ABOUT:
            break
        del kept[key]
    return kept


def _storable(value: Any) -> Any:
    """JSON without what a database's text can't hold."""
    if isinstance(value, Mapping):
        return {escaped(str(key)): _storable(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_storable(each) for each in value]
    return escaped(value) if isinstance(value, str) else value
