"""Optimizers as formulas beside the built-in ones in the kernel, and how long a hostile formula takes to refuse.

Both train 784-32-10 with batches of 32 and take turns, on one thread; figures are of the thread's CPU time.

    python -m benchmarks.formula [ROUNDS]
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable

from mlpq.errors import SpecError
from mlpq.spec.formula import parse_formula
from mlpq.spec.job import JobSpec
from mlpq.spec.sweep import Sweep
from mlpq_workers.kernel import Epoch, build
from tests.support.hostile_formulas import hostile_formulas
from tests.support.own_optimizers import ADAM, LIKE_TORCH, formula_keys

from .kernel import in_kernel
from .report import machine, spread, table

BATCHES = 400
HOSTILE = 2_000
PAIRS = {
    "SGD": ("sgd:lr=0.1", LIKE_TORCH["my-sgd"][:2]),
    "momentum": ("sgd:lr=0.1,momentum=0.9", LIKE_TORCH["my-momentum"][:2]),
    "RMSprop": ("rmsprop:lr=0.01,alpha=0.9", LIKE_TORCH["my-rmsprop"][:2]),
    "Adam": ("adam:lr=0.001", (ADAM, "lr=0.001,b1=0.9,b2=0.999")),
    "AdamW": ("adamw:lr=0.001,weight_decay=0.1", (LIKE_TORCH["my-adamw"][0], "lr=0.001,b1=0.9,b2=0.999,wd=0.1")),
}


def measured(spec: JobSpec) -> Callable[[], float]:
    """A measurement: microseconds of CPU time for each batch."""
    network, images, shuffle, _ = in_kernel(spec, build("auto"))

    def run() -> float:
        order = shuffle.permutation(60_000)[: BATCHES * spec.batch_size]
        began = time.thread_time()
        network.train(images, Epoch(order, spec.batch_size, spec.lr))
        return (time.thread_time() - began) / BATCHES * 1e6

    return run


def comparison(name: str, built_in: str, own: tuple[str, str], rounds: int) -> list[str]:
    jobs = [{"optimizer": built_in}, formula_keys("mine", *own)]
    ways = [measured(Sweep.parse({"epochs": 1, **keys}).jobs()[0]) for keys in jobs]
    for run in ways:
        run()
    times = [[run() for run in ways] for _ in range(rounds)]
    theirs, mine = (list(each) for each in zip(*times, strict=True))
    _, ratio, ends = spread([a / b for a, b in zip(mine, theirs, strict=True)])
    return [name, str(rounds), *(f"{statistics.median(each):.1f}" for each in (theirs, mine)), f"{ratio} ({ends})"]


def refusals() -> list[str]:
    milliseconds = []
    for _, text in hostile_formulas(HOSTILE):
        began = time.thread_time()
        try:
            parse_formula("hostile", text)
        except SpecError:
            milliseconds.append(1e3 * (time.thread_time() - began))
    assert len(milliseconds) == HOSTILE
    return [str(HOSTILE), f"{statistics.median(milliseconds):.2f}", f"{max(milliseconds):.1f}"]


def main(rounds: int) -> None:
    print(f"{machine()}, kernel {build('auto').name}\n")
    rows = [comparison(name, *pair, rounds) for name, pair in PAIRS.items()]
    print(table(("784-32-10, one job", "n", "built-in, µs a batch", "formula, µs a batch", "ratio"), rows) + "\n")
    print(table(("hostile formulas", "median ms", "slowest, ms"), [refusals()]))


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 30)
