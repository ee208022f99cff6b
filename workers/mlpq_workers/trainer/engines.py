"""What a training process trains with: the kernel, or torch's engines."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from mlpq.jobs import Engine
from mlpq.spec.job import JobSpec
from mlpq_workers.engine.image_set import ImageSet
from mlpq_workers.engine.training_state import EngineJob, Observer


class Engines(Protocol):
    """The engines of a process on a device of `kind`: "cpu", "cuda" or "mps".

    `facts` describe the environment of its attempts. Results with equal `arithmetic` have equal bits wherever they were
    trained; None where no number says so. `resumes_with` are the facts in which a checkpoint must agree.
    """

    @property
    def kind(self) -> str: ...

    @property
    def facts(self) -> Mapping[str, object]: ...

    @property
    def arithmetic(self) -> int | None: ...

    def resumes_with(self, facts: Mapping[str, object]) -> Mapping[str, object]:
        """Those of these facts that a checkpoint must have in common with them, for its job to end with equal bits."""

    def engine_of(self, spec: JobSpec) -> Engine:
        """The engine that trains the jobs of a gang with this spec."""

    def prepare(self, images: ImageSet) -> Any:
        """The data as `train` takes them."""

    def is_lost(self, error: Exception) -> bool:
        """Whether nothing can be trained in this process after this error."""

    def train(self, engine: Engine, jobs: Mapping[str, EngineJob], data: Any, observer: Observer) -> None:
        """Train jobs with equal gang keys. Each ends by a call of `observer.ended`, by its name."""
