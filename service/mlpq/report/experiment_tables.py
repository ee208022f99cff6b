"""The experiments as a table and as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.table import Table

from mlpq import formatting
from mlpq.analysis.best_arm import BestArm, ExperimentSummary
from mlpq.jobs import FINISHED, Status
from mlpq.report.tables import plain_table


def experiments_table(found: Sequence[ExperimentSummary]) -> Table:
    """One line per experiment: progress, the best arm with n and its spread, the owner and the age."""
    table = plain_table(
        "experiment", ">finished", "best arm", ">n", ">test %, mean ± sd", "owner", ">age", "other jobs"
    )
    for each in found:
        finished = sum(count for status, count in each.counts.items() if status in FINISHED)
        table.add_row(
            each.name, f"{finished} of {sum(each.counts.values())}", *_best_cells(each),
            each.owner or "", formatting.age(each.age.total_seconds()), _others(each),
        )  # fmt: skip
    return table


def experiment_document(each: ExperimentSummary) -> dict[str, Any]:
    """An experiment as JSON; accuracies are fractions from 0 to 1."""
    best = each.best
    accuracy = best.arm.accuracy if best else None
    return {
        "experiment": each.name,
        "owner": each.owner,
        "jobs": {str(status): each.counts.get(status, 0) for status in Status},
        "age_seconds": round(each.age.total_seconds(), 3),
        "best_arm": best and best.label,
        "best_by": best and ("validation" if best.by_validation else "test"),
        "arms": best and best.of,
        "n": accuracy and accuracy.n,
        "test_accuracy": accuracy and accuracy.mean,
        "sd": accuracy and accuracy.sd,
    }


def _best_cells(each: ExperimentSummary) -> list[str]:
    if each.best is None:
        return ["too many jobs: mlpq results" if each.has_many_jobs else "", "", ""]
    accuracy = each.best.arm.accuracy
    assert accuracy is not None, "the best arm has a result"
    mean = formatting.mean_and_sd(100 * accuracy.mean, None if accuracy.sd is None else 100 * accuracy.sd)
    return [_label(each.best), str(accuracy.n), mean]


def _label(best: BestArm) -> str:
    if best.of == 1:
        return f"{best.label} (the only one)"
    return best.label if best.by_validation else f"{best.label} (by test)"


def _others(each: ExperimentSummary) -> str:
    """The jobs that have not succeeded: "3 running, 1 failed"."""
    return ", ".join(f"{count} {status}" for status, count in each.counts.items() if status is not Status.SUCCEEDED)
