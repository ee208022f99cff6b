"""Registered questions as `mlpq compare`, the report and the dashboard show them."""

from __future__ import annotations

from pathlib import Path

import pytest
from starlette.testclient import TestClient

from mlpq.analysis.params import ComparisonParams
from mlpq.analysis.question_terms import Goal
from mlpq.decide import look, register, step
from mlpq.experiment import compare_experiment
from mlpq.report.html_report import report
from mlpq.report.race_tables import question_document, state_line
from mlpq.settings import read_settings
from mlpq.store.session import Store
from tests.support.dashboard_pages import words
from tests.support.job_steps import claim_rest, finish, specs, submit

BY_OPTIMIZER = ComparisonParams(by="optimizer")
GOAL = Goal(difference=0.5, max_seeds=20)


def train(store: Store) -> None:
    for job in claim_rest(store, limit=50):
        finish(store, job, test_correct=(450 if job.spec.optimizer == "adam" else 300) + job.spec.seed % 7)


@pytest.fixture
def filled(store: Store, tmp_path: Path) -> Store:
    """An experiment with a registered question whose first round is not trained yet."""
    submit(store, *specs(optimizer=["sgd", "adam"], seeds="0..2"))
    train(store)
    step(read_settings({"MLPQ_HOME": str(tmp_path)}), store, register(store, "lab", BY_OPTIMIZER, GOAL))
    return store


def test_page_shows_the_race_and_then_its_verdict(filled: Store, client: TestClient) -> None:
    page = words(client.get("/experiments/lab").text)
    assert "Registered question" in page
    assert "lab: registered 20" in page
    assert "3 of at most 20 pairs looked at" in page
    assert "not decided between adam and sgd" in page
    assert "of 20" in page
    train(filled)
    page = words(client.get("/experiments/lab").text)
    assert "adam is better than sgd by" in page
    assert "7 of at most 20 pairs looked at" in page


def test_page_shows_a_question_as_soon_as_it_is_registered(store: Store, client: TestClient) -> None:
    submit(store, *specs(optimizer=["sgd", "adam"], seeds=0))
    train(store)
    assert "Registered question" not in words(client.get("/experiments/lab").text)
    question = register(store, "lab", BY_OPTIMIZER, Goal(0.5))
    page = words(client.get("/experiments/lab").text)
    assert "the first 7 pairs determine how many seeds are needed at most" in page
    assert "waits for its first look" in page
    assert question.caps is None


def test_page_stays_live_between_two_rounds(store: Store, client: TestClient, tmp_path: Path) -> None:
    """No job is unfinished then, and the next round is about to be submitted."""
    submit(store, *specs(optimizer=["sgd", "adam"], seeds="0..2"))
    question = register(store, "lab", BY_OPTIMIZER, GOAL)
    train(store)
    assert " data-live" in client.get("/experiments/lab").text
    assert compare_experiment(store, "lab", BY_OPTIMIZER).comparison.is_running  # so verdicts are by the anytime p
    step(read_settings({"MLPQ_HOME": str(tmp_path)}), store, question)
    train(store)
    assert " data-live" not in client.get("/experiments/lab").text
    assert not compare_experiment(store, "lab", BY_OPTIMIZER).comparison.is_running


def test_report_and_comparison_have_the_question(filled: Store) -> None:
    train(filled)
    compared = compare_experiment(filled, "lab", BY_OPTIMIZER)
    (state,) = compared.questions
    assert state.is_over
    page = report(compared, [], BY_OPTIMIZER)
    assert "Registered question" in page
    assert page.index("Registered question") < page.index("<h2>Verdict</h2>")


@pytest.mark.parametrize("optimizers", [["sgd", "adam"], ["sgd", "adam", "rmsprop"]])
def test_document_has_its_keys_from_the_registration_to_the_decision(
    store: Store, tmp_path: Path, optimizers: list[str]
) -> None:
    submit(store, *specs(optimizer=optimizers, seeds="0..2"))
    question = register(store, "lab", BY_OPTIMIZER, Goal(difference=0.5))
    keys = {"verdict", "best", "n", "cap", "p_anytime", "interval", "registered_at"}
    config = read_settings({"MLPQ_HOME": str(tmp_path)})
    for verdict in ("undecided", "undecided", "better"):
        document = question_document(look(store, question))
        assert keys <= document.keys()
        assert document["verdict"] == verdict
        assert ("pairs" in document) == (len(optimizers) > 2)
        assert all(keys <= pair.keys() for pair in document.get("pairs", ()))
        question = step(config, store, question).state.question
        train(store)


def test_state_names_the_cap_of_the_pairs_that_still_race(store: Store, tmp_path: Path) -> None:
    submit(store, *specs(optimizer=["sgd", "adam", "rmsprop"], seeds="0..9"))
    for job in claim_rest(store, limit=50):
        seed = job.spec.seed
        correct = {"sgd": 300 + 5 * seed, "adam": 440, "rmsprop": 437 if seed % 2 else 443}[job.spec.optimizer]
        finish(store, job, test_correct=correct)
    question = register(store, "lab", BY_OPTIMIZER, Goal(difference=0.5))
    state = step(read_settings({"MLPQ_HOME": str(tmp_path)}), store, question).state
    assert state.caps is not None
    assert state.race is not None
    (open_pair,) = [pair for pair in state.race.pairs if pair.verdict == "undecided"]
    assert open_pair.cap < max(state.caps)
    assert f"of at most {open_pair.cap} pairs looked at" in state_line(state)
