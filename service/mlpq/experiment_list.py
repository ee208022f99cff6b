"""The experiments of a database with their progress and their best arm, for `mlpq experiments`."""

from __future__ import annotations

from mlpq.analysis.best_arm import BestArm, ExperimentSummary, best_arm
from mlpq.jobs import Status
from mlpq.store import dashboard_queries, queries
from mlpq.store.session import Store

MOST_JOBS = 1000  # of an experiment, for its best arm; more take seconds to read


def experiment_list(store: Store, limit: int) -> list[ExperimentSummary]:
    """The latest experiments, the oldest of them first."""
    found = dashboard_queries.experiments_page(store, None, limit)[::-1]
    counts = dashboard_queries.counts(store, [each.id for each in found])
    now = dashboard_queries.database_time(store)
    summaries = []
    for each in found:
        own = counts[each.id]
        has_many = sum(own.values()) > MOST_JOBS
        best = _best(store, each.name) if own.get(Status.SUCCEEDED) and not has_many else None
        summaries.append(ExperimentSummary(each.name, each.owner, own, now - each.created_at, best, has_many))
    return summaries


def _best(store: Store, experiment: str) -> BestArm | None:
    records = queries.job_records(store, experiment)
    return best_arm(records, queries.ancestors(store, records))
