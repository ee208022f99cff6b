"""`mlpq decide` over both databases: registration, rounds, resumption, and what a decision must not depend on."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import text

from mlpq.analysis.params import ComparisonParams
from mlpq.analysis.question_terms import Goal
from mlpq.analysis.questions import QuestionState
from mlpq.decide import Step, look, register, step
from mlpq.errors import MlpqError, NotFoundError, SpecError
from mlpq.jobs import Outcome, Status
from mlpq.question_records import Question, Verdict
from mlpq.report.race_tables import question_document
from mlpq.settings import Settings, read_settings
from mlpq.spec.job import JobSpec
from mlpq.store import queries, questions, submission
from mlpq.store.session import Store
from tests.support.job_steps import claim_rest, fail, finish, specs, submit

BY_OPTIMIZER = ComparisonParams(by="optimizer")
GOAL = Goal(difference=0.5)
Correct = Callable[[JobSpec], int | None]  # of 500; None diverges


@pytest.fixture
def config(tmp_path: Path) -> Settings:
    return read_settings({"MLPQ_HOME": str(tmp_path)})


def noise(spec: JobSpec) -> int:
    return random.Random(f"{spec.optimizer} {spec.lr} {spec.seed}").randint(-5, 5)


def by_optimizer(**correct: int) -> Correct:
    return lambda spec: correct[spec.optimizer] + noise(spec)


def train(store: Store, correct: Correct) -> None:
    """Run all queued jobs; validation accuracies equal test accuracies."""
    for job in claim_rest(store, limit=50):
        count = correct(job.spec)
        if count is None:
            fail(store, job, Outcome.DIVERGED)
        else:
            finish(store, job, test_correct=count, validation_correct=count, validation_total=500)


def until_over(config: Settings, store: Store, question: Question, correct: Correct) -> Step:
    """Steps until it is decided; trains in between."""
    for _ in range(100):
        taken = step(config, store, question)
        if taken.state.is_over:
            return taken
        train(store, correct)
    pytest.fail("not decided after 100 rounds")


def seeds_of(store: Store, optimizer: str) -> int:
    return sum(job.spec.optimizer == optimizer for job in queries.job_records(store, "lab"))


def decision(state: QuestionState) -> object:
    return question_document(state) | {"registered_at": None, "pairs": None}, state.race


def test_question_is_registered_before_the_first_look(store: Store, config: Settings) -> None:
    submit(store, *specs(optimizer=["sgd", "adam"], seeds="0..1"))
    train(store, by_optimizer(sgd=300, adam=450))
    question = register(store, "lab", BY_OPTIMIZER, GOAL)
    assert question.caps is None
    assert question.terms.seeds == (0, 1)
    assert [side.label for side in question.terms.sides] == ["sgd", "adam"]
    first = step(config, store, question)
    assert first.state.race is None
    assert first.submitted == 2 * 5
    train(store, by_optimizer(sgd=300, adam=450))
    second = step(config, store, question)
    assert second.state.question.caps is not None
    (stored,) = queries.questions_of(store, "lab")
    assert stored == second.state.question
    assert second.state.race is not None
    assert (second.state.race.verdict, second.state.race.n) == (Verdict.BETTER, 7)


def test_clear_winner_gets_no_more_seeds_than_it_takes(store: Store, config: Settings) -> None:
    submit(store, *specs(optimizer=["sgd", "adam"], seeds=0))
    done = until_over(config, store, register(store, "lab", BY_OPTIMIZER, GOAL), by_optimizer(sgd=300, adam=450))
    document = question_document(done.state)
    assert (document["verdict"], document["best"], document["n"]) == ("better", "adam", 7)
    assert document["registered_at"] == done.state.question.registered_at
    assert document["p_anytime"] <= 0.05
    low, high = document["interval"]
    assert 0 < low < 0.3 < high < 1
    assert seeds_of(store, "sgd") == seeds_of(store, "adam") == 7


def test_equal_arms_end_at_the_cap_or_as_equivalent(store: Store, config: Settings) -> None:
    submit(store, *specs(optimizer=["sgd", "adam"], seeds=0))
    equal = by_optimizer(sgd=450, adam=450)
    capped = until_over(config, store, register(store, "lab", BY_OPTIMIZER, Goal(0.5, max_seeds=12)), equal)
    document = question_document(capped.state)
    assert (document["verdict"], document["best"], document["n"], document["cap"]) == ("undecided", None, 12, 12)
    assert document["looked_at_cap"]
    loss = ComparisonParams(by="optimizer", metric="loss")
    within = until_over(config, store, register(store, "lab", loss, Goal(0.1, margin=0.1, max_seeds=30)), equal)
    assert question_document(within.state)["verdict"] == "equivalent"


def test_beaten_arms_get_no_more_seeds(store: Store, config: Settings) -> None:
    submit(store, *specs(optimizer=["sgd", "adam", "rmsprop", "adagrad"], seeds=0))
    correct = by_optimizer(sgd=300, adam=450, rmsprop=450, adagrad=310)
    done = until_over(config, store, register(store, "lab", BY_OPTIMIZER, Goal(0.5, max_seeds=40)), correct)
    assert done.state.race is not None
    assert done.state.race.beaten >= {0, 3}
    assert seeds_of(store, "sgd") == seeds_of(store, "adagrad") == 10
    assert seeds_of(store, "adam") == seeds_of(store, "rmsprop") > 10
    document = question_document(done.state)
    assert len(document["pairs"]) == 6
    assert {"verdict", "best", "n", "cap", "p_anytime", "interval", "registered_at"} <= document["pairs"][0].keys()


def test_arms_are_decided_against_one(store: Store, config: Settings) -> None:
    submit(store, *specs(optimizer=["sgd", "adam", "rmsprop"], seeds=0))
    against = ComparisonParams(by="optimizer", against="ad")
    correct = by_optimizer(sgd=300, adam=400, rmsprop=480)
    done = until_over(config, store, register(store, "lab", against, GOAL), correct)
    assert done.state.question.terms.against == "adam"
    assert register(store, "lab", against, GOAL).id == done.state.question.id
    assert {(each["a"], each["b"], each["verdict"]) for each in question_document(done.state)["pairs"]} == {
        ("adam", "sgd", "better"),
        ("rmsprop", "adam", "better"),
    }


def test_settings_are_chosen_on_seeds_that_do_not_compare(store: Store, config: Settings) -> None:
    submit(store, *specs(optimizer=["sgd"], lr="0.1,0.5", seeds="0..1", validation=0.1))
    submit(store, *specs(optimizer=["adam"], seeds="0..1", validation=0.1))
    question = register(store, "lab", BY_OPTIMIZER, GOAL)
    assert question.terms.choose_seeds == (0, 1, 2)
    assert question.terms.seeds == ()
    rates = {0.1: 300, 0.5: 400, 0.001: 450}
    done = until_over(config, store, question, lambda spec: rates[spec.lr] + noise(spec))
    chosen = done.state.settings[0]
    assert chosen is not None
    assert chosen.arm.spec.lr == 0.5
    jobs = queries.job_records(store, "lab")
    assert {job.spec.seed for job in jobs if job.spec.lr == 0.1} == {0, 1, 2}
    assert {job.spec.seed for job in jobs if job.spec.lr == 0.5} == set(range(10))
    assert question_document(done.state)["n"] == 7


def test_diverged_runs_count_as_chance(store: Store, config: Settings) -> None:
    submit(store, *specs(optimizer=["sgd", "adam"], seeds=0))
    steady = by_optimizer(sgd=400, adam=420)
    done = until_over(
        config,
        store,
        register(store, "lab", BY_OPTIMIZER, Goal(0.5, max_seeds=12)),
        lambda spec: None if spec.optimizer == "adam" and spec.seed % 2 else steady(spec),
    )
    assert done.state.race is not None
    lead = done.state.race.lead
    assert lead.n == 12
    assert sorted(abs(d) for d in lead.differences)[-6] > 60  # percent: chance is 10
    assert question_document(done.state)["best"] == "sgd"  # though adam is better wherever it does not diverge


def test_same_question_with_another_goal_is_refused(store: Store) -> None:
    submit(store, *specs(optimizer=["sgd", "adam"], seeds=0))
    question = register(store, "lab", BY_OPTIMIZER, GOAL)
    assert register(store, "lab", BY_OPTIMIZER, GOAL) == question
    for other in (Goal(0.2), Goal(0.5, margin=1), Goal(0.5, max_seeds=20)):
        with pytest.raises(SpecError, match=r"with --by optimizer --difference 0\.5, and does not change"):
            register(store, "lab", BY_OPTIMIZER, other)
    other_metric = register(store, "lab", replace(BY_OPTIMIZER, metric="loss"), Goal(0.2))
    assert other_metric.id != question.id
    assert queries.questions_of(store, "lab") == [question, other_metric]


def test_invalid_questions_are_refused_and_nothing_is_registered(store: Store) -> None:
    submit(store, *specs(optimizer="sgd", lr="0.1,0.5", seeds=0))
    submit(store, *specs(optimizer="adam", seeds=0))
    submit(store, *specs(seeds=0), experiment="one")
    for experiment, params, goal, message in (
        ("nothing", BY_OPTIMIZER, GOAL, "no experiment is called"),
        ("one", BY_OPTIMIZER, GOAL, "only one arm"),
        ("lab", BY_OPTIMIZER, GOAL, "no validation split to choose one by"),
        ("lab", ComparisonParams(by="lr", metric="validation"), GOAL, "no validation figures"),
        ("lab", ComparisonParams(by="lr", against="lr=7"), GOAL, "no arm is called 'lr=7'"),
        ("lab", ComparisonParams(by="lr"), Goal(0), "above 0"),
        ("lab", ComparisonParams(by="lr"), Goal(1, margin=float("nan")), "above 0"),
        ("lab", ComparisonParams(by="lr"), Goal(1, max_seeds=5), "at least 7 are needed"),
        ("lab", ComparisonParams(by="lr"), Goal(1, max_seeds=100_000), "from 1 to 1000"),
    ):
        with pytest.raises((SpecError, NotFoundError), match=message):
            register(store, experiment, params, goal)
    assert queries.questions_of(store, "lab") == queries.questions_of(store, "one") == []


def test_arms_submitted_later_are_not_part_of_the_question(store: Store, config: Settings) -> None:
    submit(store, *specs(optimizer=["sgd", "adam"], seeds=0))
    question = register(store, "lab", BY_OPTIMIZER, GOAL)
    submit(store, *specs(optimizer="rmsprop", seeds=0))
    submit(store, *specs(optimizer="sgd", lr=0.7, seeds=0))
    done = until_over(config, store, question, by_optimizer(sgd=300, adam=450, rmsprop=490))
    assert done.state.race is not None
    assert len(done.state.race.pairs) == 1
    assert question_document(done.state)["best"] == "adam"


def test_decision_does_not_depend_on_when_one_looks(store: Store, config: Settings) -> None:
    """Results arrive one by one and in any order; a step may come after each, or be repeated."""
    correct = by_optimizer(sgd=440, adam=444)
    submit(store, *specs(optimizer=["sgd", "adam"], seeds=0))
    submit(store, *specs(optimizer=["sgd", "adam"], seeds=0), experiment="disturbed")
    goal = Goal(0.5, max_seeds=25)
    undisturbed = until_over(config, store, register(store, "lab", BY_OPTIMIZER, goal), correct)
    question = register(store, "disturbed", BY_OPTIMIZER, goal)
    order = random.Random(8)
    for _ in range(400):
        taken = step(config, store, question)
        if taken.state.is_over:
            break
        for job in order.sample(waiting := claim_rest(store), len(waiting)):
            finish(store, job, test_correct=correct(job.spec))
            if order.random() < 0.3:
                step(config, store, question)
    assert taken.state.is_over
    assert taken.state.race == undisturbed.state.race


def test_interrupted_submission_of_a_round_is_completed(
    store: Store, config: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    submit(store, *specs(optimizer=["sgd", "adam"], seeds=0))
    question = register(store, "lab", BY_OPTIMIZER, Goal(0.5, max_seeds=20))
    original, calls = submission.submit_jobs, iter((False, True))

    def interrupted(*arguments: object, **more: object) -> object:
        if next(calls, False):
            raise MlpqError("killed")
        return original(*arguments, **more)  # type: ignore[arg-type]

    monkeypatch.setattr("mlpq.submit.submit_jobs", interrupted)
    with pytest.raises(MlpqError, match="killed"):
        step(config, store, question)
    assert (seeds_of(store, "sgd"), seeds_of(store, "adam")) == (7, 1)
    monkeypatch.undo()
    assert step(config, store, question).submitted == 6
    assert step(config, store, question).submitted == 0
    assert (seeds_of(store, "sgd"), seeds_of(store, "adam")) == (7, 7)


def test_failed_job_stops_the_question_until_it_is_retried(store: Store, config: Settings) -> None:
    submit(store, *specs(optimizer=["sgd", "adam"], seeds=0))
    correct = by_optimizer(sgd=300, adam=450)
    question = register(store, "lab", BY_OPTIMIZER, Goal(0.5, max_seeds=20))
    step(config, store, question)
    (broken,) = [job for job in queries.job_records(store, "lab") if (job.spec.optimizer, job.spec.seed) == ("sgd", 3)]
    submission.cancel(store, [broken.id])
    train(store, correct)
    taken = step(config, store, question)
    assert [job.id for job in taken.state.failed] == [broken.id]
    assert (taken.submitted, taken.state.waiting) == (0, ())
    submission.retry_jobs(store, [broken.id])
    assert [job.status for job in look(store, question).waiting] == [Status.QUEUED]
    assert until_over(config, store, question, correct).state.race is not None


def test_further_run_of_a_spec_changes_no_decision(store: Store, config: Settings) -> None:
    submit(store, *specs(optimizer=["sgd", "adam"], seeds=0))
    question = register(store, "lab", BY_OPTIMIZER, Goal(0.5, max_seeds=20))
    done = until_over(config, store, question, by_optimizer(sgd=300, adam=450))
    submit(store, *specs(optimizer=["sgd", "adam"], seeds="0..6"), again=True)
    train(store, by_optimizer(sgd=450, adam=300))
    assert look(store, question).race == done.state.race


def test_two_registrations_at_once_agree(store: Store) -> None:
    submit(store, *specs(optimizer=["sgd", "adam"], seeds=0))
    question = register(store, "lab", BY_OPTIMIZER, GOAL)
    assert questions.register(store, "lab", replace(question.terms, difference=9)) == question
    capped = questions.register_caps(store, question, [30])
    assert questions.register_caps(store, question, [50]) == capped
    with store.read() as connection:
        assert connection.execute(text("SELECT count(*) FROM question_caps")).scalar() == 1


def test_jobs_that_were_deleted_are_named(store: Store) -> None:
    submit(store, *specs(optimizer=["sgd", "adam"], seeds=0))
    question = register(store, "lab", BY_OPTIMIZER, GOAL)
    with store.write() as connection:
        connection.execute(text("DELETE FROM jobs"))
    with pytest.raises(NotFoundError, match="no longer in lab"):
        look(store, question)
