"""Read an experiment and compare its arms, for `mlpq compare`, `plan`, `report` and the dashboard."""

from __future__ import annotations

from dataclasses import replace

from mlpq.analysis.best_of_k import best_of
from mlpq.analysis.comparison import compare
from mlpq.analysis.crossed import jobs_compared, with_image_errors
from mlpq.analysis.experiment_comparison import ExperimentComparison
from mlpq.analysis.params import ComparisonParams
from mlpq.errors import SpecError
from mlpq.records import JobRecord
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
    queries.check_experiment(store, experiment)
    listed = queries.listed_jobs(store, experiment)
    records = [job for job in listed if isinstance(job, JobRecord)]
    unreadable = tuple(job for job in listed if not isinstance(job, JobRecord))
    if unreadable and not records:
        raise SpecError(f"no job of {experiment} can be read: mlpq jobs {experiment} shows why")
    ancestors = queries.ancestors(store, records)
    curves = queries.curves(store, experiment) if with_curves or needs_curves else {}
    comparison = replace(compare(records, ancestors, curves, params, pairs_at_most), unreadable=unreadable)
    comparison = with_image_errors(comparison, bitmaps_of(store, jobs_compared(comparison)))
    return ExperimentComparison(experiment, records, ancestors, curves, comparison, best_of(records, ancestors))
