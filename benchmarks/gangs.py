"""Compares the kernel with the textbook's loop, torch's engines and JAX on one epoch of the same jobs.

Seconds are per job. Those of a gang, by the kernel or as stacks of torch (`MLPQ_KERNEL=off`), include everything: batch
order, training, evaluation after the epoch, hashing; in a worker also recording in the database. The textbook's include
its training and a tenth of its test, which it runs once in ten epochs; JAX's include training only. JAX is not run with
8 rates × 4 seeds, but with 32 models that all see one batch order, which is less work. Ratios are of medians of the
time by the clock, to the textbook's loop, and to the stack and to JAX with the same jobs; CPU time is the sum over all
threads of the process, which other programs on the machine affect less. The last table shows where a stack's time goes.

    python -m benchmarks.gangs [REPETITIONS]
"""

from __future__ import annotations

import itertools
import os
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

from mlpq.settings import read_settings
from mlpq.spec.job import JobSpec
from mlpq.spec.sweep import Sweep
from mlpq.store import claiming, migrate, queries, submission
from mlpq.store.session import Store
from mlpq.worker_records import WorkerCapabilities
from mlpq_workers.engine import kernel_gang
from mlpq_workers.engine import plain as plain_engine
from mlpq_workers.engine.gang import StackTraining, train_gang
from mlpq_workers.engine.gang_members import GangMember
from mlpq_workers.engine.stack import Step
from mlpq_workers.engine.training_state import EngineJob, Observer, Trained
from mlpq_workers.kernel import Epoch, build
from mlpq_workers.worker.gang_run import GangRun, WorkerContext
from mlpq_workers.worker.trainer_client import Trainer
from mlpq_workers.worker.watchdog import Pulse

from .jax_vmap import in_a_process
from .kernel import in_kernel, sgemm
from .report import cpu, machine, spread, table, versions
from .textbook import textbook_loop, torchvision_pair
from .workload import RATES, Run, data, kernel_data, specs

CORES = os.cpu_count() or 1
SIZE = 32
SEEDS = range(SIZE)
RATES_OF_A_SWEEP = {"sgd": "0.01,0.02,0.05,0.1,0.2,0.3,0.5,1", "adam": "1e-4,2e-4,5e-4,1e-3,2e-3,3e-3,5e-3,1e-2"}

Way = tuple[str, str]  # what trains, and which jobs
ONE, MANY, RATES_AND_SEEDS, IN_A_WORKER = "one", f"{SIZE} seeds", "8 rates × 4 seeds", f"{SIZE} seeds, in a worker"
TEXTBOOK: Way = ("the textbook's loop, 1 thread", ONE)  # as fast here as torch's default, see .textbook
JAX, STACK, KERNEL = "JAX tuned", "stack", "kernel"


class Endings(Observer):
    """Keeps the result of each job."""

    def __init__(self) -> None:
        self.of: dict[str, Trained] = {}

    def ended(self, name: str, ending: Trained | Exception) -> None:
        if isinstance(ending, Exception):
            raise ending
        self.of[name] = ending


def gang(jobs: Sequence[JobSpec]) -> Run:
    """The jobs as one gang, by the kernel; the seconds are for each."""
    own, images = build("auto"), kernel_data()
    return _timed(jobs, lambda members, endings: kernel_gang.train_gang(members, images, own, endings, CORES))


def stacked(jobs: Sequence[JobSpec]) -> Run:
    """The same as stacks of torch."""
    torch.set_num_threads(1)
    images = data()
    return _timed(jobs, lambda members, endings: train_gang(members, images, "cpu", endings, CORES))


def _timed(jobs: Sequence[JobSpec], train: Callable[[Mapping[str, EngineJob], Endings], None]) -> Run:
    endings, began, cpu = Endings(), time.perf_counter(), time.process_time()
    train({str(i): EngineJob(spec) for i, spec in enumerate(jobs)}, endings)
    seconds, cpu_seconds = time.perf_counter() - began, time.process_time() - cpu
    correct = tuple(endings.of[str(i)].best.test_correct for i in range(len(jobs)))
    return Run(seconds / len(jobs), 0.0, correct, cpu_seconds / len(jobs))


