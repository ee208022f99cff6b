"""The closed-form gradient of MMiDS 8.5.3 compared with the text's own numbers, its Jacobian blocks, and autograd."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import cross_entropy, linear

from tests.support.gradient import ACTIVATIONS, gradient


def random_network(widths: list[int], bias: bool, seed: int) -> tuple[list[Tensor], list[Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    shapes = list(itertools.pairwise(widths))
    weights = [torch.randn(m, n, generator=generator, dtype=torch.float64) for n, m in shapes]
    biases = [torch.randn(m, generator=generator, dtype=torch.float64) for _, m in shapes] if bias else []
    return weights, biases


def autograd(
    x: Tensor, y: Tensor, weights: list[Tensor], biases: list[Tensor], activation: str
) -> tuple[Tensor, list[Tensor]]:
    parameters = [p.clone().requires_grad_() for p in (*weights, *biases)]
    z = x
    for i in range(len(weights)):
        z = linear(z, parameters[i], parameters[len(weights) + i] if biases else None)
        if i < len(weights) - 1:
            z = getattr(torch, activation)(z)
    loss = cross_entropy(z, y)
    return loss.detach(), list(torch.autograd.grad(loss, parameters))


def test_worked_example_agrees_to_the_printed_digits() -> None:
    x = torch.tensor([[1.0, 0.0, -1.0]], dtype=torch.float64)
    weights = [
        torch.tensor([[0.0, 1.0, -1.0], [2.0, 0.0, 1.0]], dtype=torch.float64),
        torch.tensor([[-1.0, 0.0], [2.0, -1.0]], dtype=torch.float64),
    ]
    result = gradient(x, torch.tensor([1]), weights)

    def printed(tensor: Tensor) -> list[float]:
        return [round(value, 4) + 0.0 for value in tensor.flatten().tolist()]

    assert printed(result.outputs[1]) == [0.7311, 0.7311]
    assert printed(result.probabilities) == [0.1881, 0.8119]
    assert printed(result.loss) == [0.2084]
    assert printed(result.weights[0]) == [-0.1110, 0.0, 0.1110, 0.0370, 0.0, -0.0370]
    assert printed(result.weights[1]) == [0.1375, 0.1375, -0.1375, -0.1375]
    assert result.biases == ()


@settings(max_examples=150, deadline=None)
@given(
    widths=st.lists(st.integers(1, 6), min_size=2, max_size=6),
    batch=st.integers(1, 5),
    activation=st.sampled_from(sorted(ACTIVATIONS)),
    bias=st.booleans(),
    seed=st.integers(0, 2**32 - 1),
)
def test_closed_form_equals_autograd(widths: list[int], batch: int, activation: str, bias: bool, seed: int) -> None:
    weights, biases = random_network(widths, bias, seed)
    generator = torch.Generator().manual_seed(seed + 1)
    x = torch.randn(batch, widths[0], generator=generator, dtype=torch.float64)
    y = torch.randint(widths[-1], (batch,), generator=generator)

    result = gradient(x, y, weights, biases, activation)
    loss, expected = autograd(x, y, weights, biases, activation)

    torch.testing.assert_close(result.loss, loss, rtol=1e-12, atol=1e-12)
    for mine, theirs in zip((*result.weights, *result.biases), expected, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-11, atol=1e-12)


def test_closed_form_equals_the_jacobian_blocks_of_the_text() -> None:
    weights, _ = random_network([3, 4, 2, 3], bias=False, seed=7)
    x = torch.randn(3, generator=torch.Generator().manual_seed(8), dtype=torch.float64)
    y = torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64)

    # Forward, with a_blocks[i] = A_i = ∂z_{i+1}/∂z_i and b_blocks[i] = B_i = ∂z_{i+1}/∂(rows of W_i).
    z = [x]
    a_blocks, b_blocks = [], []
    for weight in weights[:-1]:
        output = torch.sigmoid(weight @ z[-1])
        diagonal = torch.diag(output * (1 - output))
        a_blocks.append(diagonal @ weight)
        b_blocks.append(torch.kron(diagonal, z[-1][None, :]))
        z.append(output)
    softmax = torch.softmax(weights[-1] @ z[-1], 0)
    jacobian = torch.diag(softmax) - torch.outer(softmax, softmax)
    a_blocks.append(jacobian @ weights[-1])
    b_blocks.append(torch.kron(jacobian, z[-1][None, :]))

    p = -y / softmax
    q: list[Tensor] = []
    for a_block, b_block in zip(reversed(a_blocks), reversed(b_blocks), strict=True):
        q.insert(0, b_block.T @ p)
        p = a_block.T @ p

    result = gradient(x[None, :], torch.tensor([2]), weights)
    for mine, theirs in zip(result.weights, q, strict=True):
        torch.testing.assert_close(mine.flatten(), theirs, rtol=1e-12, atol=1e-14)


def test_relu_has_derivative_zero_at_zero_as_in_torch() -> None:
    weights, _ = random_network([2, 3, 2], bias=False, seed=1)
    x, y = torch.zeros(1, 2, dtype=torch.float64), torch.tensor([0])
    zeros = [torch.zeros(3, dtype=torch.float64), torch.zeros(2, dtype=torch.float64)]
    result = gradient(x, y, weights, zeros, "relu")
    _, expected = autograd(x, y, weights, zeros, "relu")
    assert result.biases[0].tolist() == expected[2].tolist() == [0.0, 0.0, 0.0]


def test_underflowing_probability_has_a_finite_loss() -> None:
    weight = torch.tensor([[1.0], [-1.0]])
    result = gradient(torch.tensor([[1000.0]]), torch.tensor([1]), [weight])
    assert result.probabilities.tolist() == [[1.0, 0.0]]
    assert result.loss.item() == pytest.approx(2000.0)
    assert result.weights[0].tolist() == [[1000.0], [-1000.0]]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_results_have_the_dtype_of_the_weights(dtype: torch.dtype) -> None:
    weights, biases = random_network([3, 4, 2], bias=True, seed=3)
    weights, biases = [w.to(dtype) for w in weights], [b.to(dtype) for b in biases]
    result = gradient(torch.ones(2, 3, dtype=dtype), torch.tensor([0, 1]), weights, biases)
    assert {t.dtype for t in (result.loss, *result.weights, *result.biases, *result.outputs)} == {dtype}


def test_gradient_of_a_batch_is_the_mean_over_its_rows() -> None:
    weights, biases = random_network([3, 5, 4], bias=True, seed=5)
    x = torch.randn(6, 3, generator=torch.Generator().manual_seed(6), dtype=torch.float64)
    y = torch.tensor([0, 1, 2, 3, 0, 1])
    whole = gradient(x, y, weights, biases, "tanh")
    rows = [gradient(x[i : i + 1], y[i : i + 1], weights, biases, "tanh") for i in range(6)]
    torch.testing.assert_close(whole.loss, torch.stack([row.loss for row in rows]).mean())
    for i in range(2):
        torch.testing.assert_close(whole.weights[i], torch.stack([row.weights[i] for row in rows]).mean(0))
        torch.testing.assert_close(whole.biases[i], torch.stack([row.biases[i] for row in rows]).mean(0))
