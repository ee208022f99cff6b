"""Registered questions: terms that are fixed at the start, and the jobs that each look needs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import pytest

from mlpq.analysis.params import ComparisonParams
from mlpq.analysis.question_terms import Goal, mismatch, options, terms_for
from mlpq.analysis.questions import QuestionState, question_state
from mlpq.analysis.sequential import cap_for
from mlpq.errors import NotFoundError, SpecError
from mlpq.jobs import Status
from mlpq.question_records import MOST_SEEDS, Question, QuestionTerms, Verdict
from mlpq.records import JobRecord
from tests.support.compared_arms import arm, counts, diverged
from tests.support.result_rows import SUBMITTED, failed_job, job_id, job_record, with_figures

GOAL = Goal(0.5)
CLOSE = ((440, 441), (441, 440), (440, 442))  # counts that alternate, between which nothing is decided soon
NAMES = ("sgd", "adam", "adamw")


def close(*seeds: int) -> list[JobRecord]:
    """An arm for each number of seeds."""
    return [
        job
        for i, (n, pair) in enumerate(zip(seeds, CLOSE, strict=False))
        for job in arm(100 * i, {seed: pair[seed % 2] for seed in range(n)}, optimizer=NAMES[i])
    ]


def tuned(seeds: Sequence[int], others: Sequence[int]) -> list[JobRecord]:
    """Two settings of sgd, of which the first has the better validation accuracy; and one of adam."""
    return [
        *arm(0, dict.fromkeys(seeds, 430), validated=90, optimizer="sgd:lr=0.1"),
        *arm(100, dict.fromkeys(seeds, 440), validated=80, optimizer="sgd:lr=0.2"),
        *arm(200, dict.fromkeys(others, 420), validated=80, optimizer="adam"),
    ]


def asked(records: Sequence[JobRecord], goal: Goal = GOAL, **params: str) -> QuestionTerms:
    return terms_for("lab", records, [], ComparisonParams(**params), goal)


def registered(terms: QuestionTerms, *caps: int) -> Question:
    return Question(1, "lab", terms, SUBMITTED, caps or None)


def state(records: Sequence[JobRecord], terms: QuestionTerms, *caps: int) -> QuestionState:
    return question_state(registered(terms, *caps), records, [], {})


def missing(found: QuestionState) -> list[tuple[str, list[int]]]:
    return [(job.spec.optimizer, list(seeds)) for job, seeds in found.missing]


# Terms


@pytest.mark.parametrize(("seeds", "pilot"), [(2, 7), (7, 7), (8, 8), (20, 20), (21, 20)])
def test_terms_have_all_seeds_and_a_pilot_of_those_that_exist_but_enough_to_decide(seeds: int, pilot: int) -> None:
    terms = asked(close(seeds, 1))
    assert (terms.seeds, terms.pilot, terms.choose_seeds) == (tuple(range(seeds)), pilot, ())
    assert (terms.alpha, terms.pairs, terms.difference) == (0.05, [(0, 1)], 0.5)


def test_seeds_of_a_question_are_in_their_order_whatever_that_of_the_jobs() -> None:
    sides = (arm(100 * i, dict.fromkeys(seeds, 400), optimizer=NAMES[i]) for i, seeds in enumerate(((16, 3), (8, 1))))
    assert asked([job for jobs in sides for job in jobs]).seeds == (1, 3, 8, 16)


def test_pilot_allows_for_the_number_of_pairs() -> None:
    assert asked(close(2, 2, 2)).pilot == 9
    assert asked(close(2, 2, 2), against="sgd").pilot == 8


@pytest.mark.parametrize(
    ("seeds", "others", "choosing", "comparing"),
    [
        (range(10), range(10), (0, 1, 2, 3, 4), (5, 6, 7, 8, 9)),
        (range(3), range(3), (0, 1, 2), ()),
        ((0, 1), (0, 5), (0, 6, 7), (1, 5)),
        ((1,), (5,), (6, 7, 8), (1, 5)),
    ],
)
def test_settings_are_chosen_on_the_first_half_of_the_common_seeds_but_at_least_three(
    seeds: Sequence[int], others: Sequence[int], choosing: tuple[int, ...], comparing: tuple[int, ...]
) -> None:
    terms = asked(tuned(seeds, others), by="optimizer")
    assert (terms.choose_seeds, terms.seeds) == (choosing, comparing)
    assert [(side.label, len(side.settings)) for side in terms.sides] == [("sgd", 2), ("adam", 1)]


def test_seeds_that_choose_may_be_typed() -> None:
    terms = asked(tuned(range(8), range(8)), by="optimizer", choose_seeds="7,2")
    assert (terms.choose_seeds, terms.seeds) == ((2, 7), (0, 1, 3, 4, 5, 6))


PLAIN = close(3, 3)
UNVALIDATED = [*PLAIN, *arm(500, counts(400), optimizer="sgd:lr=0.3")]


@pytest.mark.parametrize(
    ("records", "goal", "params", "message"),
    [
        (PLAIN, Goal(0), {}, "--difference must be a number above 0, not 0"),
        (PLAIN, Goal(math.inf), {}, "--difference must be a number above 0, not inf"),
        (PLAIN, Goal(0.1, 0), {}, "--margin must be a number above 0, not 0"),
        (PLAIN, Goal(0.1, math.inf), {}, "--margin must be a number above 0, not inf"),
        (PLAIN, Goal(0.1, None, 0), {}, "--max-seeds must be from 1 to 1000, not 0"),
        (PLAIN, Goal(0.1, None, 1001), {}, "--max-seeds must be from 1 to 1000, not 1001"),
        (PLAIN, Goal(0.1, None, 5), {}, "--max-seeds 5 can't decide anything: at least 6 are needed"),
        (close(3, 3, 3), Goal(0.1, None, 6), {}, "--max-seeds 6 can't decide anything: at least 7 are needed"),
        (PLAIN[:3], GOAL, {}, "lab has only one arm; a comparison needs two"),
        (UNVALIDATED, GOAL, {"by": "optimizer"}, "sgd has 2 settings, and no validation split to choose one by"),
        (PLAIN, GOAL, {"metric": "validation"}, "has no validation figures: submit with --validation 0.1"),
        (PLAIN, GOAL, {"by": "optimizer", "choose_seeds": "0"}, "no side has several settings to choose from"),
        (PLAIN, GOAL, {"against": "lion"}, "no arm is called 'lion'"),
    ],
)
def test_question_that_makes_no_sense_is_one_line(
    records: Sequence[JobRecord], goal: Goal, params: dict[str, str], message: str
) -> None:
    with pytest.raises(SpecError) as error:
        asked(records, goal, **params)
    assert message in str(error.value)


def test_limits_of_a_goal_are_valid() -> None:
    assert asked(PLAIN, Goal(0.1, 0.1, 6)).max_seeds == 6
    assert asked(PLAIN, Goal(0.1, 0.1, MOST_SEEDS)).max_seeds == MOST_SEEDS
    assert asked(UNVALIDATED, by="optimizer,lr").choose_seeds == ()


@pytest.mark.parametrize(
    ("goal", "choose_seeds", "is_same"),
    [
        (Goal(0.5, 0.2, 30), "", True),
        (Goal(0.5, 0.2, 30), "0..3", True),
        (Goal(0.5, 0.2, 30), "0..2", False),
        (Goal(0.4, 0.2, 30), "", False),
        (Goal(0.5, 0.3, 30), "", False),
        (Goal(0.5, None, 30), "", False),
        (Goal(0.5, 0.2, 31), "", False),
        (Goal(0.5, 0.2), "", False),
    ],
)
def test_question_keeps_its_goal_and_its_choosing_seeds(goal: Goal, choose_seeds: str, is_same: bool) -> None:
    terms = asked(tuned(range(8), range(8)), Goal(0.5, 0.2, 30), by="optimizer")
    found = mismatch(registered(terms), ComparisonParams(by="optimizer", choose_seeds=choose_seeds), goal)
    assert (found == "") is is_same
    if found:
        typed = "--by optimizer --difference 0.5 --margin 0.2 --max-seeds 30 --choose-seeds 0..3"
        assert f"2026-03-02 09:30 UTC with {typed}, and does not change" in found


def test_options_that_ask_a_question_leave_defaults_out() -> None:
    assert options(asked(PLAIN)) == "--difference 0.5"
    assert options(asked(PLAIN, metric="epochs", target="85", against="sgd")) == (
        "--metric epochs --target 85 --against sgd --difference 0.5"
    )


# What the next look needs


def test_question_needs_the_seeds_that_choose_first() -> None:
    records = tuned((0, 1), (0, 5, 6))
    terms = asked(records, by="optimizer", choose_seeds="1..3")
    queued, lost = job_record(records[1].spec, 1), failed_job(records[1].spec, 1)
    found = state(records, terms)
    assert missing(found) == [("sgd", [2, 3]), ("sgd", [2, 3])]
    assert [setting and setting.arm.spec.optimizer for setting in found.settings] == [None, "adam"]
    assert (found.caps, found.race, found.waiting, found.failed) == (None, None, (), ())
    waiting = state([records[0], queued, *records[2:]], terms)
    assert (waiting.waiting, missing(waiting)) == ((queued,), missing(found))
    failed = state([records[0], lost, *records[2:]], terms)
    assert (failed.failed, failed.waiting, missing(failed)) == ((lost,), (), [])


def test_best_setting_is_compared_on_the_other_seeds() -> None:
    records = tuned(range(10), range(10))
    found = state(records, asked(records, by="optimizer", choose_seeds="0..2"))
    assert [setting and setting.arm.spec.lr for setting in found.settings] == [0.1, 0.001]
    (selection,) = found.selections
    assert (selection.label, selection.seeds, len(selection.tried)) == ("sgd", (0, 1, 2), 2)
    assert found.caps == (cap_for(0.5, [2.0] * 7, 0.05),)


@pytest.mark.parametrize(("validated", "lr"), [(63, 0.1), (64, 0.2)])
def test_diverged_run_chooses_with_the_accuracy_of_chance(validated: int, lr: float) -> None:
    """The mean of 90, 90 and 10 % is 63.3 %."""
    records = [
        with_figures(job, validation_correct=validated) if job.spec.lr == 0.2 else job
        for job in tuned(range(9), range(9))
    ]
    wild = [diverged([job])[0] if job.spec.lr == 0.1 and job.spec.seed == 1 else job for job in records]
    found = state(wild, asked(wild, by="optimizer", choose_seeds="0..2"))
    assert [setting and setting.arm.spec.lr for setting in found.settings] == [lr, 0.001]


def test_pilot_is_completed_before_the_caps_are_known() -> None:
    records = close(5, 8)
    terms = asked(records)
    assert terms.pilot == 8
    found = state(records, terms)
    assert (missing(found), found.caps, found.race, found.is_over) == ([("sgd", [5, 6, 7])], None, None, False)
    whole = state(close(8, 8), terms)
    assert (missing(whole), whole.caps) == ([], (cap_for(0.5, [0.2] * 8, 0.05),))
    queued = [*close(8, 7), job_record(close(8, 8)[-1].spec, 107)]
    assert state(queued, terms).caps is None


def test_caps_allow_for_the_number_of_pairs_and_have_a_limit() -> None:
    records = close(9, 9, 9)
    caps = state(records, asked(records)).caps
    assert caps is not None
    assert caps[0] == cap_for(0.5, [0.2] * 9, 0.05 / 3)
    assert caps[0] != cap_for(0.5, [0.2] * 9, 0.05)
    for difference in (0.01, 1e-9):  # needs some thousands, and more than can be computed
        assert state(records, asked(records, Goal(difference))).caps == (MOST_SEEDS,) * 3


@pytest.mark.parametrize(
    ("looked", "cap", "seeds"),
    [
        (1, 99, [1, 2, 3, 4, 5, 6]),
        (7, 99, [7, 8]),
        (8, 99, [8, 9]),
        (11, 99, [11, 12]),
        (12, 99, [12, 13, 14]),
        (20, 99, [20, 21, 22, 23, 24]),
        (8, 9, [8]),
    ],
)
def test_round_adds_a_quarter_to_the_seeds_but_at_least_two_and_ends_at_the_cap(
    looked: int, cap: int, seeds: list[int]
) -> None:
    records = close(looked, looked)
    found = state(records, asked(records), cap)
    assert found.race is not None
    assert (found.race.n, found.is_over) == (looked, False)
    assert missing(found) == [("sgd", seeds), ("adam", seeds)]


def test_round_without_results_waits_for_what_is_submitted_and_submits_the_fewest() -> None:
    records = [job_record(job.spec, i) for i, job in enumerate(close(1, 2))]
    found = state(records, asked(records), 99)
    assert missing(found) == [("sgd", [1, 2, 3, 4, 5, 6]), ("adam", [2, 3, 4, 5, 6])]
    assert list(found.waiting) == records


def test_round_ends_with_the_last_unfinished_job() -> None:
    """An interrupted submission is completed, and no new round begins."""
    whole = close(12, 12)
    queued = job_record(whole[8].spec, 8)
    records = [*whole[:8], queued, *whole[12:20]]
    found = state(records, asked(whole), 99)
    assert found.race is not None
    assert (found.race.n, found.waiting) == (8, (queued,))
    assert missing(found) == [("adam", [8])]


def test_finished_jobs_beyond_a_gap_do_not_end_a_round() -> None:
    records = close(9, 10)
    assert missing(state(records, asked(records), 99)) == [("sgd", [9, 10]), ("adam", [10])]


def test_caps_of_the_pairs_end_their_arms() -> None:
    records = close(8, 8, 8)
    found = state(records, asked(records), 9, 30, 9)
    assert missing(found) == [("sgd", [8, 9]), ("adam", [8]), ("adamw", [8, 9])]
    longer = close(12, 12, 12)
    assert missing(state(longer, asked(longer), 9, 30, 9)) == [("sgd", [12, 13, 14]), ("adamw", [12, 13, 14])]


def test_beaten_arms_need_no_more_seeds_unless_each_is_compared_with_one() -> None:
    records = [*close(12, 12), *arm(500, counts(*[300] * 12), optimizer="adamw")]
    assert missing(state(records, asked(records), 99, 99, 99)) == [("sgd", [12, 13, 14]), ("adam", [12, 13, 14])]
    against = state(records, asked(records, against="adamw"), 99, 99)
    assert against.is_over
    reference = [*records[:24], *arm(500, counts(*[500] * 12), optimizer="adamw")]
    close_to = state(reference, asked(reference, against="sgd"), 99, 99)
    assert missing(close_to) == [("sgd", [12, 13, 14]), ("adam", [12, 13, 14])]


def test_arm_that_is_beaten_needs_no_more_seeds_though_it_is_undecided_against_a_third() -> None:
    figures = [442] * 12, [440] * 12, [436, 446] * 6
    records = [
        job
        for i, (name, own) in enumerate(zip(NAMES, figures, strict=True))
        for job in arm(100 * i, counts(*own), optimizer=name)
    ]
    assert missing(state(records, asked(records), 99, 99, 99)) == [("sgd", [12, 13, 14]), ("adamw", [12, 13, 14])]


def test_figures_after_a_gap_wait() -> None:
    """The order of the seeds is fixed: otherwise the jobs that finish first would choose it."""
    records = close(8, 8)
    found = state([*records[:2], *records[3:]], asked(records), 99)
    assert found.race is not None
    assert found.race.n == 2


def test_a_lower_loss_is_better() -> None:
    records = [
        with_figures(job, test_loss=(0.3 if job.spec.optimizer == "sgd" else 0.5)) for job in close(10, 10)
    ]  # fmt: skip
    found = state(records, asked(records, metric="loss"), 30)
    assert found.race is not None
    assert (found.is_over, found.race.verdict, found.race.best) == (True, Verdict.BETTER, 0)


def test_first_result_of_a_spec_counts() -> None:
    """Otherwise a further run would change a decision."""
    sgd, adam = close(1)[0], arm(100, {0: 441}, optimizer="adam")[0]
    again = with_figures(replace(sgd, id=job_id(900)), test_correct=100)
    terms = asked([sgd, adam])

    def figure(*jobs: JobRecord) -> list[float]:
        found = state([*jobs, adam], terms, 99)
        assert found.race is not None
        return [-d if found.race.lead.a else d for d in found.race.lead.differences]

    assert figure(sgd) == pytest.approx([-0.2])
    assert figure(sgd, again) == pytest.approx([-0.2])
    assert figure(again, sgd) == pytest.approx([20 - 88.2])
    lost = job_record(sgd.spec, 901, status=Status.CANCELLED)
    assert figure(lost, sgd) == pytest.approx([-0.2])
    assert figure(*diverged([sgd]), again) == pytest.approx([10 - 88.2])


def test_deleted_arm_of_a_question_is_an_error() -> None:
    records = close(8, 8)
    with pytest.raises(NotFoundError, match="the jobs of an arm of the question of 2026-03-02 09:30 are no longer in"):
        state(records[:8], asked(records), 99)
