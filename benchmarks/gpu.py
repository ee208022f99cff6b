"""Jobs a second on one GPU against the size of the gang, beside the plain engine on the same GPU.

One epoch each of the textbook's model with SGD and with Adam, evaluation included.

    python -m benchmarks.gpu [REPETITIONS]
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

import torch

from mlpq_workers import devices, engine
from mlpq_workers.gang import Member, train_gang

from .gangs import Endings
from .report import machine, repeat, spread, table, versions
from .workload import RATES, data, specs

SIZES = (1, 4, 16, 64, 256, 1024)


def gang(optimizer: str, size: int) -> float:
    """Jobs a second of one gang."""
    members = {str(i): Member(spec) for i, spec in enumerate(specs(optimizer, RATES[optimizer], 1, range(size)))}
    return rate(size, lambda: train_gang(members, data(), "cuda", Endings()))


def plain(optimizer: str) -> float:
    """Jobs a second of the plain engine, one job after another."""
    (spec,) = specs(optimizer, RATES[optimizer], 1, [0])
    return rate(1, lambda: engine.train(spec, data(), "cuda"))


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
    devices.prepare("cuda")
    print(f"{torch.cuda.get_device_name()}, {machine()}, {versions('torch')}\n")
    rows = []
    for optimizer in RATES:
        plain(optimizer)  # what is set up at a first run is nobody's
        rows.append((f"{optimizer}, plain engine", *spread(repeat(repetitions, lambda o=optimizer: plain(o)))))
        for size in SIZES:
            rates = repeat(repetitions, lambda o=optimizer, k=size: gang(o, k))
            rows.append((f"{optimizer}, gang of {size}", *spread(rates)))
    print(table(("one epoch", "n", "jobs a second, median", "least to most"), rows))


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 3)
