"""The options of learning-rate schedules: their defaults, their ranges, and the batches of a warmup."""

from __future__ import annotations

import pytest

from mlpq.errors import SpecError
from mlpq.spec.schedules import complete_schedule, warmup_batches


@pytest.mark.parametrize(
    ("name", "given", "settings"),
    [
        ("constant", {}, {}),
        ("linear", {}, {"start_factor": 1.0, "end_factor": 0.0}),
        ("cosine", {}, {"eta_min": 0.0}),
        ("step", {"size": "3"}, {"size": 3.0, "gamma": 0.1}),
        ("exponential", {"gamma": 1}, {"gamma": 1.0}),
        ("one-cycle", {}, {"pct_start": 0.3, "div_factor": 25.0, "final_div_factor": 1e4, "three_phase": False}),
        (
            "one-cycle",
            {"pct_start": 0, "div_factor": 1, "final_div_factor": 1, "three_phase": "True"},
            {"pct_start": 0.0, "div_factor": 1.0, "final_div_factor": 1.0, "three_phase": True},
        ),
        ("linear", {"start_factor": 1e-9, "end_factor": 1}, {"start_factor": 1e-9, "end_factor": 1.0}),
        ("step", {"size": 1, "gamma": 0.5}, {"size": 1.0, "gamma": 0.5}),
    ],
)
def test_options_that_are_not_given_have_torchs_defaults(
    name: str, given: dict[str, object], settings: dict[str, object]
) -> None:
    assert complete_schedule(name, given) == settings


@pytest.mark.parametrize(
    ("name", "given", "message"),
    [
        ("cosin", {}, "unknown schedule 'cosin'"),
        ("constant", {"gamma": 1}, "the schedule constant has no options: leave 'gamma' out"),
        ("cosine", {"gamma": 1}, "the schedule cosine has no option 'gamma'"),
        ("step", {}, "the schedule step needs size, as step:size=10"),
        ("exponential", {}, "needs gamma, as exponential:gamma=0.95"),
        ("linear", {"start_factor": 0}, "linear:start_factor must be a number above 0 and at most 1, not '0'"),
        ("linear", {"start_factor": 1.01}, "not '1.01'"),
        ("linear", {"end_factor": -0.01}, "linear:end_factor must be a number from 0 to 1, not '-0.01'"),
        ("linear", {"end_factor": 1.01}, "not '1.01'"),
        ("cosine", {"eta_min": -1e-9}, "cosine:eta_min must be a number of 0 or more"),
        ("cosine", {"eta_min": True}, "not 'True'"),
        ("cosine", {"eta_min": "x"}, "not 'x'"),
        ("step", {"size": 0}, "step:size must be a number of epochs, a whole one of 1 or more, not '0'"),
        ("step", {"size": 1.5}, "not '1.5'"),
        ("one-cycle", {"div_factor": 0.99}, "one-cycle:div_factor must be a number of 1 or more, not '0.99'"),
        ("one-cycle", {"three_phase": 1}, "one-cycle:three_phase must be true or false, not '1'"),
    ],
)
def test_wrong_options_are_errors(name: str, given: dict[str, object], message: str) -> None:
    with pytest.raises(SpecError) as caught:
        complete_schedule(name, given)
    assert message in str(caught.value)


def test_negative_zero_is_zero() -> None:
    assert str(complete_schedule("cosine", {"eta_min": "-0.0"})["eta_min"]) == "0.0"


@pytest.mark.parametrize(("warmup", "batches"), [(0, 0), (0.1, 4), (0.99, 40), (1, 10), (1.5, 15), (4, 40), (5, 40)])
def test_warmup_is_a_fraction_of_all_batches_below_1_and_epochs_from_1(warmup: float, batches: int) -> None:
    assert warmup_batches(warmup, batches=10, epochs=4) == batches