def sweep(optimizer: str) -> list[JobSpec]:
    """A gang of 8 learning rates and 4 seeds."""
    return Sweep.parse({"optimizer": optimizer, "lr": RATES_OF_A_SWEEP[optimizer], "seeds": "0..3", "epochs": 1}).jobs()


def plain(spec: JobSpec) -> Run:
    torch.set_num_threads(1)
    began, cpu = time.perf_counter(), time.process_time()
    trained = plain_engine.train(EngineJob(spec), data(), "cpu")
    return Run(time.perf_counter() - began, 0.0, (trained.best.test_correct,), time.process_time() - cpu)


def textbook(optimizer: str, pair: Any) -> Run:
    torch.set_num_threads(1)
    run = textbook_loop(optimizer, RATES[optimizer], 1, 42, pair)
    return Run(run.train_seconds + run.test_seconds / 10, 0.0, run.correct, run.cpu_seconds)


def jax(way: str, optimizer: str, models: int, order: str) -> Run:
    run, _ = in_a_process(way, optimizer, models, 1, order)
    assert run.cpu_seconds is not None
    return Run(run.train_seconds / models, 0.0, run.correct, run.cpu_seconds / models)


class Worker:
    """A real training process and a real database, with what a worker does between them.

    `kernel` is as in MLPQ_KERNEL.
    """

    def __init__(self, folder: Path, kernel: str) -> None:
        config = read_settings({"MLPQ_HOME": str(folder), "MLPQ_THREADS": str(CORES), "MLPQ_KERNEL": kernel})
        self._folder, self._store, self._trainer = folder, Store(config.database_url), Trainer(config, "cpu")
        migrate.upgrade(self._store)
        self._trainer.start()
        self._runs = itertools.count()
        self.run(specs("sgd", 0.1, 1, [0]))  # the training process has now loaded the data

    def run(self, jobs: Sequence[JobSpec]) -> Run:
        """The jobs as one gang, each epoch recorded, each result with its weights; the seconds are for each."""
        submitted = submission.submit_jobs(self._store, f"run-{next(self._runs)}", jobs)
        capabilities = WorkerCapabilities("cpu", kernel=self._trainer.has_kernel)
        gang = claiming.claim(self._store, "benchmark", capabilities, {}, SIZE)
        worker = WorkerContext(threading.Event(), lambda: None, Pulse(""))
        began = time.perf_counter()
        GangRun(self._store, self._trainer, gang, self._folder, worker).run()
        seconds = (time.perf_counter() - began) / len(jobs)
        results = [record.result for record in queries.jobs_by_id(self._store, [job.id for job in submitted])]
        return Run(seconds, 0.0, tuple(result.test_correct for result in results if result is not None))


def ways(optimizer: str, pair: Any, workers: Mapping[str, Worker]) -> dict[Way, Callable[[], Run]]:
    one, seeds = specs(optimizer, RATES[optimizer], 1, [42]), specs(optimizer, RATES[optimizer], 1, SEEDS)
    gangs = {ONE: one, MANY: seeds, RATES_AND_SEEDS: sweep(optimizer)}
    found: dict[Way, Callable[[], Run]] = {
        TEXTBOOK: partial(textbook, optimizer, pair),
        ("plain engine, 1 thread", ONE): partial(plain, one[0]),
        ("JAX vmap + scan", MANY): partial(jax, "plain", optimizer, SIZE, "own"),
        (JAX, ONE): partial(jax, "tuned", optimizer, 1, "own"),
        (JAX, MANY): partial(jax, "tuned", optimizer, SIZE, "own"),
        (JAX, RATES_AND_SEEDS): partial(jax, "tuned", optimizer, SIZE, "shared"),
    }
    for engine, train in {STACK: stacked, KERNEL: gang}.items():
        found |= {(engine, name): partial(train, jobs) for name, jobs in gangs.items()}
        found[engine, IN_A_WORKER] = partial(workers[engine].run, seeds)
    return found


