"""Train the jobs of a fixture and compare their weights with the recorded ones: `python short_jobs.py FILE`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch

from mlpq.spec.job import JobSpec, Sweep
from mlpq_workers.engine import plain as plain_engine
from mlpq_workers.engine.gang import train_gang
from mlpq_workers.engine.gang_members import Member, Observer
from mlpq_workers.engine.training_state import Start, Trained
from tests.support.gang_training import digits


class Endings(Observer):
    """Keeps how each member ended."""

    def __init__(self) -> None:
        self.found: dict[str, Trained | Exception] = {}

    def ended(self, member: str, ending: Trained | Exception) -> None:
        self.found[member] = ending


def train_alone_in_gang(spec: JobSpec, start: Start | None) -> Trained:
    endings = Endings()
    train_gang({"alone": Member(spec, start)}, digits(), "cpu", endings)
    ending = endings.found["alone"]
    assert isinstance(ending, Trained), ending
    return ending


def train(
    job: dict[str, Any], sweep: dict[str, Any], parent: JobSpec | None, start: Start | None
) -> tuple[JobSpec, Trained]:
    (spec,) = Sweep.parse(sweep).jobs(parent)
    if job["engine"] == "gang":
        return spec, train_alone_in_gang(spec, start)
    return spec, plain_engine.train(spec, digits(), "cpu", start)


def main(file: Path) -> None:
    torch.set_num_threads(1)
    jobs = json.loads(file.read_text())
    for job in jobs:
        parent, start = None, None
        if job["parent"]:
            parent, first = train(job, job["parent"], None, None)
            start = Start(first.weights, first.shuffle_state, first.dropout_state)
        _, trained = train(job, job["sweep"], parent, start)
        for name in ("weights_sha256", "test_correct", "test_loss", "best_epoch", "epochs_run", "validation_correct"):
            assert getattr(trained, name) == job[name], f"{name} of {job}"
    print(f"{len(jobs)} jobs have the recorded weights")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
