"""A comparison and all that is shown with it, from the database."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mlpq.analysis.best_of_k import BestOf, best_of
from mlpq.analysis.comparison import Comparison, compare
from mlpq.analysis.grouping import Fields
from mlpq.analysis.metrics import Curve, Metric
from mlpq.store import queries
from mlpq.store.session import Store

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Compared:
    """An experiment: its jobs as `rows` of the view, `ancestors` that they go on from, `curves` by job, and what
    follows from them."""

    experiment: str
    rows: Sequence[Row]
    ancestors: Sequence[Row]
    curves: Mapping[str, Curve]
    comparison: Comparison
    tuned: Sequence[BestOf]


def load(
    store: Store,
    experiment: str,
    metric: Metric,
    by: Fields,
    against: str | None,
    with_curves: bool = False,
    pairs_at_most: int | None = None,
) -> Compared:
    """The experiment compared; raises NotFoundError where there is none, SpecError where `against` is no arm
    or there are more pairs than `pairs_at_most`.

    Curves are read where the metric needs them, or if asked for.
    """
    queries.check_experiment(store, experiment)
    rows = queries.job_rows(store, experiment)
    ancestors = queries.ancestors(store, rows)
    curves = queries.curves(store, experiment) if with_curves or metric.needs_curves else {}
    comparison = compare(rows, ancestors, curves, metric, by, against, pairs_at_most)
    return Compared(experiment, rows, ancestors, curves, comparison, best_of(rows, ancestors))
