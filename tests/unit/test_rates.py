"""Learning-rate schedules: torch's own, to rounding, in every batch; and the same bits on every CPU."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.optim import lr_scheduler as torchs

from mlpq.spec.job import JobSpec
from mlpq.spec.sweep import Sweep
from mlpq_workers.engine.rates import epoch_rates

LR = 0.3
IMAGES = 1297
N = 26  # batches of an epoch
T = 6 * N


def spec(**keys: Any) -> JobSpec:
    (found,) = Sweep.parse({"dataset": "digits", "lr": LR, "batch_size": 50, "epochs": 6, **keys}).jobs()
    return found


def all_rates(job: JobSpec) -> list[float]:
    return [rate for epoch in range(1, job.epochs + 1) for rate in epoch_rates(job, epoch, IMAGES).tolist()]


def stepped(make: Callable[[torch.optim.Optimizer], Any], steps: int, each: int = 1) -> list[float]:
    """The rates that a scheduler of torch sets, which takes a step after `each` batches."""
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=LR)
    scheduler = make(optimizer)
    rates = []
    for batch in range(1, steps + 1):
        rates.append(optimizer.param_groups[0]["lr"])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch deprecates an argument that SequentialLR itself passes
            optimizer.step()
            if batch % each == 0:
                scheduler.step()
    return rates


SCHEDULERS: dict[str, tuple[Callable[[torch.optim.Optimizer], Any], int]] = {
    "constant": (lambda o: torchs.ConstantLR(o, factor=1), 1),
    "linear": (lambda o: torchs.LinearLR(o, 1, 1e-300, T), 1),
    "linear:start_factor=0.5,end_factor=0.1": (lambda o: torchs.LinearLR(o, 0.5, 0.1, T), 1),
    "cosine": (lambda o: torchs.CosineAnnealingLR(o, T), 1),
    "cosine:eta_min=0.01": (lambda o: torchs.CosineAnnealingLR(o, T, 0.01), 1),
    "step:size=2": (lambda o: torchs.StepLR(o, 2), N),
    "step:size=1,gamma=0.7": (lambda o: torchs.StepLR(o, 1, 0.7), N),
    "exponential:gamma=0.8": (lambda o: torchs.ExponentialLR(o, 0.8), N),
    "one-cycle": (lambda o: torchs.OneCycleLR(o, LR, T, cycle_momentum=False), 1),
    "one-cycle:pct_start=0,div_factor=5": (
        lambda o: torchs.OneCycleLR(o, LR, T, pct_start=0.0, div_factor=5, cycle_momentum=False), 1,
    ),
    "one-cycle:pct_start=0.4,final_div_factor=100,three_phase=true": (
        lambda o: torchs.OneCycleLR(
            o, LR, T, pct_start=0.4, final_div_factor=100, three_phase=True, cycle_momentum=False
        ), 1,
    ),
}  # fmt: skip


@pytest.mark.parametrize("schedule", SCHEDULERS)
def test_rates_are_those_of_torchs_scheduler(schedule: str) -> None:
    make, each = SCHEDULERS[schedule]
    np.testing.assert_allclose(all_rates(spec(schedule=schedule)), stepped(make, T, each), rtol=1e-10, atol=1e-16)


@pytest.mark.parametrize("schedule", ["step:size=2", "exponential:gamma=0.8"])
def test_rates_by_epochs_have_the_bits_of_torchs(schedule: str) -> None:
    make, each = SCHEDULERS[schedule]
    assert all_rates(spec(schedule=schedule)) == stepped(make, T, each)


@pytest.mark.parametrize(("warmup", "length"), [(1, N), (2.5, round(2.5 * N)), (0.1, round(0.1 * T)), (0.5, T // 2)])
def test_warmup_then_schedule_is_torchs_sequence(warmup: float, length: int) -> None:
    def make(optimizer: torch.optim.Optimizer) -> Any:
        rising = torchs.LinearLR(optimizer, 1 / (length + 1), 1, length)
        return torchs.SequentialLR(optimizer, [rising, torchs.CosineAnnealingLR(optimizer, T - length)], [length])

    rates = all_rates(spec(schedule="cosine", warmup=warmup))
    np.testing.assert_allclose(rates, stepped(make, T), rtol=1e-10, atol=1e-16)
    assert rates[0] == LR / (length + 1)


def test_epochs_of_a_schedule_are_counted_from_the_end_of_the_warmup() -> None:
    rates = all_rates(spec(schedule="step:size=2", warmup=1))
    assert rates[N : 3 * N] == [LR] * (2 * N)
    assert rates[3 * N : 5 * N] == [LR * 0.1] * (2 * N)


def test_every_batch_of_a_constant_schedule_has_the_specs_rate() -> None:
    assert all_rates(spec()) == [LR] * T


@pytest.mark.parametrize("size", ["6", "1e18", "1e300"])
def test_step_that_is_longer_than_the_training_keeps_the_rate(size: str) -> None:
    assert all_rates(spec(schedule=f"step:size={size}")) == [LR] * T


RECORDED = {
    "constant": "1a83cb6ebfcfe16c",
    "linear": "10e51a2d4239c632",
    "linear:start_factor=0.5,end_factor=0.1": "bfae58666d3010ed",
    "cosine": "517faf7c5ff08402",
    "cosine:eta_min=0.01": "4780701abae42dc8",
    "step:size=2": "df5a82229e2a5d41",
    "step:size=1,gamma=0.7": "c6b6862d4fb4c396",
    "exponential:gamma=0.8": "2edd8e07fcc146dd",
    "one-cycle": "0172b5abbcc9fe0d",
    "one-cycle:pct_start=0,div_factor=5": "251449f279ac61a9",
    "one-cycle:pct_start=0.4,final_div_factor=100,three_phase=true": "c4fde57167a21aae",
}


@pytest.mark.parametrize("schedule", SCHEDULERS)
def test_bits_are_the_same_everywhere(schedule: str) -> None:
    """Recorded once: a function of the C library, such as cos, would have other bits on another CPU."""
    rates = np.array(all_rates(spec(schedule=schedule, warmup=0 if "one-cycle" in schedule else 0.1)))
    assert hashlib.sha256(rates.tobytes()).hexdigest()[:16] == RECORDED[schedule]


@given(
    schedule=st.sampled_from(list(SCHEDULERS)),
    warmup=st.floats(0, 0.999),
    epochs=st.integers(1, 30),
    batch_size=st.integers(1, 2000),
)
def test_no_rate_is_negative_or_above_the_specs(schedule: str, warmup: float, epochs: int, batch_size: int) -> None:
    own = 0 if schedule.startswith("one-cycle") else warmup
    job = spec(schedule=schedule, warmup=own, epochs=epochs, batch_size=batch_size)
    rates = np.concatenate([epoch_rates(job, epoch, IMAGES) for epoch in (1, epochs)])
    assert np.isfinite(rates).all()
    assert rates.min() >= 0
    assert rates.max() <= LR * (1 + 1e-15)
