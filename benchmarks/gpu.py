"""Jobs per second on one GPU against the gang's size, compared with the plain engine on the same GPU.

One epoch of the textbook's model with SGD and with Adam, including evaluation.

    python -m benchmarks.gpu [REPETITIONS]
"""

from __future__ import annotations

import os
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial

import torch

from mlpq_workers.engine import plain as plain_engine
from mlpq_workers.engine.gang import train_gang
from mlpq_workers.engine.training_state import EngineJob, Trained
from mlpq_workers.trainer.torch_engines import prepare

from .gangs import Endings
from .report import machine, repeat, spread, table, versions
from .workload import RATES, data, specs

SIZES = (1, 4, 16, 64, 256, 1024)


def gang(optimizer: str, size: int) -> tuple[float, float]:
    """Jobs per second of one gang, and the mean of their correct counts."""
    members = {str(i): EngineJob(spec) for i, spec in enumerate(specs(optimizer, RATES[optimizer], 1, range(size)))}
    endings = Endings()
    jobs_a_second = rate(size, lambda: train_gang(members, data(), "cuda", endings, os.cpu_count() or 1))
    return jobs_a_second, statistics.mean(trained.best.test_correct for trained in endings.of.values())


def plain(optimizer: str) -> tuple[float, float]:
    """The same of the plain engine, one job."""
    (spec,) = specs(optimizer, RATES[optimizer], 1, [0])
    trained: list[Trained] = []
    jobs_a_second = rate(1, lambda: trained.append(plain_engine.train(EngineJob(spec), data(), "cuda")))
    return jobs_a_second, trained[0].best.test_correct


def rate(jobs: int, train: Callable[[], object]) -> float:
    torch.cuda.synchronize()
    began = time.perf_counter()
    train()
    torch.cuda.synchronize()
    return jobs / (time.perf_counter() - began)


def main(repetitions: int) -> None:
    if not torch.cuda.is_available():
        print("Not run: there is no CUDA device on this machine.")
        return
    prepare("cuda")
    print(f"{torch.cuda.get_device_name()}, {machine()}, {versions('torch')}\n")
    rows = []
    for optimizer in RATES:
        plain(optimizer)  # what is set up at a first run counts for neither
        ways = {"plain engine": partial(plain, optimizer)}
        ways |= {f"gang of {size}": partial(gang, optimizer, size) for size in SIZES}
        ran = {way: repeat(repetitions, run) for way, run in ways.items()}
        base = statistics.median(jobs_a_second for jobs_a_second, _ in ran["plain engine"])
        for way, runs in ran.items():
            rates = [jobs_a_second for jobs_a_second, _ in runs]
            ratio = f"{statistics.median(rates) / base:.1f}"
            rows.append((f"{optimizer}, {way}", *spread(rates), f"{runs[0][1]:.0f}", ratio))
    header = ("one epoch", "n", "jobs per second, median", "range", "mean correct", "× plain engine")
    print(table(header, rows))


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 3)
