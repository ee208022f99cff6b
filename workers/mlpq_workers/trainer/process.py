"""A training process: its engines, its place among the ranks, its pipe to the worker, and the data that it keeps."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlpq.errors import MlpqError
from mlpq.spec.datasets import Dataset
from mlpq_workers.engine.world import ALONE, World
from mlpq_workers.protocol import Event, TrainingSettings
from mlpq_workers.trainer.data import load
from mlpq_workers.trainer.engines import Engines
from mlpq_workers.trainer.pipe import Pipe
from mlpq_workers.trainer.plugin_code import PluginCode

# Ranks wait for rank 0 while it loads data or waits for a gang; a rank that has died ends the others by other means.
NO_TIMEOUT = datetime.timedelta(days=365)


@dataclass(frozen=True)
class LoadedData:
    """A data set as the engines take it, where it came from, and the classes of its test images, [n]."""

    prepared: Any
    source: str
    labels: NDArray[np.int64]


class TrainingProcess:
    """What the training of every gang in this process needs.

    `stop_requests` are the tokens of jobs that must stop, `is_leaving` whether all must stop after their epochs.
    `facts` describe the environment. `lost` is the error after which the process can train nothing; else empty.
    """

    def __init__(
        self,
        pipe: Pipe,
        settings: TrainingSettings,
        engines: Engines,
        world: World = ALONE,
        rendezvous: Any = None,
    ) -> None:
        """With several ranks, `rendezvous` is the torch.distributed.Store by which they wait for rank 0.

        Raises MlpqError where the plug-in of the settings is not installed.
        """
        self._pipe, self._data_dir, self._rendezvous = pipe, Path(settings.data_dir), rendezvous
        self.engines, self.world = engines, world
        self.kernel = settings.kernel
        self.checkpoint_seconds = settings.checkpoint_seconds
        self.stop_requests: set[str] = set()
        self.is_leaving = False
        self.lost = ""
        self.plugin = None if settings.plugin is None else PluginCode.of(settings.plugin)
        self.facts: Mapping[str, object] = {**engines.facts, **(self.plugin.facts if self.plugin else {})}
        self._waits = 0
        self._data: dict[tuple[str, str], LoadedData] = {}

    def check_plugin(self, package: str | None) -> None:
        """Raise MlpqError where this process is not for jobs of this plug-in, or its code is no longer that of the
        facts: it may not be loaded yet."""
        if package != (self.plugin and self.plugin.package):
            raise MlpqError(f"the row of the job names another package than its spec, {package}")
        if self.plugin is not None:
            self.plugin.check()

    def send(self, event: Event) -> None:
        """Send an event to the worker; only rank 0 does."""
        if self.world.rank == 0:
            self._pipe.send(event)

    def wait_for_rank0(self, text: str = "") -> str:
        """Wait until rank 0 gets here too, however long that takes; returns its text.

        Unlike `World.broadcast` it has no timeout: it is for what rank 0 does alone and may take its time over.
        """
        if self._rendezvous is None:
            return text
        self._waits += 1
        key = str(self._waits)
        if self.world.rank == 0:
            self._rendezvous.delete_key(str(self._waits - 2))  # a rank may still have to read the last one
            self._rendezvous.set(key, text)
        self._rendezvous.wait([key], NO_TIMEOUT)
        return str(self._rendezvous.get(key).decode())

    def data(self, dataset: Dataset) -> LoadedData:
        """A data set; the last one is kept for the next gang. Raises DataError."""
        key = dataset.name, dataset.checksum
        if key not in self._data:
            self._data = {}  # an own one may take gigabytes
            images = load(dataset, self._data_dir)
            self._data = {key: LoadedData(self.engines.prepare(images), images.source, images.test_y)}
        return self._data[key]
