"""The gang engine computes what the plain engine does: one step up to rounding in float32, many steps in float64."""

from __future__ import annotations

import dataclasses
import functools
from pathlib import Path

import numpy as np
import pytest
import torch

from mlpq.records import EpochMetrics
from mlpq.spec.datasets import DATASETS
from mlpq.spec.optimizers import OPTIMIZERS
from mlpq_workers.engine.data import Data, epoch_order
from mlpq_workers.engine.tensors import to_tensors
from mlpq_workers.engine.training_state import EngineJob
from mlpq_workers.trainer.data import load
from tests.support.float_pixels import in_floats
from tests.support.gang_training import OPTIMIZERS_AND_OPTIONS, OPTIONS, Record, few, job, train_plain, train_together
from tests.support.one_step import SHAPES, assert_one_step, each_shape, exact_gradient, with_penalty_and_dropout
from tests.support.optimizer_options import OPTIONS_OF_MATRICES

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("one_thread")]


@functools.cache
def digits(dtype: torch.dtype | None = None) -> Data:
    data = Data.of(load(DATASETS["digits"], Path("nowhere")))
    return in_floats(data, dtype) if dtype else data


@pytest.mark.parametrize("name", sorted(OPTIMIZERS))
def test_every_option_of_every_optimizer_is_tested_at_another_value(name: str) -> None:
    defaults = OPTIMIZERS[name].defaults
    options = {**OPTIONS, **OPTIONS_OF_MATRICES}[name]
    tried = [job(optimizer=f"{name}:{option}").optimizer_settings for option in options]
    assert {option for option in defaults if any(t[option] != defaults[option] for t in tried)} == set(defaults)


@each_shape(range(len(SHAPES)))
def test_weights_after_one_step_equal_the_plain_engines_up_to_rounding(number: int) -> None:
    shape = SHAPES[number]
    order = epoch_order(1297, torch.Generator().manual_seed(42))  # a dropout mask's rows are a batch's
    x, y = digits(torch.float64).train_x[order], digits().train_y[order]
    specs = [
        job(
            **shape,
            **with_penalty_and_dropout(number + i, shape["hidden"] != "none"),
            optimizer=optimizer,
            # Their steps are in proportion to the gradient: with a small rate the weights' rounding would hide them.
            **({"lr": 1} if optimizer.split(":")[0] in ("sgd", "asgd", "radam") else {}),
            epochs=1,
            batch_size=2000,
        )
        for i, optimizer in enumerate(OPTIMIZERS_AND_OPTIONS)
    ]
    gang = train_together(*specs, data=digits())
    gradients = {dropout: exact_gradient(spec, x, y) for spec in specs for dropout in [spec.dropout]}
    for i, spec in enumerate(specs):
        assert_one_step(spec, to_tensors(gang.trained(str(i)).final.weights), gradients[spec.dropout])
        assert_one_step(spec, to_tensors(train_plain(spec, digits()).final.weights), gradients[spec.dropout])


def close(mine: EpochMetrics, theirs: EpochMetrics) -> bool:
    """Whether counts are equal, and losses equal up to rounding in float64."""
    pairs = [(getattr(mine, field.name), getattr(theirs, field.name)) for field in dataclasses.fields(EpochMetrics)]
    return all(
        a == pytest.approx(b, rel=1e-10) if isinstance(b, float) else a == b
        for (a, b), field in zip(pairs, dataclasses.fields(EpochMetrics), strict=True)
        if field.name != "seconds"
    )


@each_shape((1, 3, 4, 12))  # every depth, and every activation, with bias or without
def test_results_in_double_precision_equal_the_plain_engines(number: int) -> None:
    shape, data = SHAPES[number], in_floats(few(), torch.float64)
    jobs = []
    for i, optimizer in enumerate(OPTIMIZERS_AND_OPTIONS):
        keys = {
            **shape,
            **with_penalty_and_dropout(number + i, shape["hidden"] != "none"),
            "batch_size": 100,
            "validation": 0.1 * (number // 4 % 2),
        }
        parent = job(**keys, epochs=1, seeds=i % 3) if i % 5 == 0 else None
        start = train_plain(parent, data).final if parent else None
        own = {"optimizer": optimizer, "epochs": 3 + i % 2, "seeds": i % 3}
        if keys["validation"]:
            own["patience"] = [None, 1, 2][i % 3]
        if optimizer.startswith("rmsprop"):
            # At torch's 0.01 its first steps are so large that a rounding error grows tenfold with each step.
            own["lr"] = 0.001
        jobs.append(EngineJob(job(parent, **keys, **own), start))
    gang = train_together(*jobs, data=data)
    for i, each in enumerate(jobs):
        record = Record()
        plain, mine = train_plain(each.spec, data, each.start, record), gang.trained(str(i))
        assert len(gang.epochs[str(i)]) == len(record.epochs["0"])
        assert all(map(close, gang.epochs[str(i)], record.epochs["0"])), each.spec
        assert (mine.best.epoch, mine.epochs_run) == (plain.best.epoch, plain.epochs_run)
        assert np.array_equal(mine.final.shuffle_state, plain.final.shuffle_state)
        assert np.array_equal(mine.final.dropout_state, plain.final.dropout_state)
        for name, weight in plain.final.weights.items():
            assert mine.final.weights[name].dtype == weight.dtype == np.float64
            assert np.abs(mine.final.weights[name] - weight).max() <= 1e-10 * np.abs(weight).max(), (each.spec, name)
