"""Inputs of float32, clipping, label smoothing and formulas in the kernel, beside NumPy and torch."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch

from mlpq.spec.formula_program import OPERANDS, Operation, Program
from mlpq_workers.engine.formulas import SCALAR
from mlpq_workers.engine.rates import epoch_rates
from mlpq_workers.engine.training_state import EngineJob
from mlpq_workers.kernel import Build, Epoch, Evaluation, Images, Network, build, initial_weights
from mlpq_workers.kernel.config import program_argument
from tests.support.float_pixels import in_floats
from tests.support.gang_training import OPTIMIZERS_AND_OPTIONS, Interrupt, Record, few, job, train_plain
from tests.support.kernel_builds import DOUBLE, compiled
from tests.support.kernel_exercise import builds
from tests.support.kernel_jobs import FORMULAS, AnyShape, Run, any_shape, formula, images_of, random_images, trained
from tests.support.kernel_reference import OPERATIONS, Reference, norm
from tests.support.kernel_training import assert_equal, few_images, train_by_kernel
from tests.support.training_options import options

OPTIONS: dict[str, dict[str, Any]] = {
    "clipped": {"clip_norm": 0.05},
    "below the limit": {"clip_norm": 50},
    "smoothed": {"label_smoothing": 0.2},
    "floats": {"has_floats": True},
    "clipped floats with smoothed labels": {"clip_norm": 0.5, "label_smoothing": 0.1, "has_floats": True},
    **{name: formula(name) for name in FORMULAS},
    "every, clipped": {**formula("every"), "clip_norm": 0.1, "label_smoothing": 0.1},
}
SHAPES: tuple[dict[str, Any], ...] = (
    {"hidden": "16", "batch_size": 32, "l1": 0.001},
    {"hidden": "33,20", "activation": "tanh", "batch_size": 200, "classes": 37},
    {"hidden": "none", "bias": False, "batch_size": 7, "features": 13, "classes": 3},
)


def in_double() -> Build:
    return build("plain", compiled("gcc", *DOUBLE))


def spec_of(name: str, number: int) -> AnyShape:
    return any_shape(**{"optimizer": "sgd:lr=0.5", **SHAPES[number], **OPTIONS[name]})


def beside_reference(spec: AnyShape, own: Build, batches: int) -> tuple[Run, Reference, Epoch, float]:
    """Some batches of training by the kernel and by NumPy, and the sum of NumPy's losses."""
    images = images_of(spec, batches * spec.batch_size)
    run = Run.of(spec, images, own)
    reference = Reference(spec, {name: w.astype(float) for name, w in run.network.take_weights().items()})
    epoch = run.epoch()
    assert run.network.train(images, epoch)
    total = 0.0
    for rows in np.split(epoch.order, batches):
        total += reference.step(images.pixels[rows] / images.scale, images.labels[rows]) * len(rows)
    return run, reference, epoch, total


@pytest.mark.parametrize("number", range(len(SHAPES)))
@pytest.mark.parametrize("name", OPTIONS)
def test_steps_in_double_precision_are_those_of_numpy(name: str, number: int) -> None:
    spec = spec_of(name, number)
    run, reference, epoch, total = beside_reference(spec, in_double(), 4)
    assert epoch.summed_loss == pytest.approx(total, rel=1e-12)
    for layer, weight in run.network.take_weights().items():
        np.testing.assert_allclose(weight, reference.weights[layer], rtol=1e-10, atol=1e-13)
    state = run.network.take_state()
    for i, own in enumerate(reference.states):
        for layer, values in own.items():
            np.testing.assert_allclose(state[f"{i} {layer}"], values, rtol=1e-9, atol=1e-13)


