"""How many float32 operations per second the machine's matrix product reaches: the ceiling for anything trained here.

python -m benchmarks.peak [REPETITIONS]
"""

from __future__ import annotations

import os
import sys
import time

import torch

from .report import machine, spread, table, versions

SIDE = 2048


def sgemm_rates(threads: int, repetitions: int) -> list[float]:
    """GFLOP/s of single products of two square matrices, into a buffer that stays."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    a, b, out = (torch.rand(SIDE, SIDE) for _ in range(3))
    rates = []
    for _ in range(2 + repetitions):  # the first two warm up
        began = time.perf_counter()
        torch.mm(a, b, out=out)
        rates.append(2 * SIDE**3 / (time.perf_counter() - began) / 1e9)
    torch.set_num_threads(before)
    return rates[2:]


def main(repetitions: int) -> None:
    print(f"{machine()}, {versions('torch')}\n")
    threads = sorted({1, os.cpu_count() or 1})
    rows = [(str(n), *spread(sgemm_rates(n, repetitions), ".0f")) for n in threads]
    print(table(("threads", "n", "median GFLOP/s", "range"), rows))


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 15)
