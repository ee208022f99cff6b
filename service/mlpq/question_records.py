"""The typed rows of `mlpq decide`: a question as it was registered, and its possible verdicts.

The types of the fields are those that are checked when a row is read, see mlpq.store.reading.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Annotated

from pydantic import Field

from mlpq.spec.parsing import MAX_SEED

MOST_SEEDS = 1000  # the largest cap: more is a matter of days, and a look at the cap one of seconds

Seed = Annotated[int, Field(ge=0, le=MAX_SEED)]
Pairs = Annotated[int, Field(ge=1, le=MOST_SEEDS)]
Amount = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class Verdict(StrEnum):
    """What `mlpq decide` says about a pair of arms, or about all arms."""

    BETTER = "better"
    EQUIVALENT = "equivalent"  # the difference is smaller than the margin
    UNDECIDED = "undecided"


@dataclass(frozen=True, slots=True)
class QuestionSide:
    """An arm of a registered question: its label, and for each of its settings the spec hash of one of its jobs."""

    label: str
    settings: Annotated[tuple[str, ...], Field(min_length=1)]


@dataclass(frozen=True, slots=True)
class QuestionTerms:
    """What a question asks, all of it fixed when it is registered.

    `by` and `metric` are those of a comparison, `target` is the accuracy in percent that some metrics need; `against`
    is the label of the only arm that the others are compared with, empty where each is compared with each.
    `difference` is the smallest that matters and `margin` the largest that counts as equivalent, in the metric's unit.
    `max_seeds` is the cap that the user set, None where it is computed. `choose_seeds` are the seeds on which settings
    are chosen, empty where no arm has several. Pairs are compared on `seeds`, and after those on the following numbers;
    the first `pilot` of them determine the caps. Raises ValueError where `sides` are not two or more different ones, or
    `against` is none of them.
    """

    by: str
    metric: str
    target: str
    against: str
    difference: Amount
    margin: Amount | None
    alpha: Annotated[float, Field(gt=0, lt=1)]
    max_seeds: Pairs | None
    choose_seeds: tuple[Seed, ...]
    seeds: tuple[Seed, ...]
    pilot: Pairs
    sides: tuple[QuestionSide, ...]

    def __post_init__(self) -> None:
        labels = {side.label for side in self.sides}
        if len(labels) < 2 or len(labels) < len(self.sides):
            raise ValueError("a question is about two or more arms")
        if self.against and self.against not in labels:
            raise ValueError(f"no arm of the question is called '{self.against}'")

    @property
    def pairs(self) -> list[tuple[int, int]]:
        """The arms to compare, by their positions in `sides`."""
        labels = [side.label for side in self.sides]
        if self.against:
            reference = labels.index(self.against)
            return [(reference, other) for other in range(len(labels)) if other != reference]
        return list(itertools.combinations(range(len(labels)), 2))

    def seed(self, index: int) -> int:
        """The seed of the pair with this number, counted from 0."""
        if index < len(self.seeds):
            return self.seeds[index]
        return max((*self.seeds, *self.choose_seeds), default=-1) + 1 + index - len(self.seeds)


@dataclass(frozen=True, slots=True)
class Question:
    """A question as it was registered in an experiment, before its first look.

    `caps` are the numbers of pairs at which each of `terms.pairs` ends; None until the pilot has determined them.
    Raises ValueError where they are of another number.
    """

    id: int
    experiment: str
    terms: QuestionTerms
    registered_at: datetime
    caps: tuple[Pairs, ...] | None

    def __post_init__(self) -> None:
        if self.caps is not None and len(self.caps) != len(self.terms.pairs):
            raise ValueError(f"{len(self.caps)} caps for {len(self.terms.pairs)} pairs of arms")


@dataclass(frozen=True, slots=True)
class UnreadableQuestion:
    """A registered question whose row holds a value that no program of mlpq writes."""

    id: int
    reason: str