@pytest.mark.parametrize("number", range(len(SHAPES)))
@pytest.mark.parametrize("name", [name for name in OPTIONS if name not in ("my-adam", "lion")])
def test_a_step_is_numpys_up_to_rounding(name: str, number: int) -> None:
    """Without those whose step is as large where the gradient's terms cancel: there rounding decides it."""
    spec = spec_of(name, number)
    run, reference, _, _ = beside_reference(spec, build(), 1)
    initial = initial_weights(spec, build())[0]
    for layer, weight in run.network.take_weights().items():
        change = reference.weights[layer] - initial[layer]
        tolerance = 1e-5 * np.abs(change).max() + 2**-23 * np.abs(initial[layer]).max()
        np.testing.assert_allclose(weight, reference.weights[layer], rtol=0, atol=tolerance)


def test_clipping_limits_the_change_of_all_weights_together() -> None:
    spec = any_shape(optimizer="sgd:lr=1", clip_norm=0.01, batch_size=50)
    before = initial_weights(spec, in_double())[0]
    after = beside_reference(spec, in_double(), 1)[0].network.take_weights()
    assert norm({name: after[name] - before[name] for name in after}) == pytest.approx(0.01, rel=1e-4)


def test_limit_that_no_gradient_reaches_changes_no_bit() -> None:
    for optimizer in ("sgd:lr=0.5", "adam", "rprop"):
        without, with_limit = (any_shape(optimizer=optimizer, clip_norm=limit) for limit in (None, 1e6))
        assert trained(with_limit, build()).fingerprint() == trained(without, build()).fingerprint()


def test_smoothing_changes_the_training_loss_and_not_the_evaluation() -> None:
    images = random_images(300)
    found: list[tuple[float, Evaluation]] = []
    for smoothing in (0, 0.4):
        run = Run.of(any_shape(label_smoothing=smoothing, optimizer="sgd:lr=1e-12"), images, build())
        epoch = run.epoch()
        run.network.train(images, epoch)
        found.append((epoch.loss, run.network.evaluate(images)))
    (plain, evaluated), (smoothed, same) = found
    assert abs(smoothed - plain) > 1e-3
    assert same.loss == pytest.approx(evaluated.loss, rel=1e-9)


@pytest.mark.parametrize("optimizer", ["sgd:lr=0.5", "adam"])
@pytest.mark.parametrize("scale", [16, 255])
def test_floats_train_to_the_bits_of_the_bytes_that_they_are_computed_from(optimizer: str, scale: int) -> None:
    spec = any_shape(optimizer=optimizer, batch_size=150)
    images = random_images(400, scale=scale)
    floats = Images(images.pixels.astype(np.float32) / np.float32(scale), images.labels, 1)
    assert Run.of(spec, floats, build()).train().fingerprint() == Run.of(spec, images, build()).train().fingerprint()


@pytest.mark.slow
@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("number", range(1, 60, 4))
def test_trainings_in_double_precision_equal_the_plain_engines(number: int) -> None:
    """With each optimizer in turn; formulas and torch's, schedules among the options."""
    names = [*OPTIMIZERS_AND_OPTIONS[:: len(FORMULAS)], *FORMULAS]
    name = names[number % len(names)]
    own = formula(name) if name in FORMULAS else {"optimizer": name}
    keys = {**own, **({"lr": 0.0001} if name.startswith("rmsprop") else {}), **options(number, name)}
    spec = job(**keys, l1=0.001 * (number % 2), batch_size=(50, 200)[number % 3 == 0], hidden="20,9", epochs=2)
    record = Record()
    plain = train_plain(spec, in_floats(few(), torch.float64), observer=record)
    data = few_images()
    run = Run.of(spec, Images(data.train_x, data.train_y, data.scale), in_double())
    for metrics in record.epochs["0"]:
        epoch = run.epoch(epoch_rates(spec, metrics.epoch, len(run.rows)))
        assert run.network.train(run.images, epoch)
        assert epoch.loss == pytest.approx(metrics.train_loss, rel=1e-10)
    for layer, weight in run.network.take_weights().items():
        expected = plain.final.weights[layer]
        assert np.abs(weight - expected).max() <= 1e-9 * np.abs(expected).max(), (spec, layer)


