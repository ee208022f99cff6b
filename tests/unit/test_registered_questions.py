"""Registered questions from records alone: their terms, the seeds that they still need, and what they decide."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from mlpq.analysis.params import ComparisonParams
from mlpq.analysis.question_terms import Goal, mismatch, options, target_of, terms_for
from mlpq.analysis.questions import QuestionState, fewest_pairs_to_decide, question_state
from mlpq.errors import NotFoundError, SpecError
from mlpq.question_records import Question, QuestionSide, QuestionTerms, Verdict
from mlpq.records import JobRecord
from tests.support.compared_arms import arm, counts, diverged
from tests.support.result_rows import curve, failed_job, job_record, specs

BY_OPTIMIZER = ComparisonParams(by="optimizer")
REGISTERED = datetime(2026, 3, 2, 9, 30, tzinfo=UTC)
HALF_A_POINT = Goal(difference=0.5)


def asked(
    records: Sequence[JobRecord], params: ComparisonParams = BY_OPTIMIZER, goal: Goal = HALF_A_POINT
) -> QuestionTerms:
    return terms_for("lab", records, [], params, goal)


def question(terms: QuestionTerms, caps: tuple[int, ...] | None = None) -> Question:
    return Question(1, "lab", terms, REGISTERED, caps)


def state(records: Sequence[JobRecord], terms: QuestionTerms, caps: tuple[int, ...] | None = None) -> QuestionState:
    return question_state(question(terms, caps), records, [], {})


def needed(found: QuestionState) -> list[tuple[str, list[int]]]:
    return [(job.spec.optimizer, list(seeds)) for job, seeds in found.missing]


def two_arms(sgd: Sequence[int | None], adam: Sequence[int | None], **keys: Any) -> list[JobRecord]:
    return [
        *arm(100, dict(enumerate(sgd)), optimizer="sgd", **keys),
        *arm(200, dict(enumerate(adam)), optimizer="adam", **keys),
    ]


def tuned(seeds: int = 6) -> list[JobRecord]:
    """Two settings of sgd, of which the second is better by validation, and one of adam."""
    return [
        *arm(100, counts(*[400] * seeds), validated=80, optimizer="sgd", lr=0.1),
        *arm(200, counts(*[450] * seeds), validated=90, optimizer="sgd", lr=0.2),
        *arm(300, counts(*[420] * seeds), validated=85, optimizer="adam"),
    ]


def test_terms_have_the_arms_the_seeds_and_a_pilot_that_can_decide() -> None:
    terms = asked(two_arms([400] * 3, [410] * 2))
    assert [side.label for side in terms.sides] == ["sgd", "adam"]
    assert (terms.by, terms.metric, terms.target, terms.against) == ("optimizer", "accuracy", "", "")
    assert (terms.seeds, terms.choose_seeds, terms.pilot, terms.alpha) == ((0, 1, 2), (), 7, 0.05)
    assert terms.pairs == [(0, 1)]


@pytest.mark.parametrize(("seeds", "pilot"), [(1, 7), (7, 7), (8, 8), (20, 20), (21, 20)])
def test_pilot_has_the_seeds_that_exist_from_seven_to_twenty(seeds: int, pilot: int) -> None:
    assert asked(two_arms([None] * seeds, [None] * seeds)).pilot == pilot


def test_seeds_go_on_after_the_largest_one() -> None:
    terms = asked(two_arms([400] * 3, [410] * 3))
    assert [terms.seed(index) for index in range(5)] == [0, 1, 2, 3, 4]
    chosen = asked(tuned(6))
    assert (chosen.choose_seeds, chosen.seeds) == ((0, 1, 2), (3, 4, 5))
    assert [chosen.seed(index) for index in (0, 2, 3, 4)] == [3, 5, 6, 7]
    few = asked(tuned(1))
    assert (few.choose_seeds, few.seeds, few.seed(0)) == ((0, 1, 2), (), 3)


def test_reference_is_in_every_pair() -> None:
    records = [*two_arms([400], [410]), *arm(300, counts(420), optimizer="adagrad")]
    assert asked(records).pairs == [(0, 1), (0, 2), (1, 2)]
    terms = asked(records, replace(BY_OPTIMIZER, against="adam"))
    assert (terms.against, terms.pairs) == ("adam", [(1, 0), (1, 2)])
    assert fewest_pairs_to_decide(terms) == 8  # at 0.05 / 2
    assert fewest_pairs_to_decide(asked(two_arms([400], [410]))) == 7


@pytest.mark.parametrize(
    ("goal", "message"),
    [
        (Goal(0.0), "--difference must be a number above 0, not 0"),
        (Goal(float("inf")), "--difference must be"),
        (Goal(0.5, margin=-1.0), "--margin must be a number above 0, not -1"),
        (Goal(0.5, max_seeds=0), "--max-seeds must be from 1 to 1000, not 0"),
        (Goal(0.5, max_seeds=1001), "not 1001"),
        (Goal(0.5, max_seeds=5), "--max-seeds 5 can't decide anything: at least 6 are needed"),
    ],
)
def test_goal_that_no_question_can_have_is_an_error(goal: Goal, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        asked(two_arms([400], [410]), goal=goal)


def test_limits_of_a_goal_are_allowed() -> None:
    assert asked(two_arms([400], [410]), goal=Goal(0.5, max_seeds=6)).max_seeds == 6
    Goal(0.5, max_seeds=1000).check()
    Goal(0.5, max_seeds=1).check()


def test_question_needs_two_arms_and_splits_to_choose_by() -> None:
    with pytest.raises(SpecError, match="only one arm"):
        asked(arm(1, counts(400), optimizer="sgd"))
    two = [*arm(1, counts(400), optimizer="sgd", lr=0.1), *arm(9, counts(400), optimizer="sgd", lr=0.2)]
    with pytest.raises(SpecError, match="sgd has 2 settings, and no validation split"):
        asked([*two, *arm(20, counts(400), optimizer="adam")])
    with pytest.raises(SpecError, match="sgd has no validation figures"):
        asked(two_arms([400], [410]), ComparisonParams(by="optimizer", metric="validation"))
    with pytest.raises(SpecError, match="leave --choose-seeds out"):
        asked(two_arms([400], [410]), ComparisonParams(by="optimizer", choose_seeds="0..1"))
    assert asked(tuned(), ComparisonParams(by="optimizer", choose_seeds="1,4")).choose_seeds == (1, 4)


def test_options_ask_the_same_question_again() -> None:
    terms = asked(tuned(), goal=Goal(0.5, margin=0.25, max_seeds=50))
    assert options(terms) == "--by optimizer --difference 0.5 --margin 0.25 --max-seeds 50 --choose-seeds 0..2"
    to_target = ComparisonParams(by="optimizer", metric="epochs", target="90,0", against="adam")
    same = asked(two_arms([400], [410]), to_target)
    assert target_of(to_target) == same.target == "90"
    assert options(same) == "--by optimizer --metric epochs --target 90 --against adam --difference 0.5"


def test_other_options_are_a_mismatch() -> None:
    asks = question(asked(tuned(), goal=Goal(0.5, margin=0.25)))
    assert mismatch(asks, BY_OPTIMIZER, Goal(0.5, margin=0.25)) == ""
    assert mismatch(asks, replace(BY_OPTIMIZER, choose_seeds="0..2"), Goal(0.5, margin=0.25)) == ""
    for params, goal in (
        (BY_OPTIMIZER, Goal(0.4, margin=0.25)),
        (BY_OPTIMIZER, Goal(0.5)),
        (BY_OPTIMIZER, Goal(0.5, 0.25, 60)),
        (replace(BY_OPTIMIZER, choose_seeds="0..3"), Goal(0.5, margin=0.25)),
    ):
        assert "registered since 2026-03-02 09:30 UTC" in mismatch(asks, params, goal)


def test_pilot_asks_for_the_seeds_that_are_absent_and_then_determines_the_cap() -> None:
    short = two_arms([400] * 3, [410] * 5)
    terms = asked(short)
    assert needed(state(short, terms)) == [("sgd", [3, 4, 5, 6]), ("adam", [5, 6])]
    whole = two_arms([400, 405] * 4, [402] * 8)
    found = state(whole, replace(terms, pilot=7))
    assert (found.missing, found.waiting, found.failed) == ((), (), ())
    assert found.caps == (12,)  # differences of 0.4 and 0.6 points: 10 pairs detect 0.5, and bets cost 15 %
    assert found.race is None
    assert not found.is_over
    assert state(whole, replace(terms, pilot=7, difference=1e-9)).caps == (1000,)


def test_race_decides_from_the_scores_in_order_of_the_seeds() -> None:
    records = two_arms([450] * 7, [400] * 7)
    over = state(records, asked(records), caps=(30,))
    assert over.is_over
    assert over.race is not None
    assert (over.race.verdict, over.race.best, over.race.n) == (Verdict.BETTER, 0, 7)
    slower = ComparisonParams(by="optimizer", metric="loss")
    equal = question_state(question(asked(records, slower), (30,)), records, [], {})
    assert equal.race is not None
    assert equal.race.verdict is Verdict.UNDECIDED


def test_fewer_epochs_to_the_target_are_better() -> None:
    records = two_arms([450] * 7, [450] * 7)
    curves = {job.id: curve([95] if job.spec.optimizer == "adam" else [80, 95]) for job in records}
    terms = asked(records, ComparisonParams(by="optimizer", metric="epochs", target="90"))
    found = question_state(question(terms, (30,)), records, [], curves)
    assert found.race is not None
    assert (found.race.best, found.metric.name) == (1, "epochs")


def test_each_round_adds_a_quarter_and_at_least_two_seeds_up_to_the_cap() -> None:
    def ends(n: int, cap: int) -> list[tuple[str, list[int]]]:
        noise = [400 + (seed * 7) % 5 for seed in range(n)]
        records = two_arms(noise, [*reversed(noise)])
        return needed(state(records, asked(records), caps=(cap,)))

    assert ends(3, 40) == [("sgd", [3, 4, 5, 6]), ("adam", [3, 4, 5, 6])]
    assert ends(7, 40) == [("sgd", [7, 8]), ("adam", [7, 8])]
    assert ends(16, 40) == [("sgd", [16, 17, 18, 19]), ("adam", [16, 17, 18, 19])]
    assert ends(16, 17) == [("sgd", [16]), ("adam", [16])]
    assert ends(16, 16) == []


def test_unfinished_round_is_completed_before_another_begins() -> None:
    noise = [400 + (seed * 7) % 5 for seed in range(12)]
    records = two_arms([*noise, None], [*reversed(noise)])
    found = state(records, asked(records), caps=(40,))
    assert [job.spec.seed for job in found.waiting] == [12]
    assert needed(found) == [("adam", [12])]


def test_failed_job_stops_the_submission_and_diverged_ones_count_as_guessing() -> None:
    (spec,) = specs(optimizer="sgd", seeds=3)
    records = [*two_arms([400] * 3, [410] * 7), failed_job(spec, 150)]
    found = state(records, asked(records))
    assert [job.id for job in found.failed] == [records[-1].id]
    assert found.missing == ()
    lost = [*diverged(arm(100, counts(*[400] * 7), optimizer="sgd")), *arm(200, counts(*[52] * 7), optimizer="adam")]
    race = state(lost, asked(lost), caps=(30,)).race
    assert race is not None
    assert race.best == 1
    assert race.lead.mean == pytest.approx(0.4)  # 10.4 %, and 10 % for ten classes


def test_setting_is_chosen_on_its_own_seeds_by_validation() -> None:
    records = tuned(10)
    terms = asked(records, replace(BY_OPTIMIZER, choose_seeds="0..2"))
    found = state(records, terms, caps=(30,))
    sgd, adam = found.settings
    assert sgd is not None
    assert adam is not None
    assert (sgd.arm.spec.lr, adam.arm.spec.optimizer) == (0.2, "adam")
    (selection,) = found.selections
    assert selection.choice is not None
    assert (selection.label, selection.choice.best, len(selection.tried)) == ("sgd", 1, 2)
    assert selection.choice.margin == pytest.approx(0.1)
    assert found.race is not None
    assert found.race.best == 0
    waiting = [*tuned(2), *arm(400, {2: None}, validated=None, optimizer="sgd", lr=0.1, validation=0.1)]
    early = state(waiting, terms)
    assert needed(early) == [("sgd", [2])]
    assert [job.spec.lr for job in early.waiting] == [0.1]
    assert early.settings[0] is None
    assert early.settings[1] is not None


def test_validation_of_a_diverged_run_is_that_of_guessing() -> None:
    worse = arm(100, counts(*[400] * 6), validated=5, optimizer="sgd", lr=0.1)
    lost = diverged(arm(200, counts(*[450] * 6), validated=90, optimizer="sgd", lr=0.2))
    records = [*worse, *lost, *arm(300, counts(*[420] * 6), validated=85, optimizer="adam")]
    found = state(records, asked(records), caps=(30,))
    (selection,) = found.selections
    assert selection.choice is not None
    assert selection.choice.best == 1  # 10 % are more than 5 %


def test_first_result_of_a_repeated_spec_counts() -> None:
    records = two_arms([450] * 7, [400] * 7)
    again = [replace(job, id=f"9{job.id[1:]}") for job in arm(100, counts(*[100] * 7), optimizer="sgd")]
    twice = state([*records, *again], asked(records), caps=(30,))
    assert twice.race == state(records, asked(records), caps=(30,)).race
    (spec,) = specs(optimizer="sgd", seeds=0)
    late = [failed_job(spec, 50), *records]
    found = state(late, asked(records), caps=(30,))
    assert found.race is not None
    assert found.race.best == 0


def test_deleted_arm_is_an_error_that_names_the_question() -> None:
    records = two_arms([450] * 7, [400] * 7)
    with pytest.raises(NotFoundError, match=r"the question of 2026-03-02 09:30 are no longer in lab"):
        state(records[:7], asked(records), caps=(30,))


def test_terms_are_checked() -> None:
    terms = asked(two_arms([450], [400]))
    (sgd, adam) = terms.sides
    for sides in ((sgd,), (sgd, QuestionSide("sgd", ("ab",))), (sgd, adam, sgd)):
        with pytest.raises(ValueError, match="two or more arms"):
            replace(terms, sides=sides)
    with pytest.raises(ValueError, match="no arm of the question is called 'adagrad'"):
        replace(terms, against="adagrad")
    with pytest.raises(ValueError, match="2 caps for 1 pairs"):
        question(terms, (10, 20))


def test_job_without_a_figure_ends_the_scores() -> None:
    records = two_arms([450] * 7, [400] * 7)
    terms = asked(records, ComparisonParams(by="optimizer", metric="epochs", target="90"))
    found = state(records, terms, caps=(30,))  # no curves
    assert found.race is not None
    assert found.race.n == 0
    assert job_record(records[0].spec, 1).result is None
