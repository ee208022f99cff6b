"""Plans: how many seeds detect a difference, with Holm's correction, and which seeds an experiment still needs."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlpq.analysis.comparison import MissingFigure
from mlpq.analysis.inference import pairs_needed, sd_interval
from mlpq.analysis.planning import Power, needs, seeds_for, seeds_missing
from mlpq.errors import SpecError
from mlpq.jobs import Outcome, Status
from tests.support.compared_arms import arm, compared, counts
from tests.support.result_rows import failed_job, job_record

SGD = arm(0, counts(440, 441, 439, 442, 440, 438), optimizer="sgd")
ADAM = arm(50, counts(442, 444, 441, 443, 442, 440), optimizer="adam")
LOST = MissingFigure("failed", is_lost=True)
ADAMW = arm(100, counts(443, 440, 445, 442, 441, 447), optimizer="adamw")


def test_the_level_of_each_pair_is_alpha_divided_by_the_number_of_tests() -> None:
    """One pair of the three has no common seed: it is not tested."""
    far = arm(150, {30: 400, 31: 402}, optimizer="adagrad")
    found = needs(compared(SGD, ADAM, ADAMW), 0.1, 0.8)
    assert len(found) == 3
    for need in found:
        assert need.needed == pairs_needed(0.1, need.sd, 0.8, 0.05 / 3)
        assert need.needed > pairs_needed(0.1, need.sd, 0.8, 0.05)  # type: ignore[operator]
    (alone,) = needs(compared(SGD, ADAM, far), 0.1, 0.8)
    assert alone.needed == pairs_needed(0.1, alone.sd, 0.8, 0.05)


def test_the_range_is_that_of_the_standard_deviations_interval() -> None:
    (need,) = needs(compared(SGD, ADAM), 0.1, 0.9)
    spread = sd_interval(need.sd, 6)
    assert (need.sd_range.low, need.sd_range.high) == (spread.low, spread.high)
    assert need.range == tuple(pairs_needed(0.1, sd, 0.9, 0.05) for sd in (spread.low, spread.high))
    assert need.needed == pairs_needed(0.1, need.sd, 0.9, 0.05)


def test_pairs_with_fewer_than_two_common_seeds_have_no_plan() -> None:
    one = arm(150, {5: 400, 30: 400}, optimizer="adagrad")
    (need,) = needs(compared(SGD, ADAM, one), 0.1, 0.8)
    assert {need.pair.a.spec.optimizer, need.pair.b.spec.optimizer} == {"adam", "sgd"}
    for sides in ((SGD, one), (SGD, arm(200, {40: 400}, optimizer="adagrad"))):
        with pytest.raises(SpecError, match="no two arms have two seeds in common, so their spread is unknown"):
            needs(compared(*sides), 0.1, 0.8)


def test_difference_that_no_number_of_seeds_detects_is_refused() -> None:
    with pytest.raises(SpecError, match="no number of seeds detects a difference of 1e-06 points: plan for a larger"):
        needs(compared(SGD, ADAM), 1e-6, 0.8)


@pytest.mark.parametrize(
    ("difference", "power", "message"),
    [
        (0, 0.8, "--difference must be a number above 0, not 0"),
        (-1, 0.8, "--difference must be a number above 0, not -1"),
        (math.inf, 0.8, "--difference must be a number above 0, not inf"),
        (math.nan, 0.8, "--difference must be a number above 0, not nan"),
        (0.1, 0, "--power is a probability between 0 and 1, not 0: 0.8 is usual"),
        (0.1, 1, "--power is a probability between 0 and 1, not 1: 0.8 is usual"),
    ],
)
def test_invalid_goal_of_a_plan_is_one_line(difference: float, power: float, message: str) -> None:
    with pytest.raises(SpecError) as error:
        Power(difference, power).check()
    assert str(error.value) == message
    Power(0.001, 0.999).check()


@pytest.mark.parametrize(
    ("end", "replaced"),
    [(Outcome.FAILED, True), (Outcome.LOST, True), (None, True), (Outcome.DIVERGED, False)],
    ids=str,
)
def test_seeds_of_jobs_that_are_lost_are_replaced_and_those_that_diverged_are_kept(
    end: Outcome | None, replaced: bool
) -> None:
    """None: the job was cancelled."""
    lost = failed_job(SGD[2].spec, 2, end) if end else job_record(SGD[2].spec, 2, status=Status.CANCELLED)
    found = compared([*SGD[:2], lost, *SGD[3:]], ADAM)
    assert seeds_for(found, 6) == ([0, 1, 3, 4, 5, 6] if replaced else [0, 1, 2, 3, 4, 5])
    assert [(job.spec.optimizer, seeds) for job, seeds in seeds_missing(found, seeds_for(found, 6))] == (
        [("adam", [6]), ("sgd", [6])] if replaced else []
    )


def test_seeds_of_unfinished_jobs_are_kept() -> None:
    assert seeds_for(compared([*SGD[:5], job_record(SGD[5].spec, 5)], ADAM), 6) == [0, 1, 2, 3, 4, 5]


def test_new_seeds_follow_all_that_were_submitted_or_choose() -> None:
    sides = arm(0, {0: 400, 7: 400}, optimizer="sgd"), arm(50, {0: 400, 3: 400}, optimizer="adam")
    assert seeds_for(compared(*sides), 5) == [0, 3, 7, 8, 9]
    assert seeds_for(compared(*sides), 2) == [0, 3]
    chosen = [
        *arm(0, counts(*[430] * 8), validated=90, optimizer="sgd:lr=0.1"),
        *arm(50, counts(*[430] * 8), validated=80, optimizer="sgd:lr=0.2"),
        *arm(100, counts(*[420] * 8), validated=80, optimizer="adam"),
    ]
    found = compared(chosen, by="optimizer", choose_seeds="4..7")
    assert seeds_for(found, 6) == [0, 1, 2, 3, 8, 9]
    assert seeds_missing(found, [2, 9]) == [(side.arm.first, [9]) for side in found.sides]
    assert seeds_missing(found, [0, 1]) == []


PLANNED = compared(SGD, ADAM)


@settings(max_examples=30)
@given(st.sets(st.integers(0, 12), min_size=1), st.sets(st.integers(0, 12), min_size=1), st.data())
def test_a_plan_has_n_seeds_none_of_them_lost(one: set[int], other: set[int], data: st.DataObject) -> None:
    lost, n = data.draw(st.sets(st.sampled_from(sorted(one)))), data.draw(st.integers(1, 20))
    sides = tuple(
        replace(side, values=dict.fromkeys(own - lost, 88.0), missing=dict.fromkeys(own & lost, LOST))
        for side, own in zip(PLANNED.sides, (one, other - lost), strict=True)
    )
    found = seeds_for(replace(PLANNED, sides=sides), n)
    assert found == sorted({*found})
    assert len(found) == n
    kept = sorted((one | other) - lost)[:n]
    assert found[: len(kept)] == kept
    assert all(seed > max(one | (other - lost)) for seed in found[len(kept) :])
