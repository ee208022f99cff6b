"""The ranks of a world: one process for each GPU, started by torchrun's Python API, which ends all where one ends.

Rank 0 has the pipes to the worker: it hears of the gangs and tells what becomes of them. All ranks train them alike.
"""

from __future__ import annotations

import datetime
import logging
import os
import re
import signal
import sys
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, replace

from torch import distributed
from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure, record
from torch.distributed.launcher import LaunchConfig, elastic_launch

from mlpq_workers.engine.world import World
from mlpq_workers.protocol import Pipe, TrainingSettings, own_output
from mlpq_workers.trainer import devices
from mlpq_workers.trainer.training import Child

HERE = "127.0.0.1"
START_SECONDS = datetime.timedelta(seconds=120)  # between the first rank that is ready and the last
SILENCE_SECONDS = 30  # a rank that the others wait for so long hangs
END_SECONDS = 3  # then for the others to end
# What a rank says that lost another one: the other's words count, and the launcher is given the time to find it.
TIMED_OUT = re.compile(r"timed out|timeout", re.IGNORECASE)
LOST_ANOTHER = re.compile(r"gloo|nccl|Connection (closed|reset|refused)|Broken pipe", re.IGNORECASE)


def launch(size: int, told: TrainingSettings, out: Pipe) -> None:
    """Run the ranks until one of them ends, and tell what it said."""
    config = LaunchConfig(
        min_nodes=1, max_nodes=1, nproc_per_node=size, max_restarts=0, run_id=uuid.uuid4().hex, rdzv_backend="c10d",
        rdzv_endpoint=f"{HERE}:0", local_addr=HERE, logs_specs=DefaultLogsSpecs(log_dir=told.scratch),
    )  # fmt: skip
    os.dup2(out.fileno(), 1)  # for rank 0
    try:
        elastic_launch(config, sys.executable)(
            "-m", "mlpq_workers.trainer.rank_main", replace(told, parent=os.getpid()).dump()
        )
        error = "the ranks ended unasked"
    except ChildFailedError as failed:
        error = first_to_fail([Failed.of(rank, failure) for rank, failure in failed.failures.items()])
    out.tell("died", error=error, alone=True)


@dataclass(frozen=True)
class Failed:
    """How a rank ended: the words of its exception, or else its signal."""

    rank: int
    error: str
    signal: int
    at: float

    @classmethod
    def of(cls, rank: int, failure: ProcessFailure) -> Failed:
        said = failure.message["message"] if isinstance(failure.message, dict) else ""
        return cls(rank, said, max(0, -failure.exitcode), failure.timestamp)

    @property
    def words(self) -> str:
        ended = f"signal {signal.Signals(self.signal).name}" if self.signal else "it ended unasked"
        return f"rank {self.rank} of the training: {self.error or ended}"


def first_to_fail(failed: Sequence[Failed]) -> str:
    """The failing rank's own words, and not those of a rank that it took along, or that the launcher ended."""
    in_time = sorted(failed, key=lambda each: each.at)
    own = [each for each in in_time if each.error and not LOST_ANOTHER.search(each.error)]
    waited = [each for each in in_time if TIMED_OUT.search(each.error)]
    killed = [each for each in in_time if not each.error and each.signal not in (0, signal.SIGTERM)]
    if not own and waited:
        return hangs(waited[0].rank)
    told = [each for each in in_time if each.error]
    return [*own, *killed, *told, *in_time][0].words


def hangs(waiting: int) -> str:
    return f"a rank of the training hangs: rank {waiting} waited {SILENCE_SECONDS} s for it"


@record
def rank(told: TrainingSettings) -> None:
    """Be a rank: train what rank 0 is told, until the launcher ends."""
    out = own_output()
    store, number, size = next(distributed.rendezvous("env://"))
    if number > 0:
        logging.getLogger().setLevel(logging.WARNING)  # they all see the same
    kind = devices.choose(told.device)
    devices.prepare(kind, number)
    _join(store, kind, number, size)
    device = f"cuda:{number}" if kind == "cuda" else kind
    try:
        Child(out, told, kind, device, World(number, size), distributed.PrefixStore("gangs", store)).serve()
    except Exception as error:
        if TIMED_OUT.search(str(error)) and number == 0:
            # Told at once, upon which all are killed: what hangs may not hear the launcher.
            out.tell("died", error=hangs(0), alone=True)
        if LOST_ANOTHER.search(str(error)):
            time.sleep(END_SECONDS)
        raise


def _join(store: distributed.Store, kind: str, number: int, size: int) -> None:
    """Make the group of the ranks, when all have come so far: importing torch takes one longer than another."""
    store.set(f"rank {number}", "")
    store.wait([f"rank {each}" for each in range(size)], START_SECONDS)
    distributed.init_process_group(
        "cpu:gloo,cuda:nccl" if kind == "cuda" else "gloo",
        store=distributed.PrefixStore("ranks", store),
        rank=number,
        world_size=size,
        timeout=datetime.timedelta(seconds=SILENCE_SECONDS),
    )
