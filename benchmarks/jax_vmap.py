"""The same jobs in JAX: many models by vmap, the batches of an epoch by lax.scan, all compiled beforehand.

Two ways: "plain", jax.grad on the machine as one device, as one writes it; and "tuned", the fastest that was found:
each core a device that trains its share of the models, and the gradient in closed form.
Initial weights and batch orders are torch's own, made beforehand, so each model is the job of its seed up to rounding.

    python -m benchmarks.jax_vmap plain|tuned OPTIMIZER MODELS EPOCHS own|shared

prints JSON: seconds of training and of testing, correct count of each model, CPU time of training, seconds of
compilation. The batch order is
each model's own, or one for all.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch
from jax import Array
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from mlpq_workers.engine.data import Data, epoch_order
from mlpq_workers.engine.network import build

from .workload import RATES, Run, data, specs

BATCH, BETAS, EPSILON = 32, (0.9, 0.999), 1e-8
Weights = list[Array]
Images = tuple[Array, Array]  # bytes [n, features] and labels [n]


@dataclass(frozen=True)
class Program:
    """What is trained and how: `tuned` uses both cores and the gradient in closed form.

    With `shared_order` all models see the batches of the first seed, so that each is gathered once.
    """

    optimizer: str
    lr: float
    shared_order: bool
    tuned: bool


def train_vmap(program: Program, epochs: int, seeds: Iterable[int], data: Data) -> tuple[Run, float]:
    """Train a model for each seed; also returns the seconds of compilation, which the run leaves out."""
    optimizer, shared_order, tuned = program.optimizer, program.shared_order, program.tuned
    jobs = specs(optimizer, program.lr, epochs, seeds)
    # Before anything else of JAX runs.
    jax.config.update("jax_num_cpu_devices", (os.cpu_count() or 1) if tuned else 1)
    devices = jax.devices("cpu")
    cores = max(d for d in range(1, len(devices) + 1) if len(jobs) % d == 0)
    mesh = jax.make_mesh((cores,), ("models",), devices=devices[:cores])
    share, whole, of_orders = P("models"), P(), P() if shared_order else P("models")

    def place(values: Any, how: P) -> Any:
        return jax.device_put(values, NamedSharding(mesh, how))

    def compiled(function: Any, how: tuple[P, ...], *arguments: Any) -> Any:
        shares = jax.shard_map(function, mesh=mesh, in_specs=how, out_specs=share, check_vma=False)
        return jax.jit(shares).lower(*arguments).compile()

    models = [[p.detach().numpy() for p in build(job)[0].parameters()] for job in jobs]
    weights = place([np.stack(same) for same in zip(*models, strict=True)], share)
    zeros = [jnp.zeros_like(w) for w in weights]
    state = place((zeros, zeros, jnp.zeros(len(jobs))) if optimizer == "adam" else (), share)
    shuffles = [torch.Generator().manual_seed(job.seed) for job in jobs[: 1 if shared_order else None]]
    orders = [place(_order(len(data.train_y), shuffles), of_orders) for _ in range(epochs)]
    train_set = place((data.train_x.numpy(), data.train_y.int().numpy()), whole)
    test_set = place((data.test_x.numpy(), data.test_y.int().numpy()), whole)

    jax.block_until_ready((train_set, test_set))
    began = time.perf_counter()
    gradient = _gradient if tuned else jax.grad(_loss)
    train = partial(_epoch, partial(_step, program, gradient), (data.scale, shared_order))
    run_epoch = compiled(train, (share, share, of_orders, whole), weights, state, orders[0], train_set)
    run_test = compiled(partial(_correct, data.scale), (share, whole), weights, test_set)
    ready, cpu = time.perf_counter(), time.process_time()
    for order in orders:
        weights, state = run_epoch(weights, state, order, train_set)
    jax.block_until_ready(weights)
    trained, cpu = time.perf_counter(), time.process_time() - cpu
    correct = np.asarray(run_test(weights, test_set))
    return Run(trained - ready, time.perf_counter() - trained, tuple(correct.tolist()), cpu), ready - began


def _order(n: int, shuffles: list[torch.Generator]) -> np.ndarray[Any, Any]:
    """Row numbers [models, batches, rows] of the next epoch."""
    rows = torch.stack([epoch_order(n, shuffle) for shuffle in shuffles])
    return rows.reshape(len(shuffles), -1, BATCH).int().numpy()


def _epoch(step: Any, reading: tuple[int, bool], weights: Weights, state: Any, orders: Array, images: Images) -> Any:
    """One pass over all batches; `reading` is the scale of the pixels and whether all models share one order."""
    scale, shared = reading

    def batch(carry: Any, rows: Array) -> Any:
        x, y = images[0][rows].astype(jnp.float32) / scale, images[1][rows]
        own = None if shared else 0
        return jax.vmap(step, in_axes=(0, 0, own, own))(*carry, x, y), None

    return jax.lax.scan(batch, (weights, state), orders[0] if shared else orders.swapaxes(0, 1))[0]


def _step(program: Program, gradient: Callable[..., Weights], weights: Weights, state: Any, x: Array, y: Array) -> Any:
    gradients, lr = gradient(weights, x, y), program.lr
    if program.optimizer == "sgd":
        return [w - lr * g for w, g in zip(weights, gradients, strict=True)], state
    (b1, b2), (means, squares, t) = BETAS, state
    t += 1
    means = [b1 * m + (1 - b1) * g for m, g in zip(means, gradients, strict=True)]
    squares = [b2 * s + (1 - b2) * g * g for s, g in zip(squares, gradients, strict=True)]
    rate, root = lr / (1 - b1**t), jnp.sqrt(1 - b2**t)
    moved = zip(weights, means, squares, strict=True)
    return [w - rate * m / (jnp.sqrt(s) / root + EPSILON) for w, m, s in moved], (means, squares, t)


def _forward(weights: Weights, x: Array) -> tuple[Array, Array]:
    w0, b0, w1, b1 = weights
    hidden = jax.nn.sigmoid(x @ w0.T + b0)
    return hidden, hidden @ w1.T + b1


def _loss(weights: Weights, x: Array, y: Array) -> Array:
    log = jax.nn.log_softmax(_forward(weights, x)[1])
    return -jnp.take_along_axis(log, y[:, None], 1).mean()


def _gradient(weights: Weights, x: Array, y: Array) -> Weights:
    """The gradient of the mean cross-entropy, in closed form."""
    hidden, logits = _forward(weights, x)
    d1 = (jax.nn.softmax(logits) - jax.nn.one_hot(y, logits.shape[1])) / len(y)
    d0 = (d1 @ weights[2]) * hidden * (1 - hidden)
    return [d0.T @ x, d0.sum(0), d1.T @ hidden, d1.sum(0)]


def _correct(scale: int, weights: Weights, test: Images) -> Array:
    x = test[0].astype(jnp.float32) / scale
    counts: Array = jax.lax.map(lambda w: (_forward(w, x)[1].argmax(1) == test[1]).sum(), weights)
    return counts


def in_a_process(way: str, optimizer: str, models: int, epochs: int, order: str) -> tuple[Run, float]:
    """`train_vmap` in a process of its own, since JAX fixes its devices once per process."""
    command = [sys.executable, "-m", "benchmarks.jax_vmap", way, optimizer, str(models), str(epochs), order]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, cwd=Path(__file__).parents[1])
    train_seconds, test_seconds, correct, cpu_seconds, compiling = json.loads(done.stdout.splitlines()[-1])
    return Run(train_seconds, test_seconds, tuple(correct), cpu_seconds), compiling


def main(way: str, optimizer: str, models: int, epochs: int, order: str) -> None:
    program = Program(optimizer, RATES[optimizer], order == "shared", way == "tuned")
    run, compiling = train_vmap(program, epochs, range(models), data())
    print(json.dumps([run.train_seconds, run.test_seconds, run.correct, run.cpu_seconds, compiling]))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), sys.argv[5])
