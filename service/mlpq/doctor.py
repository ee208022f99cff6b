"""What `mlpq doctor` looks at."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlpq import queue
from mlpq.errors import DataError, MlpqError, QueueError
from mlpq.settings import DEFAULT, Settings, masked, training_environ
from mlpq.spec.datasets import DATASETS, find, verify
from mlpq.store import queries
from mlpq.store.migrate import ready_store

TORCH_SECONDS = 120  # to import torch from a cold disk


@dataclass(frozen=True)
class Line:
    """One thing looked at: whether it is well, its value, where that came from, and what was found.

    `well` is None for what is no fault, but makes bits differ between one run and another.
    """

    well: bool | None
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
        Line(True, "MLPQ_LOG_FORMAT", config.log_format, source["MLPQ_LOG_FORMAT"], "of workers and the dashboard"),
        *_devices(config),
    ]


def _devices(config: Settings) -> list[Line]:
    """What torch finds, asked in a process of its own: torch is not imported here."""
    if importlib.util.find_spec("torch") is None:
        return [Line(True, "torch", "", "", "not installed: no worker can run here")]
    command = [sys.executable, "-m", "mlpq_workers.trainer.devices", str(config.threads)]
    try:
        done = subprocess.run(
            command, env=training_environ(), capture_output=True, text=True, check=True, timeout=TORCH_SECONDS
        )
        found = json.loads(done.stdout.splitlines()[-1])
    except (subprocess.SubprocessError, ValueError, IndexError) as error:
        return [Line(False, "torch", importlib.metadata.version("torch"), "", f"does not start: {error}")]
    facts = found["environment"]
    named = [f"{each['device']}: {each['model']}" for each in found["devices"]]
    return [
        Line(True, "torch", facts["torch"], "", f"{facts['blas']}, {facts['cpu_capability']}"),
        Line(True, "devices", facts["device"], "", "; ".join(named)),
        Line(True, "world size", str(facts["world_size"]), "", f"{facts['threads']} thread(s) in each process"),
        *(Line(None, what, "", "", why) for what, why in _differences(config, facts)),
    ]


def _differences(config: Settings, facts: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What here gives a result other bits than elsewhere, or another time."""
    found = []
    if config.sources["MLPQ_THREADS"] == DEFAULT:
        why = f"bits of jobs on the plain engine depend on the threads, here {facts['threads']}: set MLPQ_THREADS"
        found.append(("threads", f"{why} alike on every worker"))
    if facts["device"] == "cuda":
        found.append(("cuda", "bits are promised on one model of GPU and one version of CUDA only"))
    if facts["device"] == "mps":
        found.append(("mps", "bits are not promised; jobs run one at a time: mlpq worker --device cpu"))
    if facts["world_size"] > 1:
        found.append(("world size", f"{facts['world_size']} processes give other bits than one: --world-size 1"))
    if ".changed." in facts["code_version"]:
        found.append(("code", f"{facts['code_version']}: changes that are not committed can't be had again"))
    return found


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
