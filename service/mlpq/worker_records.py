"""The typed rows about workers: what one can run, what its training process must be, and what it reports."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from mlpq.jobs import TORCH_ENGINES
from mlpq.spec.job import TORCH


@dataclass(frozen=True, slots=True)
class TrainingSetup:
    """What a training process must be for a job: how many processes train it, and whether by the kernel.

    `is_large` says that the job is too large to be stacked. `data` is the SHA-256 of its own data set, if it has one.
    `plugin` is the package of its optimizer, "name==version", where that is a plug-in: others' code runs in a process
    of its own.
    """

    world_size: int = 1
    kernel: bool = False
    is_large: bool = False
    data: str | None = None
    plugin: str | None = None


@dataclass(frozen=True, slots=True)
class WorkerCapabilities:
    """What a worker can run: jobs for its device, by up to `most_ranks` processes together.

    `device_name` is the hardware's name; `world_size` is that of a job that requests none. `kernel` and `torch` say
    which engines it has; only a worker on the CPU has the kernel. `data` are the SHA-256 of the own data sets that are
    on its machine, `plugins` the installed packages with optimizers, as "name==version".
    """

    device: str
    device_name: str = ""
    most_ranks: int = 1
    world_size: int = 1
    kernel: bool = False
    torch: bool = True
    data: frozenset[str] = frozenset()
    plugins: frozenset[str] = frozenset()

    @property
    def packages(self) -> frozenset[str]:
        """What it has of the packages that jobs need; see JobSpec.package."""
        return self.plugins | {TORCH} if self.torch else frozenset()

    def can_choose(self, world_size: int) -> bool:
        """Whether it trains such jobs by the kernel or by torch, as they request."""
        return self.kernel and self.torch and world_size == 1

    def uses_kernel(self, world_size: int, engine: str | None, package: str | None = None) -> bool:
        """Whether it trains a job of that world size by the kernel; the job requests that engine and needs that
        package."""
        requests_torch = package is not None or (engine in TORCH_ENGINES and self.can_choose(world_size))
        return self.kernel and world_size == 1 and not requests_torch

    @property
    def usual_setup(self) -> TrainingSetup:
        """That of a job without requests."""
        return TrainingSetup(self.world_size, self.uses_kernel(self.world_size, None))


@dataclass(frozen=True, slots=True)
class WorkerRecord:
    """A live worker. `most_ranks` processes can train together there; `world_size` is that of a job that asks for none.

    `now` is the time at which it was read, by the database's clock, which `beat_at` follows too. `data` are the SHA-256
    of the own data sets on its machine, `packages` those that jobs may need.
    """

    name: str
    device: str
    device_name: str
    most_ranks: int
    world_size: int
    jobs_done: int
    jobs_running: int
    started_at: datetime
    beat_at: datetime
    now: datetime
    data: frozenset[str] = frozenset()
    packages: frozenset[str] = frozenset()

    def can_run(self, device: str, world_size: int | None) -> bool:
        """Whether it could run a job that requests that device and world size, if it has what the job needs."""
        return device in ("auto", self.device) and (world_size or 1) <= self.most_ranks
