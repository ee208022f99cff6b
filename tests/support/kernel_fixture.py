"""Short jobs of every kind, and the results that the kernel gave them when its arithmetic got its number.

    python -m tests.support.kernel_fixture

adds the jobs that are not recorded yet to the fixture of the present arithmetic. It changes no recorded result: a
change of any bit of any job needs a new number.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from mlpq.spec.sweep import Sweep
from mlpq_workers.engine.training_state import EngineJob
from mlpq_workers.kernel import ARITHMETIC
from mlpq_workers.trainer.result_images import result_images
from tests.support.installations import ROOT
from tests.support.kernel_jobs import FORMULAS, formula
from tests.support.kernel_training import images, train_by_kernel
from tests.support.optimizer_options import OPTIMIZERS_AND_OPTIONS

FILE = ROOT / "tests" / "fixtures" / "kernel" / f"arithmetic-{ARITHMETIC}.json"
SHORT = {"dataset": "digits", "hidden": "16", "epochs": 2, "seeds": 5}
KINDS: list[dict[str, Any]] = [
    *({"optimizer": optimizer} for optimizer in OPTIMIZERS_AND_OPTIONS),
    {"hidden": "none", "optimizer": "adam"},
    {"hidden": "33,7,20", "activation": "relu", "optimizer": "sgd:lr=0.1"},
    {"hidden": "100", "activation": "tanh", "bias": "false", "optimizer": "sgd:lr=0.5"},
    {"initialisation": "truncated-normal", "optimizer": "adam"},
    {"batch_size": 7, "optimizer": "adamw"},
    {"batch_size": 500, "optimizer": "rmsprop"},
    {"batch_size": 2000, "optimizer": "sgd:lr=0.5"},
    {"l1": "0.001", "optimizer": "sgd:lr=0.5"},
    {"dropout": "0.3", "hidden": "32,16", "optimizer": "sgd:lr=0.5"},
    {"validation": "0.2", "patience": 2, "epochs": 30, "optimizer": "adam:lr=0.05"},
    {"hidden": "1200,900", "epochs": 1, "optimizer": "adam"},
    {"clip_norm": "0.1", "optimizer": "adam"},
    {"label_smoothing": "0.1", "optimizer": "sgd:lr=0.5"},
    {"clip_norm": "0.2", "label_smoothing": "0.3", "l1": "0.001", "batch_size": 500, "optimizer": "rmsprop"},
    {"schedule": "cosine", "warmup": "0.3", "clip_norm": "0.5", "optimizer": "sgd:lr=0.5,momentum=0.9"},
    *map(formula, FORMULAS),
    {**formula("every"), "clip_norm": "0.1", "hidden": "33,7", "dropout": "0.2", "l1": "0.001"},
]
CHILD = {"optimizer": "adam", "dropout": "0.3"}  # continues from a job with the same dropout


def results() -> dict[str, dict[str, Any]]:
    """What becomes of each job, by its spec hash."""
    specs = [spec for kind in KINDS for spec in Sweep.parse({**SHORT, **kind}).jobs()]
    (parent,) = Sweep.parse({**SHORT, "dropout": "0.3"}).jobs()
    (child,) = Sweep.parse({**SHORT, **CHILD}).jobs(parent)
    start = train_by_kernel(parent, data=images()).trained("0").final
    jobs = [*map(EngineJob, specs), EngineJob(parent), EngineJob(child, start)]
    record = train_by_kernel(*jobs, data=images(), threads=2)
    found = {}
    for i, job in enumerate(jobs):
        trained = record.trained(str(i))
        assert trained.final.predictions is not None
        about_images = result_images(trained.final.predictions, images().test_y, job.spec.data.classes)
        found[job.spec.hash] = {
            "weights_sha256": trained.weights_sha256,
            "images_sha256": about_images.sha256,
            "train_loss": record.epochs[str(i)][-1].train_loss,
            "validation_loss": trained.best.validation_loss,
            "test_loss": trained.best.test_loss,
            "test_correct": trained.best.test_correct,
            "epochs_run": trained.epochs_run,
        }
    return found


def main(file: Path) -> None:
    recorded = json.loads(file.read_text()) if file.exists() else {}
    file.write_text(json.dumps(results() | recorded, indent=1) + "\n")


if __name__ == "__main__":
    main(FILE)
