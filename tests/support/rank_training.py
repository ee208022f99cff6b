"""Train the same jobs in several worlds over gloo, one after another; rank 0 of each prints the results as JSON.

    python -m tests.support.rank_training FOLDER SIZE…

Ranks are forked, so that torch is imported only once. It must not have run anything before.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
import multiprocessing
import os
import sys
from pathlib import Path
from typing import Any

import torch
import torch._dynamo  # otherwise the first optimizer of each rank would import it
from torch import distributed

from mlpq.own_data.content import Content
from mlpq.spec.job import JobSpec
from mlpq_workers.engine.data import Data
from mlpq_workers.engine.gang import train_gang
from mlpq_workers.engine.image_set import ImageSet
from mlpq_workers.engine.plain import train
from mlpq_workers.engine.ranks import Ranks
from mlpq_workers.engine.training_state import EngineJob, Stopped, Trained
from mlpq_workers.engine.world import World
from tests.support.gang_training import Interrupt, Record, digits, job, without_seconds
from tests.support.own_data_specs import floats, spec_on

SINGLE, DOUBLE = "single", "double"
MANY = "300 classes"  # of own data; the other jobs are on digits
# The last batch has one image, so that some ranks have none of it.
IMAGES, BATCH, TEST_IMAGES = 1003, 334, 7
TEST_ROWS = 401  # of the own data
JOBS: dict[str, dict[str, Any]] = {
    "descent": {"optimizer": "sgd:lr=0.5"},
    "adam": {"optimizer": "adam", "l1": "1e-4", "hidden": "16,8", "activation": "tanh"},
    "momentum, dropout, split": {
        "optimizer": "sgd:lr=0.1,momentum=0.9", "dropout": "0.3", "validation": "0.1", "activation": "relu",
    },
    "clipped, smoothed": {
        "optimizer": "sgd:lr=0.5", "clip_norm": "0.1", "label_smoothing": "0.1", "l1": "1e-4", "schedule": "cosine",
        "warmup": "0.3",
    },
    "logistic": {"hidden": "none", "optimizer": "adagrad"},
    "formula": {
        "formula": "mine: m = 0.9*m + g*min(1, c/norm(g)); p = p - lr*m*norm(p)/(1 + norm(p))",
        "optimizer": "mine:lr=0.1,c=0.3",
    },
    MANY: {"optimizer": "adam", "lr": 0.05},
}  # fmt: skip
OF_PLAIN = {"adafactor": {"optimizer": "adafactor", "l1": "1e-4"}, "plug-in": {"optimizer": "jitter"}}


def rows_of(name: str) -> int:
    """How many test rows the job of that name has."""
    return TEST_ROWS if name == MANY else TEST_IMAGES


def pixels(precision: str) -> Data:
    whole = digits()
    number = torch.float64 if precision == DOUBLE else torch.uint8
    return dataclasses.replace(
        whole, train_x=whole.train_x[:IMAGES].to(number), train_y=whole.train_y[:IMAGES],
        test_x=whole.test_x[:TEST_IMAGES].to(number), test_y=whole.test_y[:TEST_IMAGES],
    )  # fmt: skip


@functools.cache
def own() -> Content:
    return floats(300, rows=3 * TEST_ROWS)


def problem(name: str, precision: str) -> tuple[JobSpec, Data]:
    """The job of that name, with its data in that precision."""
    keys: dict[str, Any] = {"batch_size": BATCH, "epochs": 3, "seeds": 3, **{**JOBS, **OF_PLAIN}[name]}
    if name != MANY:
        return job(**keys), pixels(precision)
    images = ImageSet(own().train_x, own().train_y, own().test_x, own().test_y, own().scale, "")
    data = Data.of(images)
    number = torch.float64 if precision == DOUBLE else torch.float32
    return spec_on(own(), **keys), dataclasses.replace(
        data, train_x=data.train_x.to(number), test_x=data.test_x.to(number)
    )


def plain(spec: JobSpec, data: Data, world: World) -> dict[str, Any]:
    record = Record()
    record.ended("0", train(EngineJob(spec), data, "cpu", record, "0", world))
    return figures(record, data)


def gang(spec: JobSpec, data: Data, world: World) -> dict[str, Any]:
    record = Record()
    other = spec.model_copy(update={"seed": 9, "lr": spec.lr / 2})
    train_gang({"0": EngineJob(spec), "1": EngineJob(other)}, data, "cpu", record, 1, world)
    return figures(record, data)


def interrupted_plain(world: World, **keys: str) -> list[str]:
    """The weights of a job that was trained in one run, and of one that resumed from a checkpoint."""
    spec, data = job(batch_size=BATCH, epochs=2, **keys), pixels(SINGLE)
    interrupt = Interrupt({"0": 1})
    with contextlib.suppress(Stopped):
        train(EngineJob(spec), data, "cpu", interrupt, "0", world)
    resumed = train(EngineJob(spec, resume=interrupt.taken["0"]), data, "cpu", world=world)
    return [train(EngineJob(spec), data, "cpu", world=world).weights_sha256, resumed.weights_sha256]


def interrupted_gang(world: World) -> list[str]:
    """The same for a job of a gang, which resumes alone."""
    spec, data = job(batch_size=BATCH, epochs=2, optimizer="adam"), pixels(SINGLE)
    interrupt, record = Interrupt({"0": 1, "1": 1}), Record()
    other = spec.model_copy(update={"seed": 9})
    train_gang({"1": EngineJob(other), "0": EngineJob(spec)}, data, "cpu", interrupt, 1, world)
    train_gang({"0": EngineJob(spec, resume=interrupt.taken["0"])}, data, "cpu", record, 1, world)
    return [gang(spec, data, world)["weights"]["0"], record.trained("0").weights_sha256]


def figures(record: Record, data: Data) -> dict[str, Any]:
    curves = {
        name: [dataclasses.asdict(without_seconds(metrics)) for metrics in curve]
        for name, curve in record.epochs.items()
    }
    trained = {name: record.trained(name) for name in curves}
    return {
        "curves": curves,
        "weights": {name: each.weights_sha256 for name, each in trained.items()},
        "predictions": {name: predictions(each, data) for name, each in trained.items()},
    }


def predictions(trained: Trained, data: Data) -> dict[str, Any]:
    found = trained.final.predictions
    assert found is not None
    correct = int((found.classes == data.test_y.numpy()).sum())
    return {"classes": found.classes.tolist(), "confidences": found.confidences.tolist(), "correct": correct}


def rank(world: World, rendezvous: Path) -> None:
    torch.set_num_threads(1)
    if world.size > 1:
        url = f"file://{rendezvous}"
        distributed.init_process_group("gloo", init_method=url, rank=world.rank, world_size=world.size)
    found = {
        f"{engine.__name__}: {name}, {precision}": engine(*problem(name, precision), world)
        for precision in (SINGLE, DOUBLE)
        for name in {**JOBS, **OF_PLAIN}
        for engine in ((plain, gang) if name in JOBS else (plain,))
    }
    alone = [interrupted_plain(world, optimizer=name) for name in ("muon", "slowstart", "jitter")]
    interrupted = [interrupted_plain(world, optimizer="adam", hidden="1000,500"), *alone, interrupted_gang(world)]
    parts = world.broadcast([world.part(n).stop for n in range(4)])
    if world.rank == 0:
        print(json.dumps({"trained": found, "broadcast": parts, "interrupted": interrupted}), flush=True)
    if world.size > 1:
        # Before the interpreter exits: torch aborts if gloo's threads are still running then.
        distributed.barrier()
        distributed.destroy_process_group()
        os._exit(0)


def main(folder: Path, sizes: list[int]) -> None:
    fork = multiprocessing.get_context("fork")
    for number, size in enumerate(sizes):
        rendezvous = folder / f"world-{number}"
        ranks = [fork.Process(target=rank, args=(Ranks(each, size), rendezvous)) for each in range(size)]
        for each in ranks:
            each.start()
        for each in ranks:
            each.join()
        if any(each.exitcode for each in ranks):
            sys.exit(f"world {number}: {[each.exitcode for each in ranks]}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), [int(size) for size in sys.argv[2:]])
