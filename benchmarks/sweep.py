"""The 40 jobs that benchmarks.tuners runs in many ways; imports no torch, which not all of them need."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable

from .workload import RATES

SEEDS = 20
JOBS = [(optimizer, seed) for optimizer in RATES for seed in range(SEEDS)]
PROCESSES = os.cpu_count() or 1
FORK = multiprocessing.get_context("fork")
Counts = dict[str, list[int]]  # for each optimizer, the correct counts of each seed


def in_processes(train: Callable[[str, int], int]) -> Counts:
    """Train each job in a pool of forked processes."""
    with FORK.Pool(PROCESSES) as processes:
        correct = processes.starmap(train, JOBS, chunksize=1)
    return by_optimizer(dict(zip(JOBS, correct, strict=True)))


def by_optimizer(correct: dict[tuple[str, int], int]) -> Counts:
    return {optimizer: [correct[optimizer, seed] for seed in range(SEEDS)] for optimizer in RATES}
