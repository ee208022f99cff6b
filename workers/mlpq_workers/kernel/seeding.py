"""What a seed determines, drawn without torch: initial weights, the order of images, dropout's generator.

The draws are those of mlpq_workers.engine.seeding: on an x86-64 CPU with AVX2, weights and orders are torch's to the
bit. Masks of dropout are those that torch draws where it has no MKL; see docs/explanation/kernel.md.
"""

from __future__ import annotations

import ctypes
import itertools
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlpq.spec.job import TRUNCATED_NORMAL_SD, JobSpec
from mlpq_workers.kernel.library import Build, GeneratorState

Weights = dict[str, NDArray[Any]]
Rows = NDArray[np.int64]
MAX_ROWS = 2**32 // 20  # torch draws longer permutations in another way


class Generator:
    """A Mersenne Twister whose state has the bytes of torch.Generator.get_state()."""

    def __init__(self, build: Build, seed: int = 0) -> None:
        self._draws = build.draws
        self._state = np.zeros(ctypes.sizeof(GeneratorState), np.uint8)
        self._draws.seed(self.address, seed)

    @property
    def address(self) -> int:
        """Where the state is in memory, as long as this object exists."""
        return self._state.ctypes.data

    def get_state(self) -> NDArray[np.uint8]:
        """A copy of the state, uint8 [5056]."""
        return self._state.copy()

    def set_state(self, state: NDArray[np.uint8]) -> None:
        """Continue from a state; raises ValueError if it is none."""
        state = np.ascontiguousarray(state, np.uint8)
        if state.shape != self._state.shape:
            raise ValueError(f"a generator's state has {len(self._state)} bytes, not {state.size}")
        found = GeneratorState.from_buffer_copy(state.tobytes())
        # next is the word that is drawn next, left how many remain before new ones are made: together 624, plus one
        # while no word was drawn.
        if not (1 <= found.left <= 624 and found.next <= 624 and (found.left + found.next == 625 or found.left == 1)):
            raise ValueError("the state of the generator is damaged")
        self._state[:] = state

    def permutation(self, n: int) -> Rows:
        """torch.randperm(n)."""
        if not 0 <= n < MAX_ROWS:
            raise ValueError(f"a permutation has at most {MAX_ROWS - 1} rows, not {n}")
        order = np.empty(n, np.int64)
        self._draws.permutation(self.address, n, order.ctypes.data)
        return order

    def epoch_order(self, n: int) -> Rows:
        """The order in which DataLoader(shuffle=True, generator=…) visits n rows in its next epoch."""
        # The loader also draws a 64-bit seed for worker processes, and its sampler a permutation that it doesn't use.
        self._draws.skip(self.address, 2)
        order = self.permutation(n)
        self._draws.skip(self.address, max(0, n - 1))
        return order

    def uniform(self, bound: float, *shape: int) -> NDArray[np.float32]:
        """Tensor.uniform_(-bound, bound) of float32."""
        values = np.empty(shape, np.float32)
        self._draws.uniform(self.address, -bound, bound, values.size, values.ctypes.data)
        return values

    def truncated_normal(self, sd: float, *shape: int) -> NDArray[np.float32]:
        """torch.nn.init.trunc_normal_ of float32, cut at two standard deviations."""
        values, again = np.empty(shape, np.float32), np.empty(shape, np.float32)
        self._draws.truncated_normal(self.address, sd, 2 * sd, values.size, values.ctypes.data, again.ctypes.data)
        return values


def initial_weights(spec: JobSpec, build: Build) -> tuple[Weights, Generator]:
    """New weights by name, float32, and the generator of dropout's masks, as of mlpq_workers.engine.network.build."""
    generator = Generator(build, spec.seed)
    weights: Weights = {}
    for i, (inputs, outputs) in enumerate(itertools.pairwise(spec.widths)):
        # The expression of torch.nn.init.kaiming_uniform_ with a = √5, in its order.
        bound = math.sqrt(3.0) * (math.sqrt(2.0 / (1 + math.sqrt(5) ** 2)) / math.sqrt(inputs))
        weights[f"layer{i}.weight"] = generator.uniform(bound, outputs, inputs)
        if spec.bias:
            weights[f"layer{i}.bias"] = generator.uniform(1 / math.sqrt(inputs), outputs)
    if spec.initialisation == "truncated-normal":
        for name, values in weights.items():
            if name.endswith("weight"):
                weights[name] = generator.truncated_normal(TRUNCATED_NORMAL_SD, *values.shape)
            else:
                values[:] = 0
    return weights, generator


def training_rows(spec: JobSpec, n: int, build: Build) -> tuple[Rows, Rows]:
    """Which of n images are trained on and which are held out, as of mlpq_workers.engine.seeding.training_rows."""
    if not spec.validation:
        return np.arange(n), np.empty(0, np.int64)
    order = Generator(build, spec.seed).permutation(n)
    return order[: n - spec.validation_size], order[n - spec.validation_size :]
