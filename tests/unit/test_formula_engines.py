"""Formulas in every engine: torch's optimizers to rounding, equal figures, and bits that no neighbor changes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from mlpq.spec.job import JobSpec
from mlpq_workers.engine import plain
from mlpq_workers.engine.training_state import EngineJob, Stopped, Trained
from tests.support.gang_training import Interrupt, assert_same, few, job, train_plain, train_together
from tests.support.kernel_training import few_images, train_by_kernel
from tests.support.own_optimizers import EVERY_OPERATION, LIKE_TORCH, formula_keys

pytestmark = pytest.mark.usefixtures("one_thread")

ENGINES: dict[str, Callable[[JobSpec], Trained]] = {
    "plain": lambda spec: train_plain(spec, few()),
    "gang": lambda spec: train_together(spec, data=few()).trained("0"),
    "kernel": lambda spec: train_by_kernel(spec, data=few_images()).trained("0"),
}
LION = "u = sign(0.9*m + 0.1*g); m = 0.99*m + 0.01*g; p = p - lr*(u + wd*p)"
NORMS = "p = p - lr*g*min(1, c/norm(g))*norm(p)/(1 + norm(p))"


def every(constants: str, **keys: object) -> JobSpec:
    return job(**formula_keys("every", EVERY_OPERATION, constants), **keys)


def largest_difference(mine: Trained, theirs: Trained) -> float:
    pairs = [(array, theirs.final.weights[name]) for name, array in mine.final.weights.items()]
    return max(float(np.abs(a - b).max()) for a, b in pairs)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", LIKE_TORCH)
def test_torchs_optimizers_as_formulas_agree_with_the_built_in_ones(name: str, engine: str) -> None:
    statements, constants, built_in = LIKE_TORCH[name]
    mine = ENGINES[engine](job(**formula_keys(name, statements, constants), l1=1e-4))
    theirs = ENGINES[engine](job(optimizer=built_in, l1=1e-4))
    assert largest_difference(mine, theirs) < 1e-6
    assert mine.best.test_loss == pytest.approx(theirs.best.test_loss, rel=1e-6)


@pytest.mark.parametrize(
    "keys",
    [
        {},
        {"hidden": "16,8", "bias": False, "activation": "relu", "l1": 1e-4},
        {"schedule": "cosine", "warmup": 0.2, "clip_norm": 0.1, "label_smoothing": 0.1},
    ],
    ids=str,
)
def test_engines_agree_up_to_rounding(keys: dict[str, object]) -> None:
    spec = every("lr=0.1,c=0.5", **keys)
    plain, gang, kernel = (engine(spec) for engine in ENGINES.values())
    assert largest_difference(gang, plain) < 1e-5
    assert largest_difference(kernel, plain) < 1e-5


@pytest.mark.parametrize("train", [train_together, train_by_kernel], ids=["gang", "kernel"])
def test_jobs_of_formulas_have_the_bits_that_they_have_alone(train: Callable[..., object]) -> None:
    data = few() if train is train_together else few_images()
    specs = [
        every("lr=0.1,c=1"), every("lr=0.01,c=0.1", seeds=7), every("lr=0.1,c=1", epochs=4, l1=1e-4),
        every("lr=0.1,c=1", schedule="cosine"), every("lr=1,c=0.3", epochs=3, clip_norm=0.5, dropout=0.2),
        *(job(**formula_keys("norms", NORMS, f"lr={lr},c={c}"), epochs=e) for lr, c, e in ((0.1, 1, 1), (1, 0.2, 3))),
        *(job(**formula_keys("lion", LION, f"lr=0.001,wd={wd}"), seeds=seed) for wd in (0, 0.1) for seed in (1, 2)),
        job(**formula_keys("power", "p = p - lr*sign(g)*abs(g)**k", "lr=0.1,k=2")),
        job(**formula_keys("power", "p = p - lr*sign(g)*abs(g)**k", "lr=0.1,k=1.5")),
        job(optimizer="adam"), job(optimizer="sgd", epochs=3),
    ]  # fmt: skip
    together = train(*specs, data=data)
    for i, spec in enumerate(specs):
        assert_same(together.trained(str(i)), train(spec, data=data).trained("0"))  # type: ignore[attr-defined]


@pytest.mark.parametrize("train", [train_together, train_by_kernel], ids=["gang", "kernel"])
def test_resumed_jobs_of_formulas_have_the_bits_of_uninterrupted_ones(train: Callable[..., object]) -> None:
    data = few() if train is train_together else few_images()
    specs = [every("lr=0.1,c=1", epochs=4), every("lr=0.01,c=0.3", epochs=4, seeds=7, schedule="cosine")]
    record = Interrupt({"0": 2, "1": 2})
    train(*specs, data=data, observer=record)
    assert all(isinstance(record.endings[name], Stopped) for name in "01")
    resumed = train(*(EngineJob(spec, resume=record.taken[str(i)]) for i, spec in enumerate(specs)), data=data)
    whole = train(*specs, data=data)
    for name in "01":
        assert_same(resumed.trained(name), whole.trained(name))  # type: ignore[attr-defined]


def test_plain_engine_resumes_the_states_of_a_formula() -> None:
    spec, record = every("lr=0.1,c=1", epochs=4), Interrupt({"0": 2})
    with pytest.raises(Stopped):
        train_plain(spec, few(), observer=record)
    resumed = plain.train(EngineJob(spec, resume=record.taken["0"]), few(), "cpu")
    assert_same(resumed, train_plain(spec, few()))


def test_a_formula_that_diverges_ends_like_any_job() -> None:
    spec = job(**formula_keys("bad", "p = p*(1 + lr)**3 + 0*g", "lr=1e9"))
    ending = train_together(spec, data=few()).endings["0"]
    assert str(ending).startswith("the loss became ")
    assert str(train_by_kernel(spec, data=few_images()).endings["0"]).startswith("the loss became ")
