"""The same 40 jobs (2 optimizers, 20 seeds, 1 epoch), run by mlpq, Ray Tune, Optuna, and pools of processes.

Ray Tune, Optuna and a pool call a plain PyTorch function on tensors in memory. Two more pools use scikit-learn's
`MLPClassifier` and Keras's `fit` (with JAX; also tuned, with 25 batches in each call of what it compiled). All use one
thread in each of as many processes as there are cores. Times are from the start of a fresh process to its end,
including all startup. For mlpq that process is `mlpq submit --wait` with its database and queue: once starting a
worker, with the kernel and with torch's stacked engine (`MLPQ_KERNEL=off`), and once over PostgreSQL and Redis with a
running worker. CPU seconds are those of all processes together, which other programs on the machine affect less.

    python -m benchmarks.tuners [REPETITIONS]
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import logging
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mlpq_workers.engine.data import epoch_order

from . import libraries
from .overhead import command, mlpq, site
from .report import cpu, machine, spread, table, versions
from .sweep import FORK, JOBS, PROCESSES, SEEDS, Counts, by_optimizer, in_processes
from .workload import RATES, data


@dataclass(frozen=True)
class Images:
    """Pixels in [0, 1], and labels."""

    train_x: Tensor
    train_y: Tensor
    test_x: Tensor
    test_y: Tensor


@cache
def images() -> Images:
    """The data set in memory; processes forked later inherit it."""
    loaded = data()
    return Images(loaded.train_x / loaded.scale, loaded.train_y, loaded.test_x / loaded.scale, loaded.test_y)


def train_one(optimizer: str, seed: int, images: Images) -> int:
    """The work of one trial, an epoch in the order of a DataLoader: its correct count."""
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(784, 32), nn.Sigmoid(), nn.Linear(32, 10))
    loss = nn.CrossEntropyLoss()
    make = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam}[optimizer]
    steps = make(model.parameters(), lr=RATES[optimizer])
    order = epoch_order(len(images.train_y), torch.Generator().manual_seed(seed))
    for rows in order.split(32):
        steps.zero_grad()
        loss(model(images.train_x[rows]), images.train_y[rows]).backward()
        steps.step()
    with torch.no_grad():
        return int((model(images.test_x).argmax(1) == images.test_y).sum())


def train_inherited(optimizer: str, seed: int) -> int:
    """The same with the data set that was in memory before the fork."""
    return train_one(optimizer, seed, images())


def pool() -> Counts:
    """No tuner: a pool of processes."""
    torch.set_num_threads(1)  # before the fork, which torch's own threads do not survive
    images()
    return in_processes(train_inherited)


def ray_tune(tuned: bool) -> Counts:
    """Ray Tune: a core for each trial, the data put into its object store once.

    As its manual has it, or `tuned`: actors used again, and no loggers.
    """
    # With the priority of the others: by default its processes yield to all other programs.
    os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_worker_niceness": "0"}
    if tuned:
        os.environ |= {"RAY_CHDIR_TO_TRIAL_DIR": "0", "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1"}
        os.environ["TUNE_GLOBAL_CHECKPOINT_S"] = "3600"
    import ray
    from ray import tune

    def trial(config: dict[str, Any], images: Images) -> None:
        tune.report({"correct": train_one(config["optimizer"], config["seed"], images)})

    with tempfile.TemporaryDirectory() as folder:
        ray.init(num_cpus=PROCESSES, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
        grid = {"optimizer": tune.grid_search(list(RATES)), "seed": tune.grid_search(list(range(SEEDS)))}
        trainable = tune.with_resources(tune.with_parameters(trial, images=images()), {"cpu": 1})
        again, quiet = tune.TuneConfig(reuse_actors=tuned), tune.RunConfig(storage_path=folder, verbose=0)
        results = tune.Tuner(trainable, param_space=grid, tune_config=again, run_config=quiet).fit()
        ray.shutdown()
    found = [result.metrics or {} for result in map(results.__getitem__, range(len(results)))]
    return by_optimizer({(one["config"]["optimizer"], one["config"]["seed"]): one["correct"] for one in found})


def optuna_study() -> Counts:
    """Optuna: all trials enqueued in a shared study, which forked processes that inherit the data work off.

    The study is in a journal. In SQLite, two processes now and then take the same trial, and one of them fails.
    """
    import optuna
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    torch.set_num_threads(1)
    images()

    def study() -> optuna.Study:
        shared = JournalStorage(JournalFileBackend(f"{folder}/log"))
        sampler = optuna.samplers.RandomSampler()
        return optuna.create_study(study_name="jobs", storage=shared, sampler=sampler, load_if_exists=True)

    def trial(trial: optuna.Trial) -> int:
        optimizer = trial.suggest_categorical("optimizer", list(RATES))
        return train_inherited(optimizer, trial.suggest_int("seed", 0, SEEDS - 1))

    def work(trials: int) -> None:
        study().optimize(trial, n_trials=trials)

    with tempfile.TemporaryDirectory() as folder:
        first = study()
        for optimizer, seed in JOBS:
            first.enqueue_trial({"optimizer": optimizer, "seed": seed})
        workers = [FORK.Process(target=work, args=(len(JOBS[i::PROCESSES]),)) for i in range(PROCESSES)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        return by_optimizer({(t.params["optimizer"], t.params["seed"]): int(t.value or 0) for t in first.trials})


WAYS: dict[str, Callable[[], Counts]] = {
    "PyTorch, no tuner": pool,
    "Ray Tune": partial(ray_tune, tuned=False),
    "Ray Tune, tuned": partial(ray_tune, tuned=True),
    "Optuna": optuna_study,
}


@dataclass(frozen=True)
class Sweep:
    """All jobs, done one way: seconds by the clock, CPU seconds of all processes, and what came out.

    The CPU seconds of services and workers that run already are not known, nor those of Ray, which waits for none of
    its processes.
    """

    seconds: float
    cpu_seconds: float | None
    correct: Counts


def timed(module: str, way: str) -> Sweep:
    """A fresh process that does all jobs that way."""
    fresh = [sys.executable, "-m", f"benchmarks.{module}", way]
    used, began = cpu_of_ended(), time.perf_counter()
    out = subprocess.run(fresh, check=True, stdout=subprocess.PIPE, cwd=Path(__file__).parents[1]).stdout
    seconds = time.perf_counter() - began
    used = cpu_of_ended() - used
    return Sweep(seconds, None if way.startswith("Ray") else used, json.loads(out.splitlines()[-1]))


def submit(env: Mapping[str, str]) -> Sweep:
    """`mlpq submit --wait`, with its CPU seconds."""
    optimizers = [word for name, lr in RATES.items() for word in ("--optimizer", f"{name}:lr={lr}")]
    used, began = cpu_of_ended(), time.perf_counter()  # the former may wait
    mlpq(env, "submit", *optimizers, "--seeds", f"0..{SEEDS - 1}", "--epochs", "1", "--experiment", "jobs", "--wait")
    seconds, used = time.perf_counter() - began, cpu_of_ended() - used
    out = subprocess.run(
        command("results", "jobs", "--format", "json"), env=env, check=True, capture_output=True
    ).stdout
    found = {(row["optimizer"], row["seed"]): row["test_correct"] for row in json.loads(out)}
    return Sweep(seconds, used, by_optimizer(found))


def mlpq_cold(kernel: str) -> Sweep:
    with tempfile.TemporaryDirectory() as folder:
        return submit({**os.environ, "MLPQ_HOME": folder, "MLPQ_KERNEL": kernel})


def mlpq_warm() -> Sweep:
    with site() as (env, _):
        return replace(submit(env), cpu_seconds=None)


def adopt_orphans() -> None:
    """Become the parent of descendants whose own parent has ended, so that their CPU time is found."""
    ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER, of Linux


def cpu_of_ended() -> float:
    """CPU seconds of all descendants that have ended; waits a little for orphans that are about to."""
    until = time.monotonic() + 5
    with contextlib.suppress(ChildProcessError):
        while time.monotonic() < until:
            if os.waitpid(-1, os.WNOHANG)[0] == 0:
                time.sleep(0.05)
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    return ended.ru_utime + ended.ru_stime


def ways() -> dict[str, Callable[[], Sweep]]:
    found: dict[str, Callable[[], Sweep]]
    found = {"mlpq, starting a worker": partial(mlpq_cold, "auto"), "mlpq, with a running worker": mlpq_warm}
    found["mlpq by the stack, starting a worker"] = partial(mlpq_cold, "off")
    found |= {way: partial(timed, "tuners", way) for way in WAYS}
    return found | {way: partial(timed, "libraries", way) for way in libraries.WAYS}


def comparison(ran: Mapping[str, list[Sweep]]) -> str:
    medians = {way: statistics.median(run.seconds for run in runs) for way, runs in ran.items()}
    cold, warm, *_ = medians.values()
    rows = [
        (
            way,
            *spread([run.seconds for run in runs], ".1f"),
            cpu([run.cpu_seconds for run in runs], ".1f"),
            *(f"{sum(counts) / SEEDS:.1f}" for counts in runs[0].correct.values()),
            f"{medians[way] / cold:.1f}",
            f"{medians[way] / warm:.1f}",
        )
        for way, runs in ran.items()
    ]
    header = (f"{len(JOBS)} jobs", "n", "median s", "range", "CPU s", *(f"{name}, mean correct" for name in RATES))
    return table((*header, "× mlpq, starting a worker", "× mlpq, with a running worker"), rows)


def main(repetitions: int) -> None:
    packages = versions("torch", "ray", "optuna", "scikit-learn", "keras", "jax")
    print(f"{machine()}, {packages}, {PROCESSES} processes\n")
    adopt_orphans()
    ran: dict[str, list[Sweep]] = {way: [] for way in ways()}
    for _ in range(repetitions):  # in turn, so that a drift of the machine meets all alike
        for way, run in ways().items():
            ran[way].append(run())
    print(comparison(ran))


if __name__ == "__main__":
    if sys.argv[1:] and sys.argv[1] in WAYS:
        print(json.dumps(WAYS[sys.argv[1]]()))
    else:
        main(int(sys.argv[1]) if len(sys.argv) > 1 else 3)
