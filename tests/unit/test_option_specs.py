"""Training options in specs: schedules, warmup, clipping and smoothing, and one line for what is wrong with them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from mlpq.errors import SpecError
from mlpq.spec.job import JobSpec, parse_spec
from mlpq.spec.sweep import Sweep, inherited


def one(**keys: object) -> JobSpec:
    (spec,) = Sweep.parse(keys).jobs()
    return spec


def test_training_options_are_in_the_canonical_json_only_where_they_are_used() -> None:
    spec = one(schedule="step:size=3", warmup="1", clip_norm=2, label_smoothing=".1")
    own, plain = json.loads(spec.canonical()), json.loads(one().canonical())
    assert {name: value for name, value in own.items() if name not in plain} == {
        "schedule": "step", "schedule_settings": {"gamma": 0.1, "size": 3.0}, "warmup": 1.0, "clip_norm": 2.0,
        "label_smoothing": 0.1,
    }  # fmt: skip
    assert one(schedule="constant", warmup=0, clip_norm="none", label_smoothing=0).hash == one().hash


def test_job_that_continues_takes_clipping_and_smoothing_but_no_schedule() -> None:
    parent = one(schedule="cosine", warmup=1, clip_norm=2, label_smoothing=0.1)
    (child,) = Sweep.parse({**inherited(parent), "optimizer": "adam"}).jobs(parent)
    assert (child.schedule, child.warmup, child.clip_norm, child.label_smoothing) == ("constant", 0, 2, 0.1)


INVALID_OPTIONS = [
    ({"schedule": "cosin"}, "unknown schedule 'cosin' (did you mean 'cosine'?)"),
    ({"schedule": "step"}, "the schedule step needs size, as step:size=10"),
    ({"schedule": "exponential"}, "the schedule exponential needs gamma, as exponential:gamma=0.95"),
    ({"schedule": "step:size=1.5"}, "step:size must be a number of epochs, a whole one of 1 or more, not '1.5'"),
    ({"schedule": "step:size=2,gama=1"}, "the schedule step has no option 'gama' (did you mean 'gamma'?)"),
    ({"schedule": "constant:gamma=1"}, "the schedule constant has no options: leave 'gamma' out"),
    ({"schedule": "cosine,linear"}, "one schedule per option: --schedule cosine --schedule linear"),
    ({"schedule": {"size": 2}}, "a schedule given as a mapping needs the key 'name', as {name: step, size: 10}"),
    ({"schedule": []}, "schedule is empty: give at least one, as cosine or step:size=10"),
    ({"schedule": "step:2"}, "'2' in 'step:2' is not a setting: write option=value, as step:size=10"),
    ({"schedule": "cosine:eta_min=0.1"}, "cosine:eta_min must be at most the learning rate, 0.001"),
    ({"schedule": "one-cycle:three_phase=1"}, "one-cycle:three_phase must be true or false, not '1'"),
    (
        {"schedule": "one-cycle:three_phase=true,pct_start=0.7"},
        "one-cycle:pct_start must be at most 0.5 with three_phase=true: the way back is as long",
    ),
    (
        {"schedule": "one-cycle", "warmup": 1},
        "the schedule one-cycle has its own warmup: leave --warmup out, and set its share as one-cycle:pct_start=0.3",
    ),
    (
        {"warmup": 10},
        "warmup 10 takes all of 10 epochs: give fewer, or a fraction of the training as --warmup 0.1",
    ),
    ({"warmup": -1}, "warmup must be a number of 0 or more, not '-1'"),
    ({"clip_norm": 0}, "clip_norm must be a number above 0 or none, not '0'"),
    ({"label_smoothing": 1}, "label_smoothing must be a number from 0 to below 1, not '1'"),
    (
        {"optimizer": "rprop", "warmup": 1},
        "rprop reads the learning rate in its first step only: leave --schedule and --warmup out",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("keys", "message"), INVALID_OPTIONS, ids=[message for _, message in INVALID_OPTIONS])
def test_invalid_training_option_is_one_line(keys: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError) as error:
        one(**keys)
    assert str(error.value) == message


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"schedule": "cosine"}, "schedule_settings must name every option of the schedule cosine"),
        ({"schedule_settings": {"gamma": 1}}, "the schedule constant has no options: leave 'gamma' out"),
        ({"schedule": "step", "schedule_settings": {}}, "the schedule step needs size, as step:size=10"),
        ({"schedule": "cosine", "schedule_settings": 3}, "schedule_settings: Input should be a valid dictionary"),
    ],
    ids=str,
)
def test_stored_schedule_names_every_option(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError) as error:
        parse_spec({**json.loads(one().canonical()), **fields})
    assert str(error.value) == message