@pytest.mark.parametrize("keys", [{"clip_norm": 0.05, "label_smoothing": 0.1}, formula("my-adam"), formula("every")])
def test_resumed_job_has_the_bits_of_an_uninterrupted_one(keys: dict[str, Any]) -> None:
    spec = job(**keys, epochs=4, dropout=0.2)
    record = Interrupt({"0": 2})
    train_by_kernel(spec, data=few_images(), observer=record)
    resumed = train_by_kernel(EngineJob(spec, resume=record.taken["0"]), data=few_images())
    assert_equal(resumed.trained("0"), train_by_kernel(spec, data=few_images()).trained("0"))


@pytest.mark.parametrize("threads", [1, 3])
def test_job_has_the_bits_in_a_gang_that_it_has_alone(threads: int) -> None:
    specs = [job(**{"optimizer": "sgd:lr=0.5", **keys}) for keys in OPTIONS.values() if "has_floats" not in keys]
    together = train_by_kernel(*specs, data=few_images(), threads=threads)
    for i, spec in enumerate(specs):
        assert_equal(together.trained(str(i)), train_by_kernel(spec, data=few_images()).trained("0"))


# --- every operation, on values of any size

VALUES = np.array(
    [0, -0.0, 1, -1, 0.1, 2.5, -7, 1e-30, -1e-30, 3e38, -3e38, 1e-45, np.inf, -np.inf, np.nan, 88.5, -104]
)


def pairs() -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    a, b = np.meshgrid(VALUES.astype(np.float32), VALUES.astype(np.float32))
    return a.ravel(), b.ravel()


class Computes(AnyShape):
    """A spec whose optimizer is a program that no formula was compiled to."""

    own: Any = None

    @property
    def program(self) -> Program:
        found: Program = self.own
        return found


def computed(own: Build, operations: list[Operation], states: list[Any], constants: tuple[float, ...] = ()) -> Any:
    """The third state after one step of a program that begins with these values in the first two."""
    program = Program(constants, 3, 4 + len(constants) + 1, 5, tuple(operations), False, False)
    spec = any_shape(hidden="none", bias=False, features=len(pairs()[0]), classes=1)
    network = Network(Computes(**{**spec.model_dump(), "own": program}), 255, own)
    shape = (1, len(pairs()[0]))
    network.put_weights({"layer0.weight": np.zeros(shape)})
    state: dict[str, Any] = {"steps": np.array(0), "products": np.ones(3)}
    for i, values in enumerate([*states, np.zeros(shape)]):
        state[f"{i} layer0.weight"] = np.asarray(values).reshape(shape)
    network.put_state(state)
    images = Images(np.zeros((1, shape[1]), np.uint8), np.zeros(1, np.int64), 255)
    network.train(images, Epoch(np.arange(1), spec.batch_size, 0.1))
    return network.take_state()["2 layer0.weight"][0]


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("code", [code for code in OPERANDS if code != "pow"])
def test_vector_operations_are_ieees_for_all_values(code: str) -> None:
    """Subnormal results, and the states that are subnormal, are 0."""
    a, b = pairs()
    expected = np.asarray(OPERATIONS[code](*(a, b, a)[: OPERANDS[code]]), np.float64)
    with np.errstate(all="ignore"):
        rounded = expected.astype(np.float32)
    rounded[np.abs(rounded) < np.finfo(np.float32).tiny] = 0
    for each in builds():
        found = computed(each, [Operation(code, "vector", 4, *(2, 3, 2)[: OPERANDS[code]])], [a, b])
        if code in ("exp", "log", "tanh"):
            np.testing.assert_allclose(found, rounded, rtol=3e-7)
        else:
            np.testing.assert_array_equal(found, rounded)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("code", ["add", "sub", "mul", "div", "min", "max", "lt", "ge"])
