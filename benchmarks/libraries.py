"""The 40 jobs of benchmarks.tuners with other libraries: scikit-learn's MLPClassifier, and Keras with JAX.

Each in a pool of forked processes that inherit the data set, with one thread each. scikit-learn draws initial weights
by its own rule, Keras here by that of PyTorch.

    python -m benchmarks.libraries WAY

prints the correct counts as JSON.
"""

from __future__ import annotations

import json
import os
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import workload
from .sweep import Counts, in_processes
from .workload import RATES

ONE_THREAD = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1",
}


@dataclass(frozen=True)
class Arrays:
    """Pixels in [0, 1] as float32, and labels."""

    train_x: NDArray[np.float32]
    train_y: NDArray[np.int64]
    test_x: NDArray[np.float32]
    test_y: NDArray[np.int64]


@cache
def arrays() -> Arrays:
    """The data set in memory; processes forked later inherit it."""
    images = workload.images()
    train_x, test_x = (np.divide(x, images.scale, dtype=np.float32) for x in (images.train_x, images.test_x))
    return Arrays(train_x, images.train_y, test_x, images.test_y)


def with_sklearn(optimizer: str, seed: int) -> int:
    """The work of one job, an epoch of mini-batches, by MLPClassifier: its correct count."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.neural_network import MLPClassifier

    warnings.simplefilter("ignore", ConvergenceWarning)  # one epoch is not meant to converge
    model = MLPClassifier(
        hidden_layer_sizes=(32,), activation="logistic", solver=optimizer, alpha=0, batch_size=32,
        learning_rate_init=RATES[optimizer], momentum=0, max_iter=1, random_state=seed,
    )  # fmt: skip
    images = arrays()
    model.fit(images.train_x, images.train_y)
    return int((model.predict(images.test_x) == images.test_y).sum())


def with_keras(batches: int, optimizer: str, seed: int) -> int:
    """The same by Keras, with `batches` trained in each call of what it compiled."""
    import keras

    def dense(inputs: int, units: int, activation: str | None) -> Any:
        bound = inputs**-0.5  # of torch.nn.Linear's uniform distribution
        draw = partial(keras.initializers.RandomUniform, -bound, bound)
        return keras.layers.Dense(units, activation, kernel_initializer=draw(), bias_initializer=draw())

    keras.utils.set_random_seed(seed)
    model = keras.Sequential([keras.Input((784,)), dense(784, 32, "sigmoid"), dense(32, 10, None)])
    make = {"sgd": keras.optimizers.SGD, "adam": partial(keras.optimizers.Adam, epsilon=1e-8)}[optimizer]
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(make(RATES[optimizer]), loss, steps_per_execution=batches)
    images = arrays()
    model.fit(images.train_x, images.train_y, batch_size=32, epochs=1, verbose=0)
    predicted = model.predict(images.test_x, batch_size=1000, verbose=0).argmax(1)
    return int((predicted == images.test_y).sum())


def sklearn() -> Counts:
    os.environ |= ONE_THREAD
    arrays()
    return in_processes(with_sklearn)


def keras_with_jax(batches: int) -> Counts:
    os.environ |= ONE_THREAD | {"KERAS_BACKEND": "jax"}
    arrays()
    return in_processes(partial(with_keras, batches))  # imports Keras after the fork, which JAX does not survive


WAYS: dict[str, Callable[[], Counts]] = {
    "scikit-learn": sklearn,
    "Keras, JAX": partial(keras_with_jax, 1),
    "Keras, JAX, 25 batches a call": partial(keras_with_jax, 25),
}

if __name__ == "__main__":
    print(json.dumps(WAYS[sys.argv[1]]()))
