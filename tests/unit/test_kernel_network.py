"""A network in the kernel: interruption, checkpoints, threads, learning rates, and what it rejects."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mlpq_workers.kernel import Epoch, Generator, Images, KernelUnavailable, Network, build, initial_weights
from mlpq_workers.kernel.seeding import Weights
from tests.support.kernel_exercise import builds
from tests.support.kernel_jobs import SHAPES, AnyShape, Run, any_shape, every_option, random_images
from tests.support.optimizer_options import OPTIMIZERS_AND_OPTIONS

DROPOUT: dict[str, Any] = {"hidden": "20,9", "dropout": 0.3, "batch_size": 16}


def spec_of(optimizer: str) -> AnyShape:
    return any_shape(**DROPOUT, optimizer=optimizer, l1=0.001)


class StopsAfter(threading.Thread):
    """Stops an epoch from another thread once some of its batches are done."""

    def __init__(self, epoch: Epoch, batches: int) -> None:
        super().__init__()
        self._epoch, self._batches = epoch, batches

    def run(self) -> None:
        while self._epoch.done < self._batches and not self._epoch.is_finished:
            pass
        self._epoch.stop()


def test_stop_request_returns_between_batches_and_training_continues_exactly() -> None:
    spec, images = any_shape(**DROPOUT, optimizer="adam"), random_images(50_000)
    undisturbed, stopped = Run.of(spec, images, build()), Run.of(spec, images, build())
    undisturbed.train(1)
    epoch = stopped.epoch()
    thread = StopsAfter(epoch, 10)
    thread.start()
    is_finished = stopped.network.train(images, epoch, stopped.dropout)
    thread.join()
    assert not is_finished
    assert 10 <= epoch.done < epoch.batches
    assert not stopped.network.train(images, epoch, stopped.dropout)  # until the request is taken back
    epoch.resume()
    assert stopped.network.train(images, epoch, stopped.dropout)
    assert epoch.loss == undisturbed.figures[0][0]
    stopped.figures = undisturbed.figures
    assert stopped.fingerprint() == undisturbed.fingerprint()


@pytest.mark.parametrize("optimizer", OPTIMIZERS_AND_OPTIONS)
@pytest.mark.parametrize("after", [0, 7])
def test_checkpoint_within_an_epoch_continues_with_the_same_bits(optimizer: str, after: int) -> None:
    spec, images = spec_of(optimizer), random_images(300)
    undisturbed = Run.of(spec, images, build()).train(3)
    first = Run.of(spec, images, build()).train(1)
    epoch = first.epoch()
    partial = Epoch(epoch.order[: after * spec.batch_size], spec.batch_size, spec.lr)
    assert first.network.train(images, partial, first.dropout)

    second = Run.of(spec, images, build())
    second.network.put_weights(first.network.take_weights())
    second.network.put_state(first.network.take_state())
    second.shuffle.set_state(first.shuffle.get_state())
    second.dropout.set_state(first.dropout.get_state())
    rest = Epoch(epoch.order, spec.batch_size, spec.lr)
    rest.done, rest.summed_loss = after, partial.summed_loss
    assert second.network.train(images, rest, second.dropout)
    test = second.network.evaluate(images)
    second.figures = [*first.figures, (rest.loss, test.loss, test.correct)]
    assert second.train(1).fingerprint() == undisturbed.fingerprint()


def test_threads_and_neighbors_do_not_matter() -> None:
    images, specs = random_images(400), every_option()[:12]
    alone = [Run.of(spec, images, build()).train().fingerprint() for spec in specs if spec.features == 64]
    with ThreadPoolExecutor(4) as pool:
        runs = [Run.of(spec, images, build()) for spec in specs if spec.features == 64]
        together = [run.fingerprint() for run in pool.map(Run.train, runs)]
    assert together == alone


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "asgd", "nadam", "rprop"])
def test_learning_rate_may_change_with_each_batch(optimizer: str) -> None:
    spec, images = spec_of(optimizer), random_images(100)
    constant, listed, changed = (Run.of(spec, images, build()) for _ in range(3))
    rates = np.full(7, spec.lr)
    falling = spec.lr * np.linspace(1, 0.1, 7)
    for run, rate in ((constant, None), (listed, rates), (changed, falling)):
        assert run.network.train(images, run.epoch(rate), run.dropout)
    assert listed.fingerprint() == constant.fingerprint()
    assert (changed.fingerprint() != constant.fingerprint()) == (optimizer != "rprop")  # its steps have own sizes


def test_flush_to_zero_of_another_library_changes_nothing_and_is_restored() -> None:
    spec, images = any_shape(optimizer="adam:lr=0.1", hidden="33"), random_images(300)
    expected = Run.of(spec, images, build()).train(3).fingerprint()
    assert torch.set_flush_denormal(True)
    try:
        assert Run.of(spec, images, build()).train(3).fingerprint() == expected
        assert (torch.tensor([1e-38]) / 10).item() == 0  # it still holds
    finally:
        torch.set_flush_denormal(False)


def test_averages_never_become_subnormal() -> None:
    """An input that is 0 after the first batch: its averages decay in each of the many steps that follow."""
    spec = any_shape(optimizer="adam", batch_size=1, hidden="3", features=2)
    pixels = np.zeros((3000, 2), np.uint8)
    pixels[0] = 255
    images = Images(pixels, np.zeros(3000, np.int64), 255)
    run = Run.of(spec, images, build())
    run.network.train(images, Epoch(np.arange(3000), 1, 0.001))
    for name in ("0 layer0.weight", "1 layer0.weight"):
        assert (np.abs(run.network.take_state()[name]) >= np.finfo(np.float32).tiny).all()


def test_diverged_training_has_a_loss_that_is_not_finite() -> None:
    spec, images = any_shape(optimizer="sgd:lr=1e30", activation="relu"), random_images(200)
    for each in builds():
        run = Run.of(spec, images, each)
        epoch = run.epoch()
        run.network.train(images, epoch)
        assert not np.isfinite(epoch.loss)
        assert not np.isfinite(run.network.evaluate(images).loss)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_parameters_and_state_are_returned_as_they_were_set(shape: dict[str, Any]) -> None:
    spec = any_shape(**shape, optimizer="rmsprop:centered=true,momentum=0.9")
    network = Network(spec, 255, build())
    weights = initial_weights(spec, build())[0]
    network.put_weights(weights)
    state = {"steps": np.array(3), "products": np.array([0.5, 0.25, 1.0])}
    state |= {f"{i} {name}": values * (i + 2) for i in range(3) for name, values in weights.items()}
    network.put_state(state)

    def same(mine: Weights, theirs: Weights) -> bool:
        return list(mine) == list(theirs) and all(np.array_equal(mine[name], theirs[name]) for name in mine)

    assert same(network.take_weights(), weights)
    assert same(network.take_state(), state)


def test_evaluation_counts_the_rows_it_is_given() -> None:
    spec, images = any_shape(), random_images(700)
    run = Run.of(spec, images, build()).train(1)
    rows = np.array([5, 5, 699, 0])
    whole, some = run.network.evaluate(images), run.network.evaluate(images, rows)
    assert np.array_equal(some.predicted, whole.predicted[rows])
    assert some.correct == (some.predicted == images.labels[rows]).sum()
    assert some.total == 4
    assert run.network.evaluate(images, rows[:0]).total == 0


def bad_calls(run: Run) -> dict[str, object]:
    """Calls that must be rejected before they reach the kernel, by what is wrong."""
    spec, images, network = run.spec, run.images, run.network
    weights = network.take_weights()
    other = {**weights, "layer0.weight": weights["layer0.weight"].T}
    return {
        "rows": lambda: network.train(images, Epoch(np.array([10**6]), spec.batch_size, 0.1), run.dropout),
        "negative rows": lambda: network.evaluate(images, np.array([-1])),
        "matrix of rows": lambda: network.evaluate(images, np.zeros((2, 2), np.int64)),
        "batch size": lambda: network.train(images, Epoch(np.arange(9), 3, 0.1), run.dropout),
        "features": lambda: network.evaluate(random_images(5, features=63)),
        "labels": lambda: network.evaluate(random_images(50, classes=11)),
        "scale": lambda: network.evaluate(random_images(5, scale=16)),
        "generator": lambda: network.train(images, Epoch(np.arange(9), spec.batch_size, 0.1)),
        "shapes": lambda: network.put_weights(other),
        "names": lambda: network.put_weights({}),
        "state": lambda: network.put_state({"steps": np.array(1)}),
        "kind of pixels": lambda: Images(np.zeros((2, 2)), np.zeros(2, np.int64), 1),  # type: ignore[arg-type]
        "kind of labels": lambda: Images(np.zeros((2, 2), np.uint8), np.zeros(3, np.int64), 1),
        "scale of floats": lambda: Images(np.zeros((2, 2), np.float32), np.zeros(2, np.int64), 255),
        "NaN": lambda: Images(np.full((2, 2), np.nan, np.float32), np.zeros(2, np.int64), 1),
        "infinity": lambda: Images(np.full((2, 2), -np.inf, np.float32), np.zeros(2, np.int64), 1),
        "negative labels": lambda: Images(np.zeros((2, 2), np.uint8), np.array([0, -1]), 1),
        "batches done": lambda: setattr(Epoch(np.arange(9), 3, 0.1), "done", 4),
        "rates": lambda: Epoch(np.arange(9), 3, np.ones(4)),
        "permutation": lambda: Generator(build()).permutation(2**32),
    }


RUN = Run.of(any_shape(**DROPOUT), random_images(50), build())
REASONS = {
    "rows": "rows must be from 0 to 49",
    "negative rows": "rows must be from 0 to 49",
    "matrix of rows": "rows must be from 0 to 49",
    "batch size": "the epoch has batches of 3, the network of 16",
    "features": "the network reads 64 pixels of scale 255",
    "labels": "labels must be from 0 to 9",
    "scale": "the network reads 64 pixels of scale 255",
    "generator": "dropout needs a generator",
    "shapes": "the arrays must have the names and shapes",
    "names": "the arrays must have the names and shapes",
    "state": "the optimizer's state belongs to another network or another engine",
    "kind of pixels": "pixels must be an array of bytes or of float32",
    "kind of labels": "labels must be an array of int64, one for each image",
    "scale of floats": "scale must be 1 where pixels are of float32",
    "NaN": "pixels must be finite",
    "infinity": "pixels must be finite",
    "negative labels": "labels must not be negative",
    "batches done": "an epoch of 3 batches can't continue after batch 4",
    "rates": "operands could not be broadcast together",
    "permutation": "a permutation has at most 214748363 rows, not 4294967296",
}


@pytest.mark.parametrize("what", bad_calls(RUN))
def test_wrong_sizes_are_rejected_before_the_call(what: str) -> None:
    with pytest.raises(ValueError, match=f"^{REASONS[what]}"):
        bad_calls(RUN)[what]()  # type: ignore[operator]


@pytest.mark.parametrize(
    ("name", "file", "message"),
    [
        ("sse", None, "the kernel has no build 'sse': use auto, avx512, avx2, plain or off"),
        ("auto", Path("nowhere.so"), "the kernel is not compiled: install gcc or clang, then install mlpq again"),
        ("auto", Path(__file__), "can't load the kernel"),
    ],
)
def test_missing_kernel_is_one_clear_line(name: str, file: Path | None, message: str) -> None:
    with pytest.raises(KernelUnavailable, match=message):
        build(name, file)
