"""A seed gives the network and the dropout masks of a plain script; equal weights have equal hashes."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from mlpq.spec.job import JobSpec
from mlpq.spec.sweep import Sweep
from mlpq_workers.engine.network import Dropout, build
from mlpq_workers.engine.tensors import to_arrays
from mlpq_workers.engine.training_state import weights_sha256


@pytest.fixture(autouse=True)
def own_random_state() -> Iterator[None]:
    with torch.random.fork_rng(devices=[]):
        yield


def job(**keys: object) -> JobSpec:
    return Sweep.parse({"dataset": "digits", "hidden": "16,8", **keys}).jobs()[0]


def script_layers(spec: JobSpec) -> list[nn.Linear]:
    """What a script does: seed the global generator, then create the layers in order."""
    torch.manual_seed(spec.seed)
    return [nn.Linear(n, m, bias=spec.bias) for n, m in zip(spec.widths, spec.widths[1:], strict=False)]


@pytest.mark.parametrize("hidden", ["none", "32", "16,8"])
@pytest.mark.parametrize("bias", [True, False])
def test_initial_weights_have_the_bits_of_a_script(hidden: str, bias: bool) -> None:
    spec = job(hidden=hidden, bias=bias, seeds=7)
    expected = [p for layer in script_layers(spec) for p in layer.parameters()]
    network, _ = build(spec)
    assert all(torch.equal(a, b) for a, b in zip(network.parameters(), expected, strict=True))


@pytest.mark.parametrize("hidden", ["none", "16,8"])
@pytest.mark.parametrize("bias", [True, False])
def test_truncated_normal_weights_have_the_bits_of_a_script(hidden: str, bias: bool) -> None:
    spec = job(
        hidden=hidden, bias=bias, seeds=7, initialisation="truncated-normal", dropout=0.5 if hidden != "none" else 0
    )
    layers = script_layers(spec)
    for layer in layers:
        nn.init.trunc_normal_(layer.weight, std=0.03, a=-0.06, b=0.06)
        if bias:
            nn.init.zeros_(layer.bias)
    expected = [p for layer in layers for p in layer.parameters()]
    network, generator = build(spec)
    assert all(torch.equal(a, b) for a, b in zip(network.parameters(), expected, strict=True))
    assert torch.equal(generator.get_state(), torch.get_rng_state())


def test_truncated_normal_weights_are_normal_and_cut_at_two_standard_deviations() -> None:
    """The cut leaves 1 - 4 φ(2) / (2 Φ(2) - 1) of the variance (Johnson, Kotz, Balakrishnan, 1994, section 10.1)."""
    network, _ = build(job(hidden="1000,500", initialisation="truncated-normal"))
    weights = torch.cat([p.detach().flatten() for p in network.parameters() if p.dim() == 2]).double()
    biases = torch.cat([p.detach() for p in network.parameters() if p.dim() == 1])
    n = len(weights)
    assert n > 500_000
    assert 0.0599 < float(weights.abs().max()) <= 0.06
    within = math.erf(2 / math.sqrt(2))
    sd = 0.03 * math.sqrt(1 - 4 * math.exp(-2) / math.sqrt(2 * math.pi) / within)
    assert sd == pytest.approx(0.03 * 0.8796, rel=1e-4)
    assert float(weights.std()) == pytest.approx(sd, rel=4 / math.sqrt(2 * n))
    assert float(weights.mean()) == pytest.approx(0, abs=4 * sd / math.sqrt(n))
    part = float((weights.abs() < 0.03).double().mean())
    assert part == pytest.approx(math.erf(1 / math.sqrt(2)) / within, abs=4 * 0.5 / math.sqrt(n))
    assert not biases.any()


def test_seed_determines_the_truncated_normal_weights() -> None:
    def drawn(seed: int) -> str:
        return weights_sha256(to_arrays(build(job(seeds=seed, initialisation="truncated-normal"))[0].state_dict()))

    assert drawn(1) == drawn(1) != drawn(2)


def test_dropout_generator_starts_where_a_script_leaves_the_global_one() -> None:
    spec = job(dropout=0.5, seeds=7)
    script_layers(spec)
    assert torch.equal(build(spec)[1].get_state(), torch.get_rng_state())


def test_build_does_not_change_the_global_generator() -> None:
    torch.manual_seed(1)
    before = torch.get_rng_state()
    build(job(seeds=7))
    assert torch.equal(torch.get_rng_state(), before)


def test_largest_seed_is_accepted() -> None:
    build(job(seeds=2**32 - 1))


@pytest.mark.parametrize("p", [0.1, 0.3, 0.5, 0.9])
@pytest.mark.parametrize("shape", [(32, 100), (17, 3), (1, 1)])
def test_dropout_has_the_bits_of_nn_dropout(p: float, shape: tuple[int, ...]) -> None:
    x = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    torch.manual_seed(5)
    theirs, mine = nn.Dropout(p), Dropout(p, torch.Generator().manual_seed(5))
    for _ in range(3):
        a, b = x.clone().requires_grad_(), x.clone().requires_grad_()
        expected, got = theirs(a), mine(b)
        assert torch.equal(got, expected)
        expected.sum().backward()
        got.sum().backward()
        assert a.grad is not None
        assert b.grad is not None
        assert torch.equal(a.grad, b.grad)


def test_dropout_does_nothing_during_evaluation() -> None:
    generator = torch.Generator().manual_seed(5)
    before = generator.get_state()
    x = torch.ones(4, 4)
    assert torch.equal(Dropout(0.5, generator).eval()(x), x)
    assert torch.equal(generator.get_state(), before)


def test_dropout_follows_each_hidden_activation() -> None:
    kinds = [type(module) for module in build(job(dropout=0.5, activation="tanh"))[0]]
    assert kinds == [nn.Linear, nn.Tanh, Dropout, nn.Linear, nn.Tanh, Dropout, nn.Linear]


def test_names_of_weights_do_not_depend_on_dropout() -> None:
    with_dropout, without = build(job(dropout=0.5))[0], build(job())[0]
    assert list(with_dropout.state_dict()) == list(without.state_dict())


def floats(values: object) -> NDArray[np.float32]:
    return np.array(values, np.float32)


def test_hash_covers_names_dtypes_shapes_and_values() -> None:
    weights = {"a": floats([[1.0, 2.0]]), "b": floats([3.0])}
    other: list[dict[str, NDArray[Any]]] = [
        {"a": floats([[1.0, 2.0]]), "c": floats([3.0])},
        {"a": floats([[1.0], [2.0]]), "b": floats([3.0])},
        {"a": floats([[1.0, 2.0]]), "b": floats([-3.0])},
        {"a": floats([[1.0, 2.0]]), "b": np.array([3.0], dtype=np.float64)},
        {"a": floats([[1.0, 2.0]])},
    ]
    assert len({weights_sha256(w) for w in [weights, *other]}) == 6


def test_hash_does_not_depend_on_order_or_layout() -> None:
    weights = {"a": floats([[1.0, 2.0], [3.0, 4.0]]), "b": floats([5.0])}
    same = {"b": floats([5.0]), "a": floats([[1.0, 3.0], [2.0, 4.0]]).T}
    assert weights_sha256(weights) == weights_sha256(same)


def test_hash_is_over_little_endian_bytes_and_never_changes() -> None:
    text = b'["a", "float32", [1, 2]]\n' + bytes.fromhex("0000803f00000040")
    assert weights_sha256({"a": floats([[1.0, 2.0]])}) == hashlib.sha256(text).hexdigest()
