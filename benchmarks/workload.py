"""What the benchmarks train: jobs of the textbook's model, 784-32-10 on Fashion-MNIST in batches of 32."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from mlpq.settings import settings
from mlpq.spec.datasets import DATASETS
from mlpq.spec.job import JobSpec
from mlpq.spec.sweep import Sweep
from mlpq_workers.engine.image_set import ImageSet
from mlpq_workers.engine.kernel_gang import KernelData
from mlpq_workers.trainer.data import load

if TYPE_CHECKING:
    from mlpq_workers.engine.data import Data

DATASET = "fashion-mnist"
RATES = {"sgd": 0.1, "adam": 1e-3}


@dataclass(frozen=True)
class Run:
    """What one run took: the training and the evaluation on the test set, by the clock.

    `cpu_seconds` is the time for which all threads of the process had a core, None where it is not known.
    """

    train_seconds: float
    test_seconds: float
    correct: tuple[int, ...]
    cpu_seconds: float | None = None

    @property
    def seconds(self) -> float:
        return self.train_seconds + self.test_seconds


def specs(optimizer: str, lr: float, epochs: int, seeds: Iterable[int]) -> list[JobSpec]:
    """One job for each seed."""
    return Sweep.parse({"optimizer": optimizer, "lr": lr, "epochs": epochs, "seeds": list(seeds)}).jobs()


@cache
def images() -> ImageSet:
    """The data set in memory, as the workers load it; processes forked later inherit it."""
    return load(DATASETS[DATASET], settings().data_dir)


@cache
def data() -> Data:
    """The same for torch's engines."""
    from mlpq_workers.engine.data import Data  # imports torch, which takes a second that some benchmarks count

    return Data.of(images())


@cache
def kernel_data() -> KernelData:
    """The same for the kernel."""
    return KernelData.of(images())
