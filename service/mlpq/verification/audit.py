"""Whether what is stored about a finished job fits together: found without running anything."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlpq.errors import DataError, SpecError
from mlpq.jobs import Outcome, fingerprint, job_id
from mlpq.spec.job import JobSpec, spec_from
from mlpq.verification import weights

Row = Mapping[str, Any]

OF_THE_BEST_EPOCH = (
    "test_correct", "test_total", "test_loss", "validation_correct", "validation_total", "validation_loss",
)  # fmt: skip


@dataclass(frozen=True)
class Audit:
    """What does not fit, and what could not be looked at, in words.

    `spec` is that of the job; None where the one that is stored can't be the one that was filed.
    """

    spec: JobSpec | None
    misfits: Sequence[str]
    unchecked: Sequence[str]


def audit(record: Row, curve: Sequence[Row]) -> Audit:
    """Look at the record of a succeeded job (see `queries.records`) and its curve, and at its file of weights."""
    try:
        spec = spec_from(**record["spec"])
    except SpecError as error:
        return Audit(None, [f"its spec is none: {error}"], [])
    wrong = [*_of_the_spec(record, spec)]
    if wrong or record["result"] is None:
        return Audit(None, wrong or ["its result is gone"], [])
    unchecked: list[str] = []
    misfits = [
        *_of_the_curve(record["result"], curve, spec),
        *_of_the_figures(record["result"], curve, spec),
        *_of_the_attempt(record),
        *_of_the_weights(record, spec, unchecked),
    ]
    return Audit(spec, misfits, unchecked)


def _of_the_spec(record: Row, spec: JobSpec) -> Iterator[str]:
    if spec.hash != record["spec_hash"]:
        yield f"spec: it has the hash {spec.hash[:12]}…, and the recorded one is {record['spec_hash'][:12]}…"
    elif record["id"] != job_id(record["experiment"], spec.hash, record["repeat"]):
        yield f"spec: the job's id is not that of this spec in the experiment {record['experiment']}"
    if spec.seed != record["seed"]:
        yield f"seed: {spec.seed} in the spec, {record['seed']} beside it"
    if spec.parent != record["parent_hash"]:
        yield "parent: the spec goes on from another job than is recorded"


def _of_the_curve(result: Row, curve: Sequence[Row], spec: JobSpec) -> Iterator[str]:
    """The epochs are those that this spec brings, and the best one is the one that the spec means."""
    if [epoch["epoch"] for epoch in curve] != list(range(1, result["epochs_run"] + 1)):
        yield f"epochs_run: {result['epochs_run']} in the result, and the curve has {len(curve)} epochs"
        return
    best = result["epochs_run"]
    if spec.patience is not None:
        best = min(curve, key=lambda epoch: (epoch["validation_loss"] is None, epoch["validation_loss"]))["epoch"]
    if result["best_epoch"] != best:
        yield f"best_epoch: {result['best_epoch']} in the result, {best} by the curve"
    if result["epochs_run"] != (spec.epochs if spec.patience is None else min(spec.epochs, best + spec.patience)):
        yield f"epochs_run: {result['epochs_run']} is not where this spec stops"
    if not math.isclose(result["train_seconds"], sum(epoch["seconds"] for epoch in curve), rel_tol=1e-9):
        yield "train_seconds: the result has another time than the epochs together"


def _of_the_figures(result: Row, curve: Sequence[Row], spec: JobSpec) -> Iterator[str]:
    """The result has the figures of its best epoch, and counts are parts of the whole set."""
    for best in [epoch for epoch in curve if epoch["epoch"] == result["best_epoch"]]:
        for name in OF_THE_BEST_EPOCH:
            if result[name] != best[name]:
                yield f"{name}: {result[name]} in the result, {best[name]} in epoch {best['epoch']} of the curve"
    totals = {"test": spec.data.test, "validation": spec.validation_size or None}
    for where, row in [("the result", result), *((f"epoch {epoch['epoch']}", epoch) for epoch in curve)]:
        for side, total in totals.items():
            correct = row[f"{side}_correct"]
            if row[f"{side}_total"] != total:
                yield f"{side}_total: {row[f'{side}_total']} in {where}, and the data have {total}"
            elif correct is not None and not 0 <= correct <= total:
                yield f"{side}_correct: {correct} of {total} in {where}"


def _of_the_attempt(record: Row) -> Iterator[str]:
    """The result is that of the last attempt, which succeeded where it says, and that is an environment as it was."""
    result, facts = record["result"], record["environment"]
    if result["attempt"] != record["attempt"] or record["outcome"] != Outcome.SUCCEEDED:
        yield f"attempt: the result is of attempt {result['attempt']}, which is not the one that succeeded"
    if facts is None:
        yield "environment: it is not recorded"
        return
    if fingerprint(facts) != record["fingerprint"]:
        yield "environment: its facts are not those of its fingerprint, they were changed"
    for name, recorded in (("device", result["device"]), ("world_size", result["world_size"])):
        if facts.get(name) != recorded:
            yield f"{name}: {recorded} in the result, {facts.get(name)} in the environment"


def _of_the_weights(record: Row, spec: JobSpec, unchecked: list[str]) -> Iterator[str]:
    """The file holds the recorded weights of this spec; one that can't be read from here is added to `unchecked`."""
    path = Path(record["result"]["weights_file"])
    try:
        file = weights.read(path)
    except OSError as error:
        unchecked.append(f"the weights: {path}: {error.strerror}")
        return
    except DataError as error:
        yield f"weights: {error}"
        return
    if file.sha256 != record["result"]["weights_sha256"]:
        yield f"weights: {path} does not hold the recorded ones"
    elif file.metadata.get("weights_sha256") != file.sha256 or file.metadata.get("spec_hash") != spec.hash:
        yield f"weights: {path} says that it is of another job"
