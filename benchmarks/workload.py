"""What the benchmarks train: jobs of the textbook's model, 784-32-10 on Fashion-MNIST in batches of 32."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache

from mlpq.settings import settings
from mlpq.spec.datasets import DATASETS
from mlpq.spec.job import JobSpec
from mlpq.spec.sweep import Sweep
from mlpq_workers.engine.data import Data
from mlpq_workers.trainer.data import load

DATASET = "fashion-mnist"
RATES = {"sgd": 0.1, "adam": 1e-3}


@dataclass(frozen=True)
class Run:
    """What one run took: the training and the evaluation on the test set."""

    train_seconds: float
    test_seconds: float
    correct: tuple[int, ...]

    @property
    def seconds(self) -> float:
        return self.train_seconds + self.test_seconds


def specs(optimizer: str, lr: float, epochs: int, seeds: Iterable[int]) -> list[JobSpec]:
    """One job for each seed."""
    return Sweep.parse({"optimizer": optimizer, "lr": lr, "epochs": epochs, "seeds": list(seeds)}).jobs()


@cache
def data() -> Data:
    """The data set in memory, as the workers load it; processes forked later inherit it."""
    return Data.of(load(DATASETS[DATASET], settings().data_dir))
