"""All findings about an experiment, as tables, charts and reports show them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mlpq.analysis.best_of_k import BestOf
from mlpq.analysis.comparison import Comparison
from mlpq.analysis.metrics import Curve
from mlpq.analysis.questions import QuestionState
from mlpq.records import JobRecord


@dataclass(frozen=True, slots=True)
class ExperimentComparison:
    """The jobs of an experiment, and what they show.

    `ancestors` are the jobs of other experiments that some of `records` continue from; `curves` are by job id, empty
    where they were not read; `tuned` has the optimizers with several settings; `questions` are those that were
    registered for `mlpq decide`.
    """

    experiment: str
    records: Sequence[JobRecord]
    ancestors: Sequence[JobRecord]
    curves: Mapping[str, Curve]
    comparison: Comparison
    tuned: Sequence[BestOf]
    questions: Sequence[QuestionState] = ()
