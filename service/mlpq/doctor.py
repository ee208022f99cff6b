"""The checks of `mlpq doctor`."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlpq import queue
from mlpq.errors import DataError, MlpqError, QueueError
from mlpq.formatting import count_of
from mlpq.own_data import files
from mlpq.settings import DEFAULT, Settings, masked, python_module, training_environ
from mlpq.spec.datasets import DATASETS, find, verify
from mlpq.store import queries, roles
from mlpq.store.migrate import ready_store
from mlpq.store.worker_queries import live_workers

TORCH_SECONDS = 120  # to import torch from a cold disk


@dataclass(frozen=True)
class Check:
    """One checked thing: whether it works, its value, where the value comes from, and what the check found.

    `ok` is None for a note: nothing is broken, but bits can differ from those of other workers.
    """

    ok: bool | None
    what: str
    value: str
    source: str
    found: str


def check(config: Settings) -> list[Check]:
    """Check every setting and what it points to."""
    source = config.sources
    devices = _start_devices(config)  # it takes longest, and runs beside the other checks
    return [
        Check(True, "MLPQ_HOME", str(config.home), source["MLPQ_HOME"], ""),
        *_database(config, source["MLPQ_DATABASE_URL"]),
        _broker(config, source["MLPQ_BROKER_URL"]),
        _data(config, source["MLPQ_DATA_DIR"]),
        _artifacts(config.artifacts_dir, source["MLPQ_ARTIFACTS_DIR"]),
        Check(True, "MLPQ_THREADS", str(config.threads), source["MLPQ_THREADS"], f"of {os.cpu_count()} cores"),
        Check(
            True,
            "MLPQ_CHECKPOINT_SECONDS",
            str(config.checkpoint_seconds),
            source["MLPQ_CHECKPOINT_SECONDS"],
            "between the checkpoints of a job",
        ),
        Check(True, "MLPQ_KERNEL", config.kernel, source["MLPQ_KERNEL"], "trains the jobs of the CPU"),
        Check(True, "MLPQ_LOG_FORMAT", config.log_format, source["MLPQ_LOG_FORMAT"], "of workers and the dashboard"),
        *(Check(None, "setting", "", "", warning) for warning in config.unknown),
        *_devices(config, devices),
    ]


def _start_devices(config: Settings) -> subprocess.Popen[str] | None:
    """A process that looks for devices and may import torch, which this one must not; None without a worker."""
    if importlib.util.find_spec("safetensors") is None:
        return None
    command = python_module("mlpq_workers.trainer.devices", str(config.threads), config.kernel)
    return subprocess.Popen(command, env=training_environ(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def _devices(config: Settings, process: subprocess.Popen[str] | None) -> list[Check]:
    """What can train here, and on which devices, as the process finds."""
    if process is None:
        return [Check(True, "worker", "", "", "not installed: pip install 'mlpq[cpu]', or 'mlpq[worker]' with torch")]
    try:
        output, _ = process.communicate(timeout=TORCH_SECONDS)
        if process.returncode:
            raise subprocess.CalledProcessError(process.returncode, process.args)
        found = json.loads(output.splitlines()[-1])
    except (subprocess.SubprocessError, ValueError, IndexError) as error:
        process.kill()
        process.wait()
        return [Check(False, "training", "", "", f"does not start: {error}")]
    engines, facts = _engines(config.kernel, found), found["environment"]
    if facts is None:
        return [*engines, Check(False, "training", "", "", "no worker can run here: it needs the kernel or torch")]
    names = [f"{each['device']}: {each['model']}" for each in found["devices"]]
    return [
        *engines,
        Check(True, "devices", facts["device"], "", "; ".join(names)),
        Check(True, "world size", str(facts["world_size"]), "", f"{facts['threads']} thread(s) in each process"),
        *(Check(None, what, "", "", why) for what, why in _differences(config, facts)),
    ]


def _engines(setting: str, found: Mapping[str, Any]) -> list[Check]:
    """The kernel and torch, and what is missing without them."""
    kernel, why, torch, facts = (found[name] for name in ("kernel", "why_no_kernel", "torch", "environment"))
    checks = [Check(True, "kernel", kernel, "", f"arithmetic {found['arithmetic']}: the same bits on every CPU")]
    if kernel is None:
        checks = [Check(None if setting == "auto" else False, "kernel", "", "", why)] if why else []
    if torch is None:
        needed = "not installed; needed for GPUs and several processes: pip install 'mlpq[worker]'"
        return [*checks, Check(True, "torch", "", "", needed)]
    details = f"{facts['blas']}, {facts['cpu_capability']}" if facts and "blas" in facts else ""
    return [*checks, Check(True, "torch", torch, "", details)]


def _differences(config: Settings, facts: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What makes results of this machine differ in bits, or in speed, from those of others."""
    found = []
    if config.sources["MLPQ_THREADS"] == DEFAULT and "torch" in facts:
        why = f"bits on the plain engine depend on the number of threads, here {facts['threads']}: set MLPQ_THREADS"
        found.append(("threads", f"{why} to the same number on every worker"))
    if facts["device"] == "cuda":
        found.append(("cuda", "equal bits are guaranteed on equal GPUs and CUDA versions only"))
    if facts["device"] == "mps":
        found.append(("mps", "equal bits are not guaranteed, and jobs run one at a time: mlpq worker --device cpu"))
    if facts["world_size"] > 1:
        found.append(("world size", f"{facts['world_size']} processes give other bits than one: --world-size 1"))
    if ".changed." in facts["code_version"]:
        found.append(("code", f"{facts['code_version']}: uncommitted changes can't be reproduced"))
    return found


