"""What the kernel draws is what torch draws, to the bit."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mlpq.spec.job import JobSpec
from mlpq_workers.engine import data as torch_data
from mlpq_workers.engine import network, seeding
from mlpq_workers.engine.training_state import EngineJob
from mlpq_workers.kernel import Generator, Images, Network, build, initial_weights, training_rows
from tests.support.gang_training import job
from tests.support.kernel_jobs import Run, any_shape, random_images

SEEDS = st.integers(0, 4_294_967_295)


@given(SEEDS, st.integers(0, 2000))
def test_generator_state_has_torchs_bytes(seed: int, drawn: int) -> None:
    mine, theirs = Generator(build(), seed), torch.Generator().manual_seed(seed)
    assert np.array_equal(mine.get_state(), theirs.get_state().numpy())
    assert np.array_equal(mine.permutation(drawn), torch.randperm(drawn, generator=theirs).numpy())
    assert np.array_equal(mine.get_state(), theirs.get_state().numpy())


@pytest.mark.parametrize("n", [0, 1, 2, 60_000])
def test_epoch_orders_are_torchs(n: int) -> None:
    mine, theirs = Generator(build(), 7), torch.Generator().manual_seed(7)
    for _ in range(3):
        assert np.array_equal(mine.epoch_order(n), torch_data.epoch_order(n, theirs).numpy())


def test_generator_continues_from_torchs_state_and_back() -> None:
    theirs = torch.Generator().manual_seed(3)
    torch.randperm(1000, generator=theirs)
    mine = Generator(build())
    mine.set_state(theirs.get_state().numpy())
    assert np.array_equal(mine.epoch_order(500), torch_data.epoch_order(500, theirs).numpy())
    theirs.set_state(torch.from_numpy(mine.get_state()))
    assert np.array_equal(mine.epoch_order(500), torch_data.epoch_order(500, theirs).numpy())


@pytest.mark.parametrize("change", [lambda s: s[:-1], lambda s: np.full_like(s, 255), lambda s: np.zeros_like(s)])
def test_damaged_generator_state_is_rejected(change: object) -> None:
    generator = Generator(build())
    with pytest.raises(ValueError, match="state"):
        generator.set_state(change(generator.get_state()))  # type: ignore[operator]


def assert_same_start(spec: JobSpec) -> None:
    weights, dropout = initial_weights(spec, build())
    theirs, their_dropout = network.build(spec)
    expected = {name: tensor.numpy() for name, tensor in theirs.state_dict().items()}
    assert list(weights) == list(expected)
    for name, values in weights.items():
        assert values.dtype == np.float32
        assert np.array_equal(values, expected[name]), name
    assert np.array_equal(dropout.get_state()[:5016], their_dropout.get_state().numpy()[:5016])


@given(
    SEEDS,
    st.sampled_from(["none", "1", "3", "16", "33,7,16", "100,100"]),
    st.booleans(),
    st.sampled_from(["torch", "truncated-normal"]),
)
def test_initial_weights_are_torchs(seed: int, hidden: str, bias: bool, initialisation: str) -> None:
    assert_same_start(job(hidden=hidden, bias=bias, seeds=seed, initialisation=initialisation))


@pytest.mark.parametrize("initialisation", ["torch", "truncated-normal"])
def test_initial_weights_of_large_networks_are_torchs(initialisation: str) -> None:
    for seed in range(3):
        assert_same_start(
            job(dataset="fashion-mnist", hidden="1000,500,100", seeds=seed, initialisation=initialisation)
        )


@given(SEEDS, st.sampled_from([0, 0.1, 0.5]))
def test_rows_of_the_validation_split_are_torchs(seed: int, validation: float) -> None:
    spec = job(validation=validation, seeds=seed)
    mine, theirs = training_rows(spec, 1297, build()), seeding.training_rows(spec, 1297)
    assert all(np.array_equal(a, b.numpy()) for a, b in zip(mine, theirs, strict=True))


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_dropout_draws_the_masks_of_torch_without_mkl(rate: float) -> None:
    """A mask per hidden layer and batch; torch draws so for a tensor of probabilities, and everywhere without MKL."""
    spec = any_shape(hidden="7,33", dropout=rate, batch_size=150)
    images = random_images(170)
    run = Run.of(spec, images, build())
    run.network.train(images, run.epoch(), run.dropout)
    _, theirs = network.build(spec)
    for rows, width in ((150, 7), (150, 33), (20, 7), (20, 33)):
        torch.bernoulli(torch.full((rows, width), 1 - rate, dtype=torch.float64), generator=theirs)
    assert np.array_equal(run.dropout.get_state(), theirs.get_state().numpy())


def test_torch_and_kernel_take_over_from_each_other() -> None:
    job_spec = job()
    weights, _ = initial_weights(job_spec, build())
    shuffle = seeding.shuffle_generator(EngineJob(job_spec))
    generator = Generator(build())
    generator.set_state(shuffle.get_state().numpy())
    assert np.array_equal(generator.permutation(9), torch.randperm(9, generator=shuffle).numpy())
    images = Images(np.zeros((1, 64), np.uint8), np.zeros(1, np.int64), 16)
    kernel = Network(job_spec, images.scale, build())
    kernel.put_weights({name: torch.from_numpy(values).numpy() for name, values in weights.items()})
    assert all(np.array_equal(values, weights[name]) for name, values in kernel.take_weights().items())
