"""Worlds over gloo, one after another, whose ranks train the same jobs; rank 0 of each prints what came of them.

python ranks.py FOLDER SIZE…

The ranks are forked, so that torch is imported once; nothing has run on it before.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import multiprocessing
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch._dynamo  # as each rank's first optimizer would
from torch import distributed

from mlpq.spec.job import JobSpec
from mlpq_workers.engine import plain as plain_engine
from mlpq_workers.engine.data import Data
from mlpq_workers.engine.gang import train_gang
from mlpq_workers.engine.gang_members import Member, Observer
from mlpq_workers.engine.training_state import Checkpoint, Stopped
from mlpq_workers.engine.world import World
from tests.support.gang_training import Record, digits, job

SINGLE, DOUBLE = "single", "double"
# The last batch has a single image, so that some ranks have none of it.
IMAGES, BATCH, TEST_IMAGES = 1003, 334, 7
JOBS = {
    "descent": {"optimizer": "sgd:lr=0.5"},
    "adam": {"optimizer": "adam", "l1": "1e-4", "hidden": "16,8", "activation": "tanh"},
    "momentum, dropout, split": {
        "optimizer": "sgd:lr=0.1,momentum=0.9", "dropout": "0.3", "validation": "0.1", "activation": "relu",
    },
    "logistic": {"hidden": "none", "optimizer": "adagrad"},
}  # fmt: skip


def data(precision: str) -> Data:
    whole = digits()
    number = torch.float64 if precision == DOUBLE else torch.uint8
    return dataclasses.replace(
        whole, train_x=whole.train_x[:IMAGES].to(number), train_y=whole.train_y[:IMAGES],
        test_x=whole.test_x[:TEST_IMAGES].to(number), test_y=whole.test_y[:TEST_IMAGES],
    )  # fmt: skip


def plain(spec: JobSpec, some: Data, world: World) -> dict[str, Any]:
    record = Record()
    ending = plain_engine.train(spec, some, "cpu", on_epoch=lambda epoch: record.epoch("0", epoch), world=world)
    record.ended("0", ending)
    return told(record)


def gang(spec: JobSpec, some: Data, world: World) -> dict[str, Any]:
    record = Record()
    other = spec.model_copy(update={"seed": 9, "lr": spec.lr / 2})
    train_gang({"0": Member(spec), "1": Member(other)}, some, "cpu", record, 1, world)
    return told(record)


def interrupted_plain(world: World) -> list[str]:
    """The weights of a job trained in one go, and of one that went on from a checkpoint."""
    spec, some, pause = job(batch_size=BATCH, epochs=2, hidden="1000,500", optimizer="adam"), data(SINGLE), Pause()
    with contextlib.suppress(Stopped):
        plain_engine.train(spec, some, "cpu", between=lambda take: pause.between("0", take), world=world)
    resumed = plain_engine.train(spec, some, "cpu", resume=pause.kept["0"], world=world)
    return [plain_engine.train(spec, some, "cpu", world=world).weights_sha256, resumed.weights_sha256]


def interrupted_gang(world: World) -> list[str]:
    """The same for one of a gang, which goes on alone."""
    spec, some, pause, record = job(batch_size=BATCH, epochs=2, optimizer="adam"), data(SINGLE), Pause(), Record()
    train_gang({"1": Member(spec.model_copy(update={"seed": 9})), "0": Member(spec)}, some, "cpu", pause, 1, world)
    train_gang({"0": Member(spec, resume=pause.kept["0"])}, some, "cpu", record, 1, world)
    return [gang(spec, some, world)["weights"]["0"], record.trained("0").weights_sha256]


class Pause(Observer):
    """Ends every member after its first epoch, and keeps its checkpoint."""

    def __init__(self) -> None:
        self.kept: dict[str, Checkpoint] = {}

    def between(self, member: str, take: Callable[[], Checkpoint]) -> bool:
        self.kept[member] = take()
        return True


def told(record: Record) -> dict[str, Any]:
    curves = {name: [dataclasses.asdict(epoch) for epoch in curve] for name, curve in record.epochs.items()}
    for curve in curves.values():
        for epoch in curve:
            del epoch["seconds"]
    return {"curves": curves, "weights": {name: record.trained(name).weights_sha256 for name in curves}}


def rank(world: World, meeting: Path) -> None:
    torch.set_num_threads(1)
    if world.size > 1:
        url = f"file://{meeting}"
        distributed.init_process_group("gloo", init_method=url, rank=world.rank, world_size=world.size)
    found = {
        f"{way.__name__}: {name}, {precision}": way(job(batch_size=BATCH, epochs=3, seeds=3, **keys), some, world)
        for precision in (SINGLE, DOUBLE)
        for some in [data(precision)]
        for name, keys in JOBS.items()
        for way in (plain, gang)
    }
    again = [interrupted_plain(world), interrupted_gang(world)]
    parts = world.agree([world.part(n).stop for n in range(4)])
    if world.rank == 0:
        print(json.dumps({"trained": found, "rank 0 says": parts, "interrupted": again}), flush=True)
    if world.size > 1:
        # Together, and not by the interpreter's end: gloo's threads may be running still, upon which torch aborts.
        distributed.barrier()
        distributed.destroy_process_group()
        os._exit(0)


def main(folder: Path, sizes: list[int]) -> None:
    fork = multiprocessing.get_context("fork")
    for number, size in enumerate(sizes):
        meeting = folder / f"world-{number}"
        ranks = [fork.Process(target=rank, args=(World(each, size), meeting)) for each in range(size)]
        for each in ranks:
            each.start()
        for each in ranks:
            each.join()
        if any(each.exitcode for each in ranks):
            sys.exit(f"world {number}: {[each.exitcode for each in ranks]}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), [int(size) for size in sys.argv[2:]])
