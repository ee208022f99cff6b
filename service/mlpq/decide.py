"""The use case of deciding: register a question before its first look, submit seeds in rounds, look after each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from mlpq.analysis.params import ComparisonParams
from mlpq.analysis.question_terms import Goal, mismatch, target_of, terms_for
from mlpq.analysis.questions import QuestionState, metric_of, question_state
from mlpq.errors import SpecError
from mlpq.jobs import VERIFY
from mlpq.question_records import Question
from mlpq.settings import Settings
from mlpq.store import queries, questions
from mlpq.store.session import Store
from mlpq.submit import submit_seeds
from mlpq.waiting import patiently


@dataclass(frozen=True, slots=True)
class Step:
    """What a step of `decide` found and did; `submitted` is the number of new jobs, `warning` is empty without one."""

    state: QuestionState
    submitted: int
    warning: str


def register(store: Store, experiment: str, params: ComparisonParams, goal: Goal) -> Question:
    """Register the question, or find it where it is registered already; looks at no result.

    Raises NotFoundError where there is no such experiment, and SpecError where its arms can't be compared, or where the
    experiment has a question with the same arms and metric but another goal.
    """
    goal.check()
    queries.check_experiment(store, experiment)
    if experiment == VERIFY:
        raise SpecError(f"the experiment {VERIFY} is reserved for mlpq verify: decide in the one that it verified")
    registered = queries.questions_of(store, experiment)
    found = next((each for each in registered if isinstance(each, Question) and _asks(each, params)), None)
    if found is None:
        records = queries.job_records(store, experiment)
        terms = terms_for(experiment, records, queries.ancestors(store, records), params, goal)
        found = questions.register(store, experiment, terms)
    if problem := mismatch(found, params, goal):
        raise SpecError(problem)
    return found


def step(config: Settings, store: Store, question: Question) -> Step:
    """Look at the results as they are and submit what the question needs next: what it needs already is not repeated.

    However often this is called or interrupted, the decision is the same. Caps are registered before the first look.
    """
    state = look(store, question)
    if question.caps is None and state.caps is not None:
        question = questions.register_caps(store, question, state.caps)
        state = look(store, question)
    if not state.missing:
        return Step(state, 0, "")
    submitted, warning = submit_seeds(config, store, state.missing)
    return Step(look(store, question), sum(job.is_new for job in submitted), warning)


def until_decided(config: Settings, store: Store, question: Question, wait: Callable[[Step], None]) -> Step:
    """Step after step; `wait` returns when the jobs that a step waits for are finished.

    The last step is over, or some of its jobs failed.
    """
    while True:
        taken = patiently(partial(step, config, store, question))
        question = taken.state.question
        if taken.state.is_over or not taken.state.waiting:
            return taken
        wait(taken)


def look(store: Store, question: Question) -> QuestionState:
    """The state of a question; writes nothing."""
    records = queries.job_records(store, question.experiment)
    curves = queries.curves(store, question.experiment) if metric_of(question.terms).needs_curves else {}
    return question_state(question, records, queries.ancestors(store, records), curves)


def _asks(question: Question, params: ComparisonParams) -> bool:
    """Whether the question is about the same fields and metric, and against the same arm, which may be abbreviated."""
    terms = question.terms
    by = ",".join(params.parsed_by())
    if (terms.by, terms.metric, terms.target) != (by, params.metric, target_of(params)):
        return False
    return terms.against.startswith(params.against) if params.against else not terms.against
