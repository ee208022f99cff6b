"""Jobs and comparisons as files, for the commands and for the Python interface. What renders is imported late."""

from __future__ import annotations

import contextlib
from enum import StrEnum
from typing import TYPE_CHECKING

from mlpq.errors import DataError, NotFoundError
from mlpq.jobs import VERIFY
from mlpq.records import JobRecord
from mlpq.settings import Settings
from mlpq.spec.job_keys import keys_of
from mlpq.store import queries
from mlpq.store.session import Store

if TYPE_CHECKING:
    from mlpq.analysis.experiment_comparison import ExperimentComparison  # which loads scipy
    from mlpq.analysis.params import ComparisonParams


class ExportKind(StrEnum):
    """What a job is exported as: a PyTorch script or notebook, or a spec file."""

    SCRIPT = "script"
    NOTEBOOK = "notebook"
    SPEC = "spec"


def job_text(config: Settings, store: Store, prefix: str, kind: ExportKind) -> str:
    """The text of a job's export; raises NotFoundError."""
    job = queries.job_by_id(store, queries.find_job(store, prefix))
    if kind is ExportKind.SPEC:
        return _spec_text(job)
    from mlpq.report.notebook_export import notebook
    from mlpq.report.script_export import script

    attempts = queries.attempts_of(store, job.id)
    environment = attempts[-1].environment if attempts else None
    write_as = notebook if kind is ExportKind.NOTEBOOK else script
    return write_as(job, queries.ancestors(store, [job]), environment, config.data_dir)


def _spec_text(job: JobRecord) -> str:
    import yaml

    experiment = None if job.experiment == VERIFY else job.experiment  # which can't be submitted to
    keys = keys_of(job.spec, experiment, job.parent_id)
    return str(yaml.safe_dump(keys, sort_keys=False, allow_unicode=True, width=120))


def report_page(config: Settings, store: Store, compared: ExperimentComparison, params: ComparisonParams) -> bytes:
    """A comparison with its curves as an HTML page."""
    from mlpq.error_analysis import experiment_errors
    from mlpq.report.html_report import report

    errors = None
    # Old results, of which the verdicts say so, or none, or data that only another version knows.
    with contextlib.suppress(NotFoundError, DataError):
        errors = experiment_errors(config, store, compared.comparison)
    return report(compared, queries.environments_of(store, compared.experiment), params, errors).encode()
