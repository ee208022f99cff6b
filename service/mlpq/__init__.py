"""mlpq: a distributed training service with a job queue, for fair comparisons of optimizers.

`mlpq.Lab` is the interface for notebooks and scripts. It is loaded when it is first used, so that `import mlpq` takes
milliseconds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlpq.version import VERSION

if TYPE_CHECKING:
    from mlpq.errors import (
        DataError,
        MlpqError,
        NotFoundError,
        QueryError,
        QueueError,
        SettingsError,
        SpecError,
        StoreError,
    )
    from mlpq.lab.comparisons import Comparison, ProblemsComparison
    from mlpq.lab.data_sets import DataSet
    from mlpq.lab.decisions import Decision
    from mlpq.lab.details import Job
    from mlpq.lab.error_analysis import ErrorAnalysis
    from mlpq.lab.lab import Lab
    from mlpq.lab.pictures import Picture
    from mlpq.lab.plans import Plan
    from mlpq.lab.runs import Run
    from mlpq.lab.verifications import Verifications

__all__ = [
    "Comparison",
    "DataError",
    "DataSet",
    "Decision",
    "ErrorAnalysis",
    "Job",
    "Lab",
    "MlpqError",
    "NotFoundError",
    "Picture",
    "Plan",
    "ProblemsComparison",
    "QueryError",
    "QueueError",
    "Run",
    "SettingsError",
    "SpecError",
    "StoreError",
    "Verifications",
    "__version__",
]

__version__ = VERSION

# The modules of what is not an error.
_MODULES = {
    "Comparison": "comparisons",
    "DataSet": "data_sets",
    "Decision": "decisions",
    "ErrorAnalysis": "error_analysis",
    "Job": "details",
    "Lab": "lab",
    "Picture": "pictures",
    "Plan": "plans",
    "ProblemsComparison": "comparisons",
    "Run": "runs",
    "Verifications": "verifications",
}


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module 'mlpq' has no attribute '{name}'")
    from importlib import import_module

    module = import_module(f"mlpq.lab.{_MODULES[name]}" if name in _MODULES else "mlpq.errors")
    found = globals()[name] = getattr(module, name)
    return found


def __dir__() -> list[str]:
    return __all__
