"""What `mlpq doctor` looks at."""

from __future__ import annotations

import importlib.metadata
import os
from dataclasses import dataclass
from pathlib import Path

from mlpq import queue
from mlpq.datasets import DATASETS, find, verify
from mlpq.errors import DataError, MlpqError, QueueError
from mlpq.settings import Settings, masked
from mlpq.store import queries
from mlpq.store.migrate import ready_store


@dataclass(frozen=True)
class Line:
    """One thing looked at: whether it is well, its value, where that came from, and what was found."""

    well: bool
    what: str
    value: str
    source: str
    found: str


def checkup(config: Settings) -> list[Line]:
    """Look at every setting and at what it names."""
    source = config.sources
    return [
        Line(True, "MLPQ_HOME", str(config.home), source["MLPQ_HOME"], ""),
        *_database(config, source["MLPQ_DATABASE_URL"]),
        _broker(config, source["MLPQ_BROKER_URL"]),
        _data(config, source["MLPQ_DATA_DIR"]),
        _artifacts(config.artifacts_dir, source["MLPQ_ARTIFACTS_DIR"]),
        Line(True, "MLPQ_THREADS", str(config.threads), source["MLPQ_THREADS"], f"of {os.cpu_count()} cores"),
        Line(
            True,
            "MLPQ_CHECKPOINT_SECONDS",
            str(config.checkpoint_seconds),
            source["MLPQ_CHECKPOINT_SECONDS"],
            "between the checkpoints of a job",
        ),
        Line(
            True, "torch", _version("torch"), "", "" if _version("torch") else "not installed: no worker can run here"
        ),
    ]


def _database(config: Settings, source: str) -> list[Line]:
    url = masked(config.database_url)
    try:
        store = ready_store(config)
        alive = queries.live_workers(store)
        count = sum(queries.count_by_status(store).values())
    except MlpqError as error:
        return [Line(False, "MLPQ_DATABASE_URL", url, source, str(error))]
    named = ", ".join(f"{worker['name']} ({worker['device']})" for worker in alive)
    return [
        Line(True, "MLPQ_DATABASE_URL", url, source, f"answers, {count} jobs"),
        Line(True, "workers alive", str(len(alive)), "", named or "mlpq worker starts one"),
    ]


def _broker(config: Settings, source: str) -> Line:
    url = masked(config.broker_url)
    try:
        queue.check_broker(config)
    except QueueError as error:
        return Line(False, "MLPQ_BROKER_URL", url, source, str(error))
    return Line(True, "MLPQ_BROKER_URL", url, source, "answers")


def _data(config: Settings, source: str) -> Line:
    well, found = True, []
    for dataset in DATASETS.values():
        folder = find(dataset, config.data_dir)
        if folder is not None:
            try:
                verify(dataset, folder)
                found.append(f"{dataset.name} in {folder}")
            except DataError as error:
                well = False
                found.append(str(error))
    where = "; ".join(found) or "no data set yet: mlpq data fetch fashion-mnist"
    return Line(well, "MLPQ_DATA_DIR", str(config.data_dir), source, where)


def _artifacts(folder: Path, source: str) -> Line:
    existing = next(parent for parent in (folder, *folder.parents) if parent.exists())
    well = os.access(existing, os.W_OK)
    return Line(well, "MLPQ_ARTIFACTS_DIR", str(folder), source, "can be written" if well else "can't be written")


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""
