"""The typed rows of `mlpq decide`: a question as it was registered, and its possible verdicts."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class Verdict(StrEnum):
    """What `mlpq decide` says about a pair of arms, or about all arms."""

    BETTER = "better"
    EQUIVALENT = "equivalent"  # the difference is smaller than the margin
    UNDECIDED = "undecided"


@dataclass(frozen=True, slots=True)
class QuestionSide:
    """An arm of a registered question: its label, and for each of its settings the spec hash of one of its jobs."""

    label: str
    settings: Sequence[str]


@dataclass(frozen=True, slots=True)
class QuestionTerms:
    """What a question asks, all of it fixed when it is registered.

    `by` and `metric` are those of a comparison, `target` is the accuracy in percent that some metrics need; `against`
    is the label of the only arm that the others are compared with, empty where each is compared with each.
    `difference` is the smallest that matters and `margin` the largest that counts as equivalent, in the metric's unit.
    `max_seeds` is the cap that the user set, None where it is computed. `choose_seeds` are the seeds on which settings
    are chosen, empty where no arm has several. Pairs are compared on `seeds`, and after those on the following numbers;
    the first `pilot` of them determine the caps.
    """

    by: str
    metric: str
    target: str
    against: str
    difference: float
    margin: float | None
    alpha: float
    max_seeds: int | None
    choose_seeds: Sequence[int]
    seeds: Sequence[int]
    pilot: int
    sides: Sequence[QuestionSide]

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
    """

    id: int
    experiment: str
    terms: QuestionTerms
    registered_at: datetime
    caps: Sequence[int] | None
