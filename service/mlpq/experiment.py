"""Read an experiment and compare its arms, for `mlpq compare`, `plan`, `report` and the dashboard."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from mlpq.analysis.best_of_k import best_of
from mlpq.analysis.comparison import compare
from mlpq.analysis.crossed import with_image_errors
from mlpq.analysis.experiment_comparison import ExperimentComparison
from mlpq.analysis.params import ComparisonParams
from mlpq.analysis.problems import Problem, ProblemsComparison, compare_problems, split_problems
from mlpq.analysis.questions import metric_of, question_state
from mlpq.errors import NotFoundError, SpecError
from mlpq.question_records import Question, UnreadableQuestion
from mlpq.records import JobRecord, UnreadableJob
from mlpq.store import queries
from mlpq.store.image_queries import bitmaps_of
from mlpq.store.session import Store


def compare_experiment(
    store: Store,
    experiment: str,
    params: ComparisonParams,
    with_curves: bool = False,
    pairs_at_most: int | None = None,
) -> ExperimentComparison:
    """Read an experiment and compare its arms; curves are read where the metric needs them, or `with_curves`.

    Jobs that can't be read are left out. Raises NotFoundError where there is no such experiment, and SpecError for
    params that are not valid, where there are more pairs than `pairs_at_most`, and where no job can be read.
    """
    needs_curves = params.parsed_metric().needs_curves
    params.parsed_by()  # raises before the database is read
    params.parsed_choose_seeds()
    records, unreadable = _jobs(store, experiment)
    registered, odd = _questions(store, experiment)
    ancestors = queries.ancestors(store, records)
    needs_curves = needs_curves or any(metric_of(question.terms).needs_curves for question in registered)
    curves = queries.curves(store, experiment) if with_curves or needs_curves else {}
    states = []
    for question in registered:
        try:
            states.append(question_state(question, records, ancestors, curves))
        except NotFoundError as error:  # the jobs of an arm were deleted
            odd.append(str(error))
    comparison = compare(records, ancestors, curves, params, pairs_at_most)
    comparison = replace(
        comparison,
        is_running=comparison.is_running or any(not state.is_over for state in states),
        unreadable=unreadable,
        odd_questions=tuple(odd),
    )
    comparison = with_image_errors(comparison, partial(bitmaps_of, store))
    return ExperimentComparison(experiment, records, ancestors, curves, comparison, best_of(records, ancestors), states)


def compare_experiments(store: Store, experiments: Sequence[str], params: ComparisonParams) -> ProblemsComparison:
    """Read several experiments, split them into problems, and rank their arms over all of them.

    Raises NotFoundError where there is no such experiment, and SpecError for params that are not valid, and where there
    is only one problem or fewer than two arms have figures in all.
    """
    own = replace(params, against="")  # within a problem each arm is compared with each
    by, needs_curves = own.parsed_by(), own.parsed_metric().needs_curves
    problems = []
    for experiment in dict.fromkeys(experiments):
        records, unreadable = _jobs(store, experiment)
        ancestors = queries.ancestors(store, records)
        curves = queries.curves(store, experiment) if needs_curves else {}
        for name, jobs in split_problems(experiment, records, by):
            comparison = compare(jobs, [*ancestors, *records], curves, own)
            problems.append(Problem(name, replace(comparison, unreadable=unreadable)))
    return compare_problems(problems, params.against)


def _jobs(store: Store, experiment: str) -> tuple[list[JobRecord], tuple[UnreadableJob, ...]]:
    """The jobs of an experiment, and those that can't be read.

    Raises NotFoundError where there is no such experiment, and SpecError where no job can be read.
    """
    queries.check_experiment(store, experiment)
    listed = queries.listed_jobs(store, experiment)
    records = [job for job in listed if isinstance(job, JobRecord)]
    unreadable = tuple(job for job in listed if not isinstance(job, JobRecord))
    if unreadable and not records:
        raise SpecError(f"no job of {experiment} can be read: mlpq jobs {experiment} shows why")
    return records, unreadable


def _questions(store: Store, experiment: str) -> tuple[list[Question], list[str]]:
    """The registered questions of an experiment, and of each that can't be read or evaluated here why."""
    found, odd = [], []
    for question in queries.questions_of(store, experiment):
        if isinstance(question, UnreadableQuestion):
            odd.append(f"it can't be read: {question.reason}")
            continue
        try:
            metric_of(question.terms)
        except SpecError as error:
            odd.append(str(error))
        else:
            found.append(question)
    return found, odd
