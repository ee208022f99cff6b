"""What a question asks, from an experiment and the options of `mlpq decide`: fixed before anything is looked at.

Import it late: numpy and scipy take half a second to load.
"""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from mlpq import formatting
from mlpq.analysis.arms import Arm, arms
from mlpq.analysis.choice import LEAST_SEEDS, choosing_seeds
from mlpq.analysis.grouping import find_label, group_settings
from mlpq.analysis.inference import fewest_pairs
from mlpq.analysis.params import ComparisonParams
from mlpq.analysis.questions import fewest_pairs_to_decide
from mlpq.analysis.sequential import ALPHA
from mlpq.errors import SpecError
from mlpq.question_records import MOST_SEEDS, Question, QuestionSide, QuestionTerms
from mlpq.records import JobRecord

MOST_FOR_PILOT = 20  # pairs: their spread is known to within a third, and more would delay the registration


@dataclass(frozen=True, slots=True)
class Goal:
    """What is to be decided: the smallest difference that matters, the margin of equivalence, and the cap, if given."""

    difference: float
    margin: float | None = None
    max_seeds: int | None = None

    def check(self) -> None:
        """Raise SpecError where a value is not valid for any question."""
        for name, value in (("difference", self.difference), ("margin", self.margin)):
            if value is not None and not 0 < value < math.inf:
                raise SpecError(f"--{name} must be a number above 0, not {value:g}")
        if self.max_seeds is not None and not 1 <= self.max_seeds <= MOST_SEEDS:
            raise SpecError(f"--max-seeds must be from 1 to {MOST_SEEDS}, not {self.max_seeds}")


def terms_for(
    experiment: str,
    records: Sequence[JobRecord],
    ancestors: Sequence[JobRecord],
    params: ComparisonParams,
    goal: Goal,
) -> QuestionTerms:
    """The terms of a question about the arms that the experiment has now; looks at no result.

    Raises SpecError where they can't be compared.
    """
    goal.check()
    groups = group_settings(arms(records, ancestors), params.parsed_by())
    if len(groups) < 2:
        raise SpecError(f"{experiment} has only one arm; a comparison needs two: submit another optimizer or setting")
    _check_validation(groups, params)
    submitted = [{job.spec.seed for job in arm.records} for settings in groups.values() for arm in settings]
    choosing = _choosing(groups, submitted, params)
    terms = QuestionTerms(
        by=params.by and ",".join(params.parsed_by()),
        metric=params.metric,
        target=target_of(params),
        against=find_label(params.against, list(groups)) if params.against else "",
        difference=goal.difference,
        margin=goal.margin,
        alpha=ALPHA,
        max_seeds=goal.max_seeds,
        choose_seeds=choosing,
        seeds=tuple(sorted(set.union(*submitted) - set(choosing))),
        pilot=0,
        sides=tuple(
            QuestionSide(label, tuple(arm.first.spec_hash for arm in found)) for label, found in groups.items()
        ),
    )
    fewest = fewest_pairs(ALPHA / len(terms.pairs))
    if goal.max_seeds is not None and goal.max_seeds < fewest:
        raise SpecError(f"--max-seeds {goal.max_seeds} can't decide anything: at least {fewest} are needed")
    return _with_pilot(terms)


def target_of(params: ComparisonParams) -> str:
    """The accuracy to reach in percent, written in one way; empty for metrics without one."""
    return params.parsed_metric().goal.removesuffix(" %")


def mismatch(question: Question, params: ComparisonParams, goal: Goal) -> str:
    """Why the options don't ask the registered question; empty where they do. Seeds that choose count where given."""
    terms = question.terms
    choosing = params.parsed_choose_seeds() or terms.choose_seeds
    asked = (goal.difference, goal.margin, goal.max_seeds, tuple(choosing))
    if asked == (terms.difference, terms.margin, terms.max_seeds, tuple(terms.choose_seeds)):
        return ""
    return (
        f"the question is registered since {question.registered_at:%Y-%m-%d %H:%M} UTC with {options(terms)}, and "
        f"does not change: type these, or ask the other one of new seeds, in an experiment other than "
        f"{question.experiment}"
    )


def options(terms: QuestionTerms) -> str:
    """The options of `mlpq decide` that ask the question, as they are typed."""
    given = {
        "by": terms.by,
        "metric": "" if terms.metric == "accuracy" else terms.metric,
        "target": terms.target,
        "against": terms.against,
        "difference": formatting.number(terms.difference),
        "margin": formatting.number(terms.margin) if terms.margin else "",
        "max-seeds": str(terms.max_seeds or ""),
        "choose-seeds": formatting.seeds(terms.choose_seeds, at_most=None),
    }
    return " ".join(f"--{name} {shlex.quote(value)}" for name, value in given.items() if value)


def _check_validation(groups: Mapping[str, Sequence[Arm]], params: ComparisonParams) -> None:
    """Raise SpecError where a setting, or a figure, needs a validation split that some jobs lack."""
    for label, settings in groups.items():
        without = [arm for arm in settings if not arm.spec.validation]
        if without and len(settings) > 1:
            raise SpecError(
                f"{label} has {len(settings)} settings, and no validation split to choose one by: submit them with "
                "--validation 0.1, or compare each by itself, as with --by optimizer,lr"
            )
        if without and params.metric == "validation":
            raise SpecError(f"{label} has no validation figures: submit with --validation 0.1, or use another metric")


def _choosing(
    groups: Mapping[str, Sequence[Arm]], submitted: Sequence[set[int]], params: ComparisonParams
) -> tuple[int, ...]:
    """The seeds on which settings are chosen: as typed, else the first half of the common ones, but at least three."""
    typed = params.parsed_choose_seeds()
    if all(len(settings) == 1 for settings in groups.values()):
        if typed:
            raise SpecError("no side has several settings to choose from: leave --choose-seeds out")
        return ()
    if typed:
        return typed
    found = choosing_seeds(sorted(set.intersection(*submitted)))
    first = max(set.union(*submitted)) + 1
    return (*found, *range(first, first + LEAST_SEEDS - len(found)))


def _with_pilot(terms: QuestionTerms) -> QuestionTerms:
    """With the number of pairs that determine the caps: those that exist, but so many that the bets can decide."""
    fewest = fewest_pairs_to_decide(terms)
    return replace(terms, pilot=max(fewest, min(len(terms.seeds), MOST_FOR_PILOT)))
