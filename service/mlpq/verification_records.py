"""The typed rows of verifications: what `mlpq verify` found about results."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any


class Grade(StrEnum):
    """What a verification found, from the most to the least that can be said for a result."""

    SAME_BITS = "same_bits"  # weights, figures and curve
    SAME_FIGURES = "same_figures"  # within what the order of sums may change
    CONSISTENT = "consistent"  # within the variation of other seeds or test images
    REFUTED = "refuted"
    NOT_VERIFIED = "not_verified"  # there was nothing to compare with


@dataclass(frozen=True, slots=True)
class FigureCheck:
    """A figure as recorded and as it is now. `agrees`: within the tolerance; None where only equality counts."""

    name: str
    recorded: Any
    now: Any
    agrees: bool | None

    @property
    def is_same(self) -> bool:
        return bool(self.recorded == self.now)


@dataclass(frozen=True, slots=True)
class EnvironmentDifference:
    """A field of the environment that differs; None where a side lacks it."""

    field: str
    recorded: Any
    now: Any


@dataclass(frozen=True, slots=True)
class Verification:
    """What `mlpq verify` found about a job. `rerun_id` is None where the job could not be run again.

    `checked_at` is None before it is stored.
    """

    job_id: str
    rerun_id: str | None
    grade: Grade
    reason: str
    misfits: Sequence[str]
    unchecked: Sequence[str]
    figures: Sequence[FigureCheck]
    differences: Sequence[EnvironmentDifference]
    checked_at: datetime | None = None