def comparison(optimizer: str, repetitions: int, pair: Any, workers: Mapping[str, Worker]) -> str:
    """All ways in turn, then in turn again: a drift of the machine meets all alike."""
    chosen = ways(optimizer, pair, workers)
    ran: dict[Way, list[Run]] = {way: [] for way in chosen}
    plain(specs(optimizer, RATES[optimizer], 1, [42])[0])  # what torch imports at its first optimizer counts for none
    for _ in range(repetitions):
        for way, run in chosen.items():
            ran[way].append(run())
    medians = {way: statistics.median(run.seconds for run in runs) for way, runs in ran.items()}

    def ratio(way: Way, base: Way, form: str) -> str:
        return f"{medians[base] / medians[way]:{form}}" if base in medians else "–"

    rows = [
        (
            f"**{engine}**" if engine == KERNEL else engine,
            jobs,
            *spread([run.seconds for run in runs], ".3f"),
            cpu([run.cpu_seconds for run in runs], ".3f"),
            f"{statistics.mean(runs[0].correct):.0f}",
            ratio((engine, jobs), TEXTBOOK, ".1f"),
            ratio((engine, jobs), (STACK, jobs), ".2f"),
            ratio((engine, jobs), (JAX, jobs), ".2f"),
        )
        for (engine, jobs), runs in ran.items()
    ]
    header = (f"{optimizer}, one epoch", "jobs", "n", "s per job", "range", "CPU time", "mean correct")
    return table((*header, "× textbook", "× stack", "× JAX tuned"), rows)


