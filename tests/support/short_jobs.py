"""Train the jobs of a fixture and compare their weights with the recorded ones.

python -m tests.support.short_jobs FILE
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch

from mlpq.spec.job import JobSpec
from mlpq.spec.sweep import Sweep
from mlpq_workers.engine.training_state import EngineJob, Snapshot, Trained
from tests.support.gang_training import digits, train_plain, train_together


def train(
    job: dict[str, Any], sweep: dict[str, Any], parent: JobSpec | None, start: Snapshot | None
) -> tuple[JobSpec, Trained]:
    (spec,) = Sweep.parse(sweep).jobs(parent)
    if job["engine"] == "gang":
        return spec, train_together(EngineJob(spec, start), data=digits()).trained("0")
    return spec, train_plain(spec, digits(), start)


def figures(trained: Trained) -> dict[str, object]:
    best = trained.best
    return {
        "weights_sha256": trained.weights_sha256,
        "test_correct": best.test_correct,
        "test_loss": best.test_loss,
        "best_epoch": best.epoch,
        "epochs_run": trained.epochs_run,
        "validation_correct": best.validation_correct,
    }


def main(file: Path) -> None:
    torch.set_num_threads(1)
    jobs = json.loads(file.read_text())
    for job in jobs:
        parent, start = None, None
        if job["parent"]:
            parent, first = train(job, job["parent"], None, None)
            start = first.final
        _, trained = train(job, job["sweep"], parent, start)
        for name, value in figures(trained).items():
            assert value == job[name], f"{name} of {job}"
    print(f"{len(jobs)} jobs have the recorded weights")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
