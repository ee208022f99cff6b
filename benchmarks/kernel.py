"""The kernel beside today's engines: microseconds per model and batch on one thread, and the share of the sgemm peak.

All ways take turns, for some rounds; figures are of the thread's CPU time. `today` is the stack for networks that can
be stacked, and the plain engine otherwise. No time includes drawing an order or an evaluation. The share is that of the
multiply-adds of the products in the rate of torch's square sgemm, measured in the same rounds. Then two threads with a
model each, by the clock, and the textbook's counts.

    python -m benchmarks.kernel [ROUNDS]
"""

from __future__ import annotations

import itertools
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mlpq.spec.job import JobSpec
from mlpq.spec.presets import TEXTBOOK_FIGURES, preset_jobs
from mlpq.spec.sweep import Sweep
from mlpq_workers.engine.data import epoch_order
from mlpq_workers.engine.gang import StackTraining
from mlpq_workers.engine.gang_members import GangMember
from mlpq_workers.engine.plain import PlainTraining
from mlpq_workers.engine.stack import Step
from mlpq_workers.engine.training_state import EngineJob, Observer
from mlpq_workers.engine.world import ALONE
from mlpq_workers.kernel import BUILDS, Build, Epoch, Generator, Images, KernelUnavailable, Network, build
from mlpq_workers.kernel.seeding import Weights, initial_weights

from .peak import SIDE
from .report import machine, spread, table, versions
from .workload import data, kernel_data


@dataclass(frozen=True)
class Case:
    """Some jobs of one shape, and how many batches of them one measurement takes."""

    name: str
    jobs: list[JobSpec]
    batches: int

    @property
    def operations(self) -> int:
        """Of the products of one batch: forward, gradient, and back through every layer but the first."""
        spec = self.jobs[0]
        layers = [(m + spec.bias) * n for m, n in itertools.pairwise(spec.widths)]
        back = [m * n for m, n in itertools.pairwise(spec.widths[1:])]
        return 2 * spec.batch_size * (2 * sum(layers) + sum(back))


def case(name: str, batches: int = 400, **keys: object) -> Case:
    return Case(name, Sweep.parse({"epochs": 1, **keys}).jobs(), batches)


CASES = (
    case("784-32-10, SGD, 32 seeds", optimizer="sgd:lr=0.1", seeds="0..31", batches=300),
    case("784-32-10, SGD, 8 rates × 4 seeds", lr="0.01,0.02,0.05,0.1,0.2,0.3,0.5,1", seeds="0..3", batches=300),
    case("784-32-10, Adam, 32 seeds", optimizer="adam", seeds="0..31", batches=300),
    case("784-32-10, Adam, 8 rates × 4 seeds", optimizer="adam", lr="1e-4,2e-4,5e-4,1e-3,2e-3,3e-3,5e-3,1e-2",
         seeds="0..3", batches=300),
    case("784-32-10, SGD, one job", optimizer="sgd:lr=0.1"),
    case("784-32-10, Adam, one job", optimizer="adam"),
    case("784-256-10, SGD, one job", optimizer="sgd:lr=0.1", hidden="256", batches=100),
    case("784-256-10, Adam, one job", optimizer="adam", hidden="256", batches=100),
    case("784-1000-500-100-10, ReLU, batch 128, SGD, one job", optimizer="sgd", hidden="1000,500,100",
         activation="relu", batch_size=128, batches=10),
)  # fmt: skip


def kernel(case: Case, name: str, images: Images | None = None) -> Callable[[], float]:
    """A measurement of the kernel: seconds of CPU time for each model and batch."""
    jobs = [in_kernel(spec, build(name), images) for spec in case.jobs]

    def run() -> float:
        orders = [shuffle.permutation(60_000)[: case.batches * spec.batch_size] for _, _, shuffle, spec in jobs]
        began = time.thread_time()
        for (network, images, _, spec), order in zip(jobs, orders, strict=True):
            network.train(images, Epoch(order, spec.batch_size, spec.lr))
        return (time.thread_time() - began) / case.batches / len(jobs)

    return run


def in_kernel(spec: JobSpec, build: Build, images: Images | None = None) -> tuple[Network, Images, Generator, JobSpec]:
    images = images or kernel_data().train
    network = Network(spec, images.scale, build)
    network.put_weights(initial_weights(spec, build)[0])
    return network, images, Generator(build, spec.seed), spec


def today(case: Case) -> Callable[[], float]:
    """A measurement of the fastest engine that uses torch."""
    if case.jobs[0].gang_key is None:
        return plain(case)
    members = [GangMember(str(i), EngineJob(spec), Observer()) for i, spec in enumerate(case.jobs)]
    members.sort(key=lambda member: member.spec.seed)  # as train_gang does: a stack's networks share what they gather
    shares = [members[i : i + 8] for i in range(0, len(members), 8)]  # what fits a core's cache
    stacks = []
    with torch.inference_mode():
        for share in shares:
            training = StackTraining(share, members, data(), Observer())
            training.begin()
            stacks.append((training.stack, forever(training)))

    def run() -> float:
        with torch.inference_mode():
            for _, batches in stacks:
                next(batches)  # draws the order where it begins
            began = time.thread_time()
            for stack, batches in stacks:
                for batch in itertools.islice(batches, case.batches):
                    stack.train(*batch)
            return (time.thread_time() - began) / case.batches / len(members)

    return run


def forever(training: StackTraining) -> Iterator[tuple[Step, Tensor, Tensor, Tensor]]:
    return itertools.chain.from_iterable(training.stack.batches() for _ in itertools.count())


