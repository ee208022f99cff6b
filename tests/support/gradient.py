"""The gradient of a multilayer perceptron by the algorithm of MMiDS 8.5.3, written out: forward, loss, backward.

An oracle that is independent of autograd. The Jacobian blocks A_i and B_i of the text are never formed: for softmax
with cross-entropy and an element-wise activation they reduce to two small products for each layer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

# For each activation: the function, and its derivative as a function of its output.
ACTIVATIONS: dict[str, tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]] = {
    "sigmoid": (torch.sigmoid, lambda z: z * (1 - z)),
    "relu": (torch.relu, lambda z: (z > 0).to(z.dtype)),
    "tanh": (torch.tanh, lambda z: 1 - z * z),
}


@dataclass(frozen=True)
class Gradient:
    """The loss, its gradient and the outputs of the forward pass, all in the dtype of the weights.

    `loss` is the mean over the batch, a scalar. `weights[i]` and `biases[i]` have the shapes of W_i and b_i; `biases`
    is empty for a network without. `outputs` are z_0 … z_{L+1}, one row for each row of the batch.
    """

    loss: Tensor
    weights: tuple[Tensor, ...]
    biases: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]

    @property
    def probabilities(self) -> Tensor:
        """The softmax output z_{L+1}, [batch, classes]."""
        return self.outputs[-1]


def gradient(
    x: Tensor, y: Tensor, weights: Sequence[Tensor], biases: Sequence[Tensor] = (), activation: str = "sigmoid"
) -> Gradient:
    """The mean cross-entropy over a batch and its gradient in all weights and biases (MMiDS 8.5.3).

    `x` is [batch, n_0], `y` holds class indices, [batch]; W_i is [n_{i+1}, n_i] and b_i is [n_{i+1}], i = 0 … L. The
    activation (sigmoid, relu or tanh) acts on layers 0 … L-1; L = 0 is multinomial logistic regression.
    """
    sigma, derivative = ACTIVATIONS[activation]
    shifts: Sequence[Tensor | None] = biases or [None] * len(weights)
    last = len(weights) - 1

    outputs = [x]
    for weight, bias in zip(weights[:-1], shifts, strict=False):
        outputs.append(sigma(torch.nn.functional.linear(outputs[-1], weight, bias)))

    # log_softmax, not the logarithm of softmax: a probability that underflows still has a finite loss.
    log_probabilities = torch.log_softmax(torch.nn.functional.linear(outputs[last], weights[last], shifts[last]), 1)
    loss = -log_probabilities.gather(1, y[:, None]).mean()
    outputs.append(log_probabilities.exp())

    delta = (outputs[-1] - torch.nn.functional.one_hot(y, outputs[-1].shape[1])) / len(x)
    by_weight: list[Tensor] = []
    by_bias: list[Tensor] = []
    for i in range(last, -1, -1):
        by_weight.insert(0, delta.T @ outputs[i])
        by_bias.insert(0, delta.sum(0))
        if i:
            delta = (delta @ weights[i]) * derivative(outputs[i])
    return Gradient(loss, tuple(by_weight), tuple(by_bias) if biases else (), tuple(outputs))
