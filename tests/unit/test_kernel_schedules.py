"""Schedules, clipping and smoothing in the kernel engine: the plain engine's figures, and a job's own bits."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mlpq_workers.engine.training_state import EngineJob
from mlpq_workers.trainer.checkpoints import newest_checkpoint, save_checkpoint
from tests.support.gang_training import Interrupt, Record, digits, job, train_plain
from tests.support.kernel_training import assert_equal, few_images, images, train_by_kernel
from tests.support.optimizer_options import OPTIONS
from tests.support.training_options import options

SPECS = [job(optimizer=optimizer, epochs=4, **options(i, optimizer)) for i, optimizer in enumerate([*OPTIONS] * 3)]
# At torch's 0.01 the first steps of rmsprop are so large that rounding errors grow.
RATES = {"rmsprop": {"lr": 0.001}, "asgd": {"lr": 0.5}, "sgd": {"lr": 0.5}}


@pytest.mark.slow
@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("optimizer", OPTIONS)
def test_epochs_are_those_of_the_plain_engine_up_to_rounding(optimizer: str) -> None:
    numbers = range([*OPTIONS].index(optimizer), 60, 11)
    specs = [
        job(optimizer=optimizer, epochs=3, **RATES.get(optimizer, {}), **options(number, optimizer))
        for number in numbers
    ]
    found = train_by_kernel(*specs, data=images())
    for i, spec in enumerate(specs):
        record = Record()
        train_plain(spec, digits(), observer=record)
        for mine, theirs in zip(found.epochs[str(i)], record.epochs["0"], strict=True):
            assert mine.train_loss == pytest.approx(theirs.train_loss, rel=1e-4), spec
            assert mine.test_loss == pytest.approx(theirs.test_loss, rel=1e-4), spec


@pytest.mark.usefixtures("one_thread")
def test_averaged_descent_takes_the_rate_of_the_step_before_as_in_torch() -> None:
    """A tenth of the rate from the second epoch on, whose first step is still large."""
    spec = job(optimizer="asgd:lambd=0.1,alpha=0.9", lr=0.5, batch_size=650, epochs=4, schedule="step:size=1")
    mine, plain = train_by_kernel(spec, data=images()).trained("0"), train_plain(spec, digits())
    for name, weight in plain.final.weights.items():
        np.testing.assert_allclose(mine.final.weights[name], weight, rtol=0, atol=1e-6)


def test_job_has_the_same_bits_in_any_gang() -> None:
    together = train_by_kernel(*SPECS, data=few_images(), threads=2)
    for i, spec in enumerate(SPECS):
        assert_equal(together.trained(str(i)), train_by_kernel(spec, data=few_images()).trained("0"))


def test_resumed_job_keeps_the_rates_of_an_uninterrupted_one(tmp_path: Path) -> None:
    interrupt = Interrupt({str(i): 1 + i % 3 for i in range(len(SPECS))})
    train_by_kernel(*SPECS, data=few_images(), observer=interrupt)
    for i, spec in enumerate(SPECS):
        folder, owner = tmp_path / str(i), {"job": str(i)}
        save_checkpoint(interrupt.taken[str(i)], owner, folder, 1)
        resume = newest_checkpoint(owner, folder, pytest.fail)
        resumed = train_by_kernel(EngineJob(spec, resume=resume), data=few_images()).trained("0")
        assert_equal(resumed, train_by_kernel(spec, data=few_images()).trained("0"))
