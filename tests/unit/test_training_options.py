"""Schedules, warmup, gradient clipping and label smoothing in the engines: torch's, and the same in all of them."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mlpq_workers.engine import gang as gang_engine
from mlpq_workers.engine.training_state import Diverged, EngineJob
from mlpq_workers.trainer.checkpoints import newest_checkpoint, save_checkpoint
from tests.support.float_pixels import in_floats
from tests.support.gang_training import (
    OPTIMIZERS_AND_OPTIONS,
    Interrupt,
    Record,
    assert_same,
    digits,
    few,
    job,
    train_plain,
    train_together,
    without_seconds,
)
from tests.support.training_options import CLIP_NORM, options

pytestmark = pytest.mark.usefixtures("one_thread")

SPECS = [
    job(optimizer=optimizer, epochs=4, lr=lr, l1=l1, **options(i, optimizer))
    for i, (optimizer, lr, l1) in enumerate(
        itertools.product(["sgd", "sgd:momentum=0.9", "adam", "asgd", "adagrad", "rprop"], [0.01, 0.1], [0, 1e-3, 0])
    )
]


def test_job_among_others_has_the_bits_that_it_has_alone() -> None:
    gang = train_together(*SPECS, data=few())
    for i, spec in enumerate(SPECS):
        alone = train_together(spec, data=few())
        assert_same(gang.trained(str(i)), alone.trained("0"))
        assert list(map(without_seconds, gang.epochs[str(i)])) == list(map(without_seconds, alone.epochs["0"]))


@pytest.mark.parametrize("batch_size", [1, 3, 171, 2000])
def test_job_among_others_has_the_bits_that_it_has_alone_with_any_batch(batch_size: int) -> None:
    specs = [spec.model_copy(update={"batch_size": batch_size, "epochs": 1, "warmup": 0.0}) for spec in SPECS[::3]]
    gang = train_together(*specs, data=few())
    for i, spec in enumerate(specs):
        assert_same(gang.trained(str(i)), train_together(spec, data=few()).trained("0"))


def test_neighbors_with_huge_gradients_keep_their_bits() -> None:
    """The squares of their gradients overflow, and the sums of their log-probabilities."""
    for optimizer in ("sgd:lr=1e25", "sgd:lr=1e30,momentum=0.9", "adam:lr=1e18", "rmsprop:lr=1e25"):
        wild = job(optimizer=optimizer, activation="relu", epochs=3)
        calm = [job(activation="relu", **options(number)) for number in (1, 7)]
        gang, alone = train_together(wild, *calm, data=few()), train_together(wild, data=few())
        mine, own = gang.endings["0"], alone.endings["0"]
        assert type(mine) is type(own)
        assert list(map(without_seconds, gang.epochs.get("0", []))) == list(
            map(without_seconds, alone.epochs.get("0", []))
        )
        if isinstance(mine, Diverged):
            assert str(mine) == str(own)


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", OPTIMIZERS_AND_OPTIONS)
def test_stacked_job_equals_the_plain_engines_in_double_precision(optimizer: str) -> None:
    data = in_floats(digits(), torch.float64)
    numbers = range(OPTIMIZERS_AND_OPTIONS.index(optimizer), 60, 7)
    lr = {"lr": 0.001} if optimizer.startswith("rmsprop") else {}
    specs = [job(optimizer=optimizer, epochs=3, **lr, **options(number, optimizer)) for number in numbers]
    gang = train_together(*specs, data=data)
    for i, spec in enumerate(specs):
        record = Record()
        plain, mine = train_plain(spec, data, observer=record), gang.trained(str(i))
        for mine_epoch, epoch in zip(gang.epochs[str(i)], record.epochs["0"], strict=True):
            assert mine_epoch.train_loss == pytest.approx(epoch.train_loss, rel=1e-10)
        for name, weight in plain.final.weights.items():
            np.testing.assert_allclose(mine.final.weights[name], weight, rtol=0, atol=1e-10 * np.abs(weight).max())


@pytest.mark.parametrize(
    "keys",
    [{"schedule": "cosine"}, {"warmup": 1}, {"clip_norm": CLIP_NORM}, {"label_smoothing": 0.1}],
    ids=str,
)
def test_every_option_changes_the_result_of_every_engine(keys: dict[str, Any]) -> None:
    without, with_it = job(optimizer="sgd:lr=0.5"), job(optimizer="sgd:lr=0.5", **keys)
    for train in (train_plain, lambda spec, data: train_together(spec, data=data).trained("0")):
        assert train(without, few()).weights_sha256 != train(with_it, few()).weights_sha256


def test_training_loss_has_the_smoothing_and_test_loss_has_not() -> None:
    keys: dict[str, Any] = {"optimizer": "adam:lr=0.02", "epochs": 20}
    for train in (train_plain, lambda spec, data: train_together(spec, data=data).trained("0")):
        smooth, sharp = (train(job(**keys, label_smoothing=share), digits()).best for share in (0.5, 0))
        # With half of each label spread over ten classes, no network can have a lower loss than the labels' entropy.
        assert smooth.train_loss > 1.7 > 0.2 > sharp.train_loss
        assert smooth.test_loss < 1.2


@pytest.mark.parametrize("stack", [1, gang_engine.STACK_PARAMETERS])
def test_resumed_jobs_keep_the_rates_of_uninterrupted_ones(
    stack: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gang_engine, "STACK_PARAMETERS", stack)
    specs = [job(optimizer=o, epochs=5, **options(i, o)) for i, o in enumerate(["adam", "sgd", "sgd:momentum=0.9"] * 4)]
    interrupt = Interrupt({str(i): 1 + i % 4 for i in range(len(specs))})
    train_together(*specs, data=few(), observer=interrupt)
    resumed = []
    for i, spec in enumerate(specs):
        folder = tmp_path / str(i)
        save_checkpoint(interrupt.taken[str(i)], {"job": str(i)}, folder, 1)
        resumed.append(EngineJob(spec, resume=newest_checkpoint({"job": str(i)}, folder, pytest.fail)))
    gang = train_together(*resumed, data=few())
    for i, spec in enumerate(specs):
        assert_same(gang.trained(str(i)), train_together(spec, data=few()).trained("0"))


def test_job_that_continues_from_another_begins_its_own_schedule() -> None:
    parent = job(epochs=2, schedule="cosine")
    child = job(parent, optimizer="adam", epochs=3, schedule="linear", warmup=1)
    start = train_plain(parent, few()).final
    plain = train_plain(child, few(), start)
    mine = train_together(EngineJob(child, start), data=few()).trained("0")
    for name, weight in plain.final.weights.items():
        np.testing.assert_allclose(mine.final.weights[name], weight, rtol=0, atol=1e-5)


def test_early_stopping_leaves_the_rates_of_the_epochs_before() -> None:
    """The schedule is that of all epochs, however many are trained."""
    keys: dict[str, Any] = {"optimizer": "adam:lr=0.05", "batch_size": 64, "epochs": 30, "validation": 0.3}
    patient, whole = job(**keys, schedule="cosine", patience=1), job(**keys, schedule="cosine")
    gang, alone = train_together(patient, data=digits()), train_together(whole, data=digits())
    assert (ran := len(gang.epochs["0"])) < 30
    assert list(map(without_seconds, gang.epochs["0"])) == list(map(without_seconds, alone.epochs["0"][:ran]))