@pytest.mark.parametrize("position", [0, 1])
def test_scalars_are_operands_at_every_place(code: str, position: int) -> None:
    a, _ = pairs()
    operands, values = [2, -1 - 4], [a, np.float32(0.3)]
    if position == 0:
        operands, values = operands[::-1], values[::-1]
    expected = np.asarray(OPERATIONS[code](*values), np.float32)
    expected[np.abs(expected) < np.finfo(np.float32).tiny] = 0
    for each in builds():
        found = computed(each, [Operation(code, "vector", 4, *operands)], [a, a], (0.3,))
        np.testing.assert_array_equal(found, expected)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("code", OPERANDS)
def test_scalar_operations_are_those_of_torchs_engines_to_double_precision(code: str) -> None:
    values = [0.0, 1.0, -1.0, 0.5, 3.0, -2.0, 1e-9, 700.0, -800.0, 0.999, np.inf, -np.inf, np.nan, 1e300, 2.5, -7.0]
    for x in values:
        for y in values:
            expected = float(SCALAR[code](*(x, y, x)[: OPERANDS[code]]))
            operations = [
                Operation(code, "scalar", 6, *(4, 5, 4)[: OPERANDS[code]]),
                Operation("copy", "vector", 4, -1 - 6),
            ]
            zeros = np.zeros(len(pairs()[0]))
            found = float(computed(in_double(), operations, [zeros, zeros], (x, y))[0])
            if abs(expected) < 2.0**-126:  # subnormal in float32
                expected = 0.0
            assert found == pytest.approx(expected, rel=1e-13, nan_ok=True), (code, x, y)


def test_whole_powers_of_scalars_are_exact() -> None:
    zeros = np.zeros(len(pairs()[0]))
    for x, y in ((10.0, 7.0), (3.0, 20.0), (2.0, 52.0), (2.0, -10.0)):
        operations = [Operation("pow", "scalar", 6, 4, 5), Operation("copy", "vector", 4, -1 - 6)]
        assert computed(in_double(), operations, [zeros, zeros], (x, y))[0] == x**y


@pytest.mark.parametrize(
    "operation",
    [
        Operation("add", "vector", 1, 0, 1),
        Operation("add", "vector", 5, 0, 1),
        Operation("add", "vector", 0, 5, 1),
        Operation("add", "vector", 0, 0, -6),
        Operation("where", "vector", 0, 0, 1, 7),
        Operation("pow", "vector", 0, 0, 1),
        Operation("add", "scalar", 0, 1, 2),
        Operation("add", "scalar", 5, 1, 2),
        Operation("neg", "scalar", 4, 9),
    ],
    ids=str,
)
def test_registers_that_do_not_exist_are_rejected(operation: Operation) -> None:
    with pytest.raises(ValueError, match="must not compute"):
        program_argument(Program((), 2, 5, 5, (operation,), False, False))


# --- many features and classes


@pytest.mark.parametrize(("features", "classes", "hidden"), [(100_000, 3, "2"), (20, 1000, "8")])
def test_wide_data_train_as_numpy_does(features: int, classes: int, hidden: str) -> None:
    spec = any_shape(
        features=features, classes=classes, hidden=hidden, optimizer="sgd:lr=0.5", batch_size=10, has_floats=True
    )
    run, reference, _, _ = beside_reference(spec, in_double(), 2)
    for layer, weight in run.network.take_weights().items():
        np.testing.assert_allclose(weight, reference.weights[layer], rtol=1e-9, atol=1e-12)
    evaluation = run.network.evaluate(run.images)
    assert (evaluation.predicted < classes).all()


def test_gang_trains_on_floats_with_the_bits_of_the_bytes_that_they_are_computed_from() -> None:
    data = few_images()
    train, test = (pixels.astype(np.float32) / np.float32(data.scale) for pixels in (data.train_x, data.test_x))
    floats = dataclasses.replace(data, train_x=train.astype(np.float32), test_x=test.astype(np.float32), scale=1)
    spec = job(optimizer="adam", epochs=2, clip_norm=0.1)
    found = [train_by_kernel(spec, data=each).trained("0") for each in (data, floats)]
    assert found[0].weights_sha256 == found[1].weights_sha256
    assert found[0].best.test_loss == found[1].best.test_loss