def recording(optimizer: str, repetitions: int, worker: Worker) -> tuple[str, ...]:
    """What it costs to evaluate and to record each of three epochs: the kernel bare and in a worker, in turn.

    The least of each is compared: what the machine does besides only adds.
    """
    jobs = specs(optimizer, RATES[optimizer], 3, range(SIZE // 2))
    runs = [(gang(jobs).seconds, worker.run(jobs).seconds) for _ in range(repetitions)]
    bare, recorded = (min(seconds) for seconds in zip(*runs, strict=True))
    share = evaluating(jobs[0])
    return (
        optimizer,
        str(repetitions),
        f"{bare / 3:.3f}",
        f"{recorded / 3:.3f}",
        f"{100 * (recorded / bare - 1):.1f} %",
        f"{100 * share:.1f} %",
        f"{100 * (1 - bare / (1 + share) / recorded):.1f} %",
    )


def evaluating(job: JobSpec) -> float:
    """The kernel's evaluation after an epoch, as a share of the epoch's training."""
    network, images, shuffle, spec = in_kernel(job, build("auto"))
    order = shuffle.epoch_order(len(images.labels))
    training = microseconds(lambda: network.train(images, Epoch(order, spec.batch_size, spec.lr)), 1)
    return microseconds(lambda: network.evaluate(kernel_data().test), 1) / training


def microseconds(run: Callable[[], object], calls: int = 200, repetitions: int = 9) -> float:
    """CPU time in this thread: the least of several means, since what interrupts only adds."""
    run()
    means = []
    for _ in range(repetitions):
        began = time.thread_time()
        for _ in range(calls):
            run()
        means.append((time.thread_time() - began) / calls * 1e6)
    return min(means)


def products(step: Step) -> None:
    """The matrix products of a step, without what lies between them."""
    forward = step.forward
    for out, weight, x in forward._first:
        out.baddbmm_(weight, x, beta=0)
    for weight, z, out in zip(forward.weights[1:], forward.z, forward.outputs[1:], strict=True):
        torch.bmm(weight, z, out=out)
    for weight, above, below in step._back[1:]:
        torch.bmm(weight, above, out=below)
    for target, above, below, beta, _ in step._updates:
        target.baddbmm_(above, below, beta=beta, alpha=1e-30)  # the same work, and the weights stay finite


def parts(jobs: Sequence[JobSpec]) -> dict[str, float]:
    """Microseconds per model and batch of the parts of a step, on one thread, and of the evaluation after an epoch."""
    torch.set_num_threads(1)
    with torch.inference_mode():
        members = [GangMember(str(i), EngineJob(spec), Observer()) for i, spec in enumerate(jobs)]
        training = StackTraining(members, members, data(), Observer())
        training.begin()
        stack = training.stack
        forever = itertools.chain.from_iterable(stack.batches() for _ in itertools.count())
        first = next(forever)
        step, whole_batches = first[0], len(first[1])
        forward = step.forward
        # A batch that is short, and the order of an epoch, come once in 1,875.
        whole_ones = (batch for batch in forever if len(batch[1]) == whole_batches)
        whole = microseconds(lambda: stack.train(*next(whole_ones)), 400)
        found = {
            "gather": microseconds(lambda: forward.load(next(whole_ones)[1]), 400),
            "products": microseconds(lambda: products(step)),
            "optimizer": microseconds(stack.optimizer.step),
        }
        evaluating = microseconds(lambda: stack.evaluate(), 1, 3) / (len(data().train_y) / 32)
    found["activation, softmax, loss, interpreter, caches"] = whole - sum(found.values())
    found["the whole step"] = whole
    found["evaluation, per training batch"] = evaluating
    return {part: value / len(jobs) for part, value in found.items()}


def what_holds_it_back() -> str:
    torch.set_num_threads(1)
    peak = statistics.median(sgemm() for _ in range(9))
    gangs = {
        f"sgd, {SIZE // 4} seeds": specs("sgd", 0.1, 1, range(SIZE // 4)),
        "sgd, 4 rates × 2 seeds": Sweep.parse({"lr": "0.1,0.2,0.3,0.5", "seeds": "0..1"}).jobs(),
        f"adam, {SIZE // 4} seeds": specs("adam", 1e-3, 1, range(SIZE // 4)),
        "sgd, alone": specs("sgd", 0.1, 1, [0]),
    }
    columns = {name: parts(jobs) for name, jobs in gangs.items()}
    operations = 2 * 32 * (2 * (785 * 32 + 33 * 10) + 32 * 10)
    rows = [(part, *(f"{column[part]:.1f}" for column in columns.values())) for part in next(iter(columns.values()))]
    rates = [operations / column["the whole step"] / 1e3 for column in columns.values()]
    rows.append((f"share of the sgemm peak of {peak:.0f} GFLOP/s", *(f"{100 * rate / peak:.0f} %" for rate in rates)))
    shares = [c["evaluation, per training batch"] / (c["the whole step"]) for c in columns.values()]
    rows.append(("evaluation, relative to training", *(f"{100 * share:.1f} %" for share in shares)))
    return table(("the stack, one thread, µs of CPU time per model and batch", *columns), rows)


def main(repetitions: int) -> None:
    print(f"{machine()}, {versions('torch', 'torchvision', 'jax')}\n")
    pair = torchvision_pair()
    with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as another:
        workers = {STACK: Worker(Path(one), "off"), KERNEL: Worker(Path(another), "auto")}
        for optimizer in RATES:
            print(comparison(optimizer, repetitions, pair, workers) + "\n")
        header = (
            "kernel, an epoch",
            "n",
            "s per job, bare",
            "in a worker",
            "recording adds",
            "evaluating adds",
            "both, share of the whole",
        )
        print(table(header, [recording(optimizer, 2 * repetitions, workers[KERNEL]) for optimizer in RATES]) + "\n")
    print(what_holds_it_back())


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 5)
