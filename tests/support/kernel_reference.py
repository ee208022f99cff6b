"""Training by NumPy in double precision, written from the definitions: the reference for the kernel's options."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlpq.spec.formula_program import FIRST_STATE, OPERANDS, Program
from mlpq.spec.job import JobSpec

Array = NDArray[np.float64]
Arrays = dict[str, Array]

ACTIVATIONS: Mapping[str, tuple[Callable[[Array], Array], Callable[[Array], Array]]] = {
    "sigmoid": (lambda x: 1 / (1 + np.exp(-x)), lambda a: a * (1 - a)),
    "relu": (lambda x: np.maximum(x, 0), lambda a: (a > 0).astype(float)),
    "tanh": (np.tanh, lambda a: 1 - a * a),
}
OPERATIONS: Mapping[str, Callable[..., Any]] = {
    "copy": np.copy, "neg": np.negative, "abs": np.abs, "sign": np.sign, "sqrt": np.sqrt, "exp": np.exp,
    "log": np.log, "tanh": np.tanh, "add": np.add, "sub": np.subtract, "mul": np.multiply, "div": np.divide,
    "min": np.minimum, "max": np.maximum, "pow": np.power, "lt": np.less, "le": np.less_equal, "gt": np.greater,
    "ge": np.greater_equal, "eq": np.equal, "ne": np.not_equal, "where": lambda c, a, b: np.where(c != 0, a, b),
}  # fmt: skip


def norm(arrays: Arrays) -> float:
    """The Euclidean norm over a model."""
    return float(np.sqrt(sum((each * each).sum() for each in arrays.values())))


@dataclass
class Reference:
    """A network of the spec, whose optimizer is plain gradient descent or a formula; without dropout."""

    spec: JobSpec
    weights: Arrays
    states: list[Arrays] = field(default_factory=list)
    steps: int = 0

    def step(self, x: Array, labels: NDArray[np.int64]) -> float:
        """One step on a batch; the mean loss before it, of the smoothed labels."""
        spec = self.spec
        loss, gradient = self.loss_and_gradient(x, labels)
        for name, weight in self.weights.items():
            gradient[name] += spec.l1 * np.sign(weight)
        if spec.clip_norm is not None:
            factor = min(1.0, spec.clip_norm / (norm(gradient) + 1e-6))
            gradient = {name: factor * each for name, each in gradient.items()}
        self.steps += 1
        if (program := spec.program) is None:
            for name in self.weights:
                self.weights[name] = self.weights[name] - spec.lr * gradient[name]
        else:
            self._run(program, gradient)
        return loss

    def loss_and_gradient(self, x: Array, labels: NDArray[np.int64]) -> tuple[float, Arrays]:
        spec, layers = self.spec, len(self.spec.widths) - 1
        act, slope = ACTIVATIONS[spec.activation]
        inputs = [x]
        for i in range(layers):
            z = inputs[-1] @ self.weights[f"layer{i}.weight"].T + self.weights.get(f"layer{i}.bias", 0)
            inputs.append(act(z) if i + 1 < layers else z)
        scores = inputs.pop()
        classes = scores.shape[1]
        log = scores - scores.max(1, keepdims=True)
        log = log - np.log(np.exp(log).sum(1, keepdims=True))
        truth = np.eye(classes)[labels] * (1 - spec.label_smoothing) + spec.label_smoothing / classes
        loss = float(-(truth * log).sum(1).mean())
        p, gradient = (np.exp(log) - truth) / len(x), {}
        for i in reversed(range(layers)):
            gradient[f"layer{i}.weight"] = p.T @ inputs[i]
            if spec.bias:
                gradient[f"layer{i}.bias"] = p.sum(0)
            if i:
                p = (p @ self.weights[f"layer{i}.weight"]) * slope(inputs[i])
        return loss, gradient

    def _run(self, program: Program, gradient: Arrays) -> None:
        if not self.states:
            self.states = [{k: np.zeros_like(v) for k, v in self.weights.items()} for _ in range(program.states)]
        scalars = [float(self.steps), self.spec.lr, norm(gradient), norm(self.weights), *program.constants]
        scalars += [0.0] * (program.scalars - len(scalars))
        for name, weight in self.weights.items():
            vectors: list[Any] = [weight, gradient[name], *(state[name] for state in self.states)]
            vectors += [None] * (program.vectors - len(vectors))
            for code, kind, dst, *operands in program.operations:
                taken = operands[: OPERANDS[code]]
                if kind == "scalar":
                    scalars[dst] = float(OPERATIONS[code](*(scalars[n] for n in taken)))
                else:
                    values = (vectors[n] if n >= 0 else scalars[-1 - n] for n in taken)
                    vectors[dst] = np.broadcast_to(np.asarray(OPERATIONS[code](*values), float), weight.shape)
            self.weights[name] = vectors[0]
            for state, value in zip(self.states, vectors[FIRST_STATE:], strict=False):
                state[name] = value
