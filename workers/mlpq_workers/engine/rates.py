"""The learning rate of every batch: a spec's schedule and warmup.

Computed by sums, products and quotients of double-precision numbers only, which are the same on every CPU. Functions of
the C library such as cos and pow are not.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from mlpq.spec.job import JobSpec
from mlpq.spec.schedules import warmup_batches

Rates = NDArray[np.float64]
# Taylor's series of cos and sin, highest powers first, for which the error up to π/4 is below 1e-17.
COSINE = [(-1) ** n / math.factorial(2 * n) for n in range(8, -1, -1)]
SINE = [(-1) ** n / math.factorial(2 * n + 1) for n in range(8, -1, -1)]


def epoch_rates(spec: JobSpec, epoch: int, images: int) -> Rates:
    """The learning rate of each batch of an epoch over so many images; the first epoch is 1.

    The warmup rises linearly by equal steps from 0, which it leaves out, and the batch after it has the full rate. The
    schedule begins there and ends with the last batch of the last epoch; its epochs are as many batches as an epoch
    has, counted from its beginning.
    """
    batches = -(-images // spec.batch_size)
    if not spec.has_varying_lr:
        return np.full(batches, spec.lr)
    total = batches * spec.epochs
    warmup = warmup_batches(spec.warmup, batches, spec.epochs)
    numbers = np.arange((epoch - 1) * batches, epoch * batches)
    rates = _scheduled(spec, np.maximum(numbers - warmup, 0), max(1, total - warmup), batches)
    return np.where(numbers < warmup, spec.lr * (numbers + 1) / (warmup + 1), rates)


def _scheduled(spec: JobSpec, numbers: NDArray[np.int64], total: int, batches: int) -> Rates:
    """The rates of the batches `numbers`, from 0, of the `total` that a schedule has."""
    own = {name: float(value) for name, value in spec.schedule_settings.items()}  # type: ignore[arg-type]
    match spec.schedule:
        case "linear":
            start, end = own["start_factor"], own["end_factor"]
            return spec.lr * (start + (end - start) * numbers / total)
        case "cosine":
            return _cosine(spec.lr, own["eta_min"], numbers / total)
        case "step":
            return _decayed(spec.lr, own["gamma"], numbers // (batches * int(min(own["size"], spec.epochs))))
        case "exponential":
            return _decayed(spec.lr, own["gamma"], numbers // batches)
        case "one-cycle":
            return _one_cycle(spec.lr, own, numbers, total)
    return np.full(len(numbers), spec.lr)


def _decayed(lr: float, gamma: float, times: NDArray[np.int64]) -> Rates:
    """lr multiplied by gamma so many times, one after the other as torch does."""
    powers = [lr]
    for _ in range(int(times.max(initial=0))):
        powers.append(powers[-1] * gamma)
    return np.array(powers)[times]


def _one_cycle(lr: float, own: dict[str, float], numbers: NDArray[np.int64], total: int) -> Rates:
    """torch's OneCycleLR with the maximum `lr`, annealed by a cosine."""
    first = lr / own["div_factor"]
    last = first / own["final_div_factor"]
    peak = own["pct_start"] * total - 1  # the number of the batch with the full rate, which may lie between two
    phases = [(peak, first, lr), (total - 1.0, lr, last)]
    if own["three_phase"]:
        phases[1:] = [(2 * peak, lr, first), (total - 1.0, first, last)]
    rates, begin = np.empty(len(numbers)), 0.0
    for i, (end, start_rate, end_rate) in enumerate(phases):
        share = np.clip((numbers - begin) / (end - begin), 0, 1) if end > begin else np.ones(len(numbers))
        annealed = _cosine(start_rate, end_rate, share)
        rates = np.where(numbers > begin, annealed, rates) if i else annealed
        begin = end
    return rates


def _cosine(start: float, end: float, share: Rates) -> Rates:
    """From `start` to `end` along half a period of a cosine."""
    half = math.pi / 2
    near, far = _series(COSINE, half * share), half * (1 - share) * _series(SINE, half * (1 - share))
    root = np.where(share <= 0.5, near, far)
    return end + (start - end) * (root * root)  # cos²(x/2) = (1 + cos x) / 2, without cancellation


def _series(coefficients: list[float], angle: Rates) -> Rates:
    square, total = angle * angle, np.zeros_like(angle)
    for coefficient in coefficients:
        total = total * square + coefficient
    return total
