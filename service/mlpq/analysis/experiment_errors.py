"""All findings about the test images that an experiment gets wrong, as tables, charts and reports show them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mlpq.analysis.image_errors import ImageErrors
from mlpq.image_data import TestSet


@dataclass(frozen=True, slots=True)
class WrongImage:
    """A test image that every seed gets wrong, by its index, its class, and what it is most often taken for.

    `true` is None where the data set is not on this machine; `predicted` where no file of weights is, else `seeds` of
    the results that could be read predict that class.
    """

    image: int
    true: int | None
    predicted: int | None
    seeds: int


@dataclass(frozen=True, slots=True)
class ExperimentErrors:
    """The errors of an experiment's arms, with what this machine knows about the images.

    `of_arms` are the images that every seed of an arm gets wrong, by its label, and `of_all` those that every seed of
    every arm gets wrong, by data set. `test_sets` are those on this machine, by data set. `notes` say what is missing.
    """

    errors: ImageErrors
    of_arms: Mapping[str, Sequence[WrongImage]]
    of_all: Mapping[str, Sequence[WrongImage]]
    test_sets: Mapping[str, TestSet]
    notes: Sequence[str]
