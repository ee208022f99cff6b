"""The same 40 jobs (2 optimizers, 20 seeds, 1 epoch), run by mlpq, Ray Tune, Optuna, and a pool of processes.

The others call a plain PyTorch function on tensors in memory, with one thread in each of as many processes as there are
cores. Times are from the start of a fresh process to its end, including all startup. For mlpq that process is
`mlpq submit --wait` with its database and queue: once starting a worker, and once over PostgreSQL and Redis with a
running worker.

    python -m benchmarks.tuners [REPETITIONS]
"""

from __future__ import annotations

import json
import logging
import multiprocessing
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mlpq_workers.engine.data import epoch_order

from .overhead import command, mlpq, site
from .report import machine, spread, table, versions
from .workload import RATES, data

SEEDS = 20
PROCESSES = os.cpu_count() or 1
FORK = multiprocessing.get_context("fork")
JOBS = [(optimizer, seed) for optimizer in RATES for seed in range(SEEDS)]
Counts = dict[str, list[int]]  # for each optimizer, the correct counts of each seed


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
    with FORK.Pool(PROCESSES) as processes:
        correct = processes.starmap(train_inherited, JOBS, chunksize=1)
    return by_optimizer(dict(zip(JOBS, correct, strict=True)))


def ray_tune(tuned: bool) -> Counts:
    """Ray Tune: a core for each trial, the data put into its object store once.

    As its manual has it, or `tuned`: actors used again, and no loggers.
    """
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
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


def optuna_study(journal: bool) -> Counts:
    """Optuna: all trials enqueued in a shared study, which forked processes that inherit the data work off."""
    import optuna
    from optuna.storages import JournalStorage, RDBStorage
    from optuna.storages.journal import JournalFileBackend

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    torch.set_num_threads(1)
    images()

    def study() -> optuna.Study:
        log, url = f"{folder}/log", f"sqlite:///{folder}/db"
        shared = JournalStorage(JournalFileBackend(log)) if journal else RDBStorage(url)
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


def by_optimizer(correct: dict[tuple[str, int], int]) -> Counts:
    return {optimizer: [correct[optimizer, seed] for seed in range(SEEDS)] for optimizer in RATES}


WAYS: dict[str, Callable[[], Counts]] = {
    "processes, no tuner": pool,
    "Ray Tune": partial(ray_tune, tuned=False),
    "Ray Tune, tuned": partial(ray_tune, tuned=True),
    "Optuna, SQLite": partial(optuna_study, journal=False),
    "Optuna, journal": partial(optuna_study, journal=True),
}


def timed(way: str) -> tuple[float, Counts]:
    """Seconds of a fresh process that does all jobs that way, and what came out."""
    began = time.perf_counter()
    fresh = [sys.executable, "-m", "benchmarks.tuners", way]
    out = subprocess.run(fresh, check=True, stdout=subprocess.PIPE, cwd=Path(__file__).parents[1]).stdout
    return time.perf_counter() - began, json.loads(out.splitlines()[-1])


def timed_mlpq(env: Mapping[str, str]) -> tuple[float, Counts]:
    """Seconds of `mlpq submit --wait`, and what came out."""
    optimizers = [word for name, lr in RATES.items() for word in ("--optimizer", f"{name}:lr={lr}")]
    began = time.perf_counter()
    mlpq(env, "submit", *optimizers, "--seeds", f"0..{SEEDS - 1}", "--epochs", "1", "--experiment", "jobs", "--wait")
    seconds = time.perf_counter() - began
    out = subprocess.run(
        command("results", "jobs", "--format", "json"), env=env, check=True, capture_output=True
    ).stdout
    return seconds, by_optimizer({(row["optimizer"], row["seed"]): row["test_correct"] for row in json.loads(out)})


def mlpq_cold() -> tuple[float, Counts]:
    with tempfile.TemporaryDirectory() as folder:
        return timed_mlpq({**os.environ, "MLPQ_HOME": folder})


def mlpq_warm() -> tuple[float, Counts]:
    with site() as (env, _):
        return timed_mlpq(env)


def main(repetitions: int) -> None:
    print(f"{machine()}, {versions('torch', 'ray', 'optuna')}, {PROCESSES} processes\n")
    ways = {"mlpq, its worker to start": mlpq_cold, "mlpq, a worker running": mlpq_warm}
    ways |= {way: partial(timed, way) for way in WAYS}
    ran: dict[str, list[tuple[float, Counts]]] = {way: [] for way in ways}
    for _ in range(repetitions):  # in turn, so that a drift of the machine meets all alike
        for way, run in ways.items():
            ran[way].append(run())
    medians = {way: statistics.median(seconds for seconds, _ in runs) for way, runs in ran.items()}
    cold, warm, *_ = medians.values()
    rows = [
        (
            way,
            *spread([seconds for seconds, _ in runs], ".1f"),
            *(f"{sum(counts) / SEEDS:.1f}" for counts in runs[0][1].values()),
            f"{medians[way] / cold:.1f}",
            f"{medians[way] / warm:.1f}",
        )
        for way, runs in ran.items()
    ]
    header = (f"{len(JOBS)} jobs", "n", "median s", "range", *(f"{name}, mean correct" for name in RATES))
    print(table((*header, "× mlpq, worker to start", "× mlpq, worker running"), rows))


if __name__ == "__main__":
    if sys.argv[1:] and sys.argv[1] in WAYS:
        print(json.dumps(WAYS[sys.argv[1]]()))
    else:
        main(int(sys.argv[1]) if len(sys.argv) > 1 else 3)