def _database(config: Settings, source: str) -> list[Check]:
    url = masked(config.database_url)
    try:
        store = ready_store(config)
        alive = live_workers(store)
        count = sum(queries.count_by_status(store).values())
        excess = roles.excess(store)
    except MlpqError as error:
        return [Check(False, "MLPQ_DATABASE_URL", url, source, str(error))]
    names = ", ".join(f"{worker.name} ({worker.device})" for worker in alive)
    return [
        Check(True, "MLPQ_DATABASE_URL", url, source, f"reachable, {count} jobs"),
        *([] if excess is None else [Check(None, "rights", "", "", excess)]),
        Check(True, "workers alive", str(len(alive)), "", names or "mlpq worker starts one"),
    ]


def _broker(config: Settings, source: str) -> Check:
    url = masked(config.broker_url)
    try:
        queue.check_broker(config)
    except QueueError as error:
        return Check(False, "MLPQ_BROKER_URL", url, source, str(error))
    return Check(True, "MLPQ_BROKER_URL", url, source, "reachable")


def _data(config: Settings, source: str) -> Check:
    ok, found = True, []
    for dataset in DATASETS.values():
        folder = find(dataset, config.data_dir)
        if folder is not None:
            try:
                verify(dataset, folder)
                found.append(f"{dataset.name} in {folder}")
            except DataError as error:
                ok = False
                found.append(str(error))
    own = sorted(files.stored(config.data_dir))
    if own:
        found.append(f"{count_of(len(own), 'file')} of your own data sets")
    for sha256 in own:
        try:
            files.verify(sha256, config.data_dir)
        except DataError as error:
            ok = False
            found.append(str(error))
    where = "; ".join(found) or "no data set yet: mlpq data fetch fashion-mnist"
    return Check(ok, "MLPQ_DATA_DIR", str(config.data_dir), source, where)


def _artifacts(folder: Path, source: str) -> Check:
    existing = next(parent for parent in (folder, *folder.parents) if parent.exists())
    ok = os.access(existing, os.W_OK)
    return Check(ok, "MLPQ_ARTIFACTS_DIR", str(folder), source, "writable" if ok else "not writable")
