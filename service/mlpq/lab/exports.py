"""Jobs and comparisons as files, for the commands and for the Python interface. What renders is imported late."""

from __future__ import annotations

import contextlib

from mlpq.analysis.experiment_comparison import ExperimentComparison
from mlpq.analysis.params import ComparisonParams
from mlpq.errors import DataError, NotFoundError
from mlpq.settings import Settings
from mlpq.store import queries
from mlpq.store.session import Store


def job_text(config: Settings, store: Store, prefix: str, *, as_notebook: bool) -> str:
    """A job as a PyTorch script or notebook; raises NotFoundError."""
    from mlpq.report.notebook_export import notebook
    from mlpq.report.script_export import script

    job = queries.job_by_id(store, queries.find_job(store, prefix))
    attempts = queries.attempts_of(store, job.id)
    environment = attempts[-1].environment if attempts else None
    return (notebook if as_notebook else script)(job, queries.ancestors(store, [job]), environment, config.data_dir)


def report_page(config: Settings, store: Store, compared: ExperimentComparison, params: ComparisonParams) -> bytes:
    """A comparison with its curves as an HTML page."""
    from mlpq.error_analysis import experiment_errors
    from mlpq.report.html_report import report

    errors = None
    # Old results, of which the verdicts say so, or none, or data that only another version knows.
    with contextlib.suppress(NotFoundError, DataError):
        errors = experiment_errors(config, store, compared.comparison)
    return report(compared, queries.environments_of(store, compared.experiment), params, errors).encode()
