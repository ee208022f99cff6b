"""Training by the kernel, on the CPU and without torch."""

from __future__ import annotations

from collections.abc import Mapping

from mlpq.jobs import Engine
from mlpq.spec.job import JobSpec
from mlpq_workers.engine.image_set import ImageSet
from mlpq_workers.engine.kernel_gang import KernelData, train_gang
from mlpq_workers.engine.training_state import EngineJob, Observer
from mlpq_workers.kernel import ARITHMETIC, Build
from mlpq_workers.trainer.environment import environment


class KernelEngine:
    """The kernel as the only engine of a process; see mlpq_workers.trainer.engines."""

    kind = "cpu"
    arithmetic = ARITHMETIC

    def __init__(self, build: Build, threads: int) -> None:
        self._build, self._threads = build, threads
        self.facts = {**environment("cpu", threads, 1), "arithmetic": ARITHMETIC, "kernel": build.name}

    def resumes_with(self, facts: Mapping[str, object]) -> Mapping[str, object]:
        return {"arithmetic": facts["arithmetic"]}

    def engine_of(self, spec: JobSpec) -> Engine:
        return Engine.KERNEL

    def prepare(self, images: ImageSet) -> KernelData:
        return KernelData.of(images)

    def is_lost(self, error: Exception) -> bool:
        return False

    def train(self, engine: Engine, jobs: Mapping[str, EngineJob], data: KernelData, observer: Observer) -> None:
        train_gang(jobs, data, self._build, observer, self._threads)