def plain(case: Case) -> Callable[[], float]:
    spec = case.jobs[0]
    training = PlainTraining(EngineJob(spec), data(), "cpu", Observer(), "", ALONE)
    generator = torch.Generator().manual_seed(spec.seed)

    def run() -> float:
        order = epoch_order(60_000, generator)[: case.batches * spec.batch_size]
        began = time.thread_time()
        training._train_epoch(order, [spec.lr] * case.batches)
        return (time.thread_time() - began) / case.batches

    return run


def sgemm() -> float:
    """GFLOP/s by the thread's CPU time, of one product."""
    torch.mm(*_factors[:2], out=_factors[2])
    began = time.thread_time()
    torch.mm(*_factors[:2], out=_factors[2])
    return 2 * SIDE**3 / (time.thread_time() - began) / 1e9


_factors = [torch.rand(SIDE, SIDE) for _ in range(3)]


def comparison(case: Case, names: list[str], rounds: int) -> list[str]:
    ways = {"today": today(case)} | {name: kernel(case, name) for name in names}
    for run in ways.values():
        run()
    found: dict[str, list[float]] = {name: [] for name in ways}
    rates = []
    for _ in range(rounds):
        for name, run in ways.items():
            found[name].append(run() * 1e6)
        rates.append(sgemm())
    ratios = [a / b for a, b in zip(found["today"], found[names[0]], strict=True)]
    peak, best = statistics.median(rates), statistics.median(found[names[0]])
    cells = [f"{statistics.median(times):.1f} ({min(times):.1f} to {max(times):.1f})" for times in found.values()]
    share = case.operations / best / 1e3 / peak
    return [case.name, str(rounds), *cells, f"{spread(ratios)[1]} ({spread(ratios)[2]})", f"{100 * share:.0f} %"]


OPTIONS: dict[str, dict[str, object]] = {
    "Adam": {"optimizer": "adam"},
    "Adam, clipped": {"optimizer": "adam", "clip_norm": 1},
    "Adam, smoothed labels": {"optimizer": "adam", "label_smoothing": 0.1},
}


def options(name: str, rounds: int) -> str:
    """What options cost beside Adam without, all in turn: 784-32-10, batch 32."""
    ways = {way: kernel(case(way, batches=300, **keys), name) for way, keys in OPTIONS.items()}
    train = kernel_data().train
    floats = Images(train.pixels.astype(np.float32) / np.float32(train.scale), train.labels, 1)
    ways["Adam, inputs of float32"] = kernel(case("", batches=300, optimizer="adam"), name, floats)
    found: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(rounds):
        for way, run in ways.items():
            found[way].append(run() * 1e6)
    ratios = {way: [a / b for a, b in zip(times, found["Adam"], strict=True)] for way, times in found.items()}
    return table(
        ("µs per batch, one job", "n", "median", "range", "to Adam"),
        [(way, *spread(times, ".1f"), spread(ratios[way])[1]) for way, times in found.items()],
    )


def two_threads(name: str, rounds: int) -> str:
    """Milliseconds by the clock for one model, and for two on two threads."""
    jobs = [in_kernel(spec, build(name)) for spec in Sweep.parse({"lr": "0.1", "seeds": "0..1"}).jobs()]

    def train(job: tuple[Network, Images, Generator, JobSpec]) -> None:
        network, images, shuffle, spec = job
        network.train(images, Epoch(shuffle.permutation(60_000), spec.batch_size, spec.lr))

    rows: dict[str, list[float]] = {"one model": [], "two models, one thread": [], "two models, two threads": []}
    with ThreadPoolExecutor(2) as pool:
        for _ in range(rounds):
            for way, times in rows.items():
                began = time.perf_counter()
                if way == "one model":
                    train(jobs[0])
                elif way.endswith("one thread"):
                    list(map(train, jobs))
                else:
                    list(pool.map(train, jobs))
                times.append(1e3 * (time.perf_counter() - began))
    return table(("an epoch, SGD", "n", "ms", "range"), [(way, *spread(times, ".0f")) for way, times in rows.items()])


def textbook(name: str) -> str:
    """The textbook's three jobs, the third from the weights of the second."""
    _, jobs = preset_jobs("textbook", {})
    own, counts = build(name), {}
    parents: dict[str, tuple[Weights, Any]] = {}
    for spec in jobs:
        network, images, shuffle, _ = in_kernel(spec, own)
        if spec.parent:
            weights, state = parents[spec.parent]
            network.put_weights(weights)
            shuffle.set_state(state)
        for epoch in range(1, spec.epochs + 1):
            network.train(images, Epoch(shuffle.epoch_order(60_000), spec.batch_size, spec.lr))
            counts[spec.optimizer, spec.hidden, epoch] = network.evaluate(kernel_data().test).correct
        parents[spec.hash] = network.take_weights(), shuffle.get_state()
    rows = []
    for figure in TEXTBOOK_FIGURES:
        count = counts[figure.optimizer, figure.hidden, figure.epoch]
        rows.append((figure.run, str(figure.epoch), str(figure.counted), str(count), f"{count - figure.counted:+d}"))
    return table(("textbook, of 10,000", "epoch", "its loop", "kernel", "difference"), rows)


def runnable() -> list[str]:
    """The builds that this CPU runs at speed."""
    found = []
    for name in BUILDS[:2]:
        try:
            found.append(build(name).name)
        except KernelUnavailable:
            continue
    return found or ["plain"]


def main(rounds: int) -> None:
    torch.set_num_threads(1)
    names = runnable()
    print(f"{machine()}, {versions('torch')}\n")
    rows = [comparison(case, names, rounds) for case in CASES]
    heads = ["today", *(f"kernel, {name}" for name in names)]
    print(table(("µs per model and batch", "n", *heads, "ratio", "of the sgemm peak"), rows) + "\n")
    print(options(names[0], rounds) + "\n")
    print(two_threads(names[0], rounds) + "\n")
    print(textbook(names[0]))


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 30)
