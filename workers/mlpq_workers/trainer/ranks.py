"""The ranks of a world: one process for each GPU, started by torchrun's Python API, which ends all when one fails.

Rank 0 has the pipes to the worker: it receives the commands and sends the events. All ranks train the same jobs.
"""

from __future__ import annotations

import datetime
import logging
import os
import re
import signal
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, replace

from torch import distributed
from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure, record
from torch.distributed.launcher import LaunchConfig, elastic_launch

from mlpq.settings import python_module
from mlpq_workers.engine.ranks import Ranks
from mlpq_workers.protocol import Died, TrainingSettings
from mlpq_workers.trainer import devices
from mlpq_workers.trainer.pipe import Pipe, own_output
from mlpq_workers.trainer.process import TrainingProcess
from mlpq_workers.trainer.serving import serve
from mlpq_workers.trainer.torch_engines import TorchEngines

LOCALHOST = "127.0.0.1"
START_TIMEOUT = datetime.timedelta(seconds=120)  # between the first rank that is ready and the last
HANG_SECONDS = 30  # a rank for which another one waits this long is considered to hang
END_SECONDS = 3  # for the launcher to find the rank that failed first
# Errors of a rank that lost another one: the other's error is the cause.
TIMED_OUT = re.compile(r"timed out|timeout", re.IGNORECASE)
LOST_PEER = re.compile(r"gloo|nccl|Connection (closed|reset|refused)|Broken pipe", re.IGNORECASE)


def launch(size: int, settings: TrainingSettings, out: Pipe) -> None:
    """Run the ranks until one of them ends, and report the cause."""
    config = LaunchConfig(
        min_nodes=1, max_nodes=1, nproc_per_node=size, max_restarts=0, run_id=uuid.uuid4().hex, rdzv_backend="c10d",
        rdzv_endpoint=f"{LOCALHOST}:0", local_addr=LOCALHOST, logs_specs=DefaultLogsSpecs(log_dir=settings.scratch),
    )  # fmt: skip
    os.dup2(out.fileno(), 1)  # for rank 0
    python, *arguments = python_module("mlpq_workers.trainer.rank_main", replace(settings, parent=os.getpid()).dump())
    try:
        elastic_launch(config, python)(*arguments)
        error = "the ranks exited unexpectedly"
    except ChildFailedError as failed:
        failures = [RankFailure.of(rank, failure) for rank, failure in failed.failures.items()]
        error = root_cause(failures, on_cuda=settings.device == "cuda")
    out.send(Died(error))


@dataclass(frozen=True)
class RankFailure:
    """How a rank ended: the message of its exception, if there was one, or its signal, at a time in seconds."""

    rank: int
    error: str
    signal: int
    at: float

    @classmethod
    def of(cls, rank: int, failure: ProcessFailure) -> RankFailure:
        error = failure.message["message"] if isinstance(failure.message, dict) else ""
        return cls(rank, error, max(0, -failure.exitcode), failure.timestamp)

    def __str__(self) -> str:
        ending = f"signal {signal.Signals(self.signal).name}" if self.signal else "exited unexpectedly"
        return f"rank {self.rank}: {self.error or ending}"


def root_cause(failures: Sequence[RankFailure], on_cuda: bool = False) -> str:
    """The failure that caused the others, which are those of ranks that lost a peer or that the launcher ended.

    On CUDA, NCCL aborts a rank that waited too long for another one.
    """
    in_order = sorted(failures, key=lambda each: each.at)
    own = [each for each in in_order if each.error and not LOST_PEER.search(each.error)]
    waited = [each for each in in_order if TIMED_OUT.search(each.error)]
    killed = [each for each in in_order if not each.error and each.signal not in (0, signal.SIGTERM)]
    if not own and waited:
        return hang(waited[0].rank)
    if not own and on_cuda and killed and killed[0].signal == signal.SIGABRT:
        return f"{hang(killed[0].rank)}, and NCCL aborted it; the log tells if that had another cause"
    with_error = [each for each in in_order if each.error]
    return str([*own, *killed, *with_error, *in_order][0])


def hang(waiting: int) -> str:
    return f"a rank hangs: rank {waiting} waited {HANG_SECONDS} s for it"


@record
def run_rank(settings: TrainingSettings) -> None:
    """Be a rank: train what rank 0 receives, until the launcher ends."""
    out = own_output()
    store, rank, size = next(distributed.rendezvous("env://"))
    if rank > 0:
        logging.getLogger().setLevel(logging.WARNING)  # rank 0 logs the same
    kind = devices.choose(settings.device)
    world = Ranks(rank, size)
    engines = TorchEngines(kind, max(1, settings.threads // size), size, world)
    _join(store, kind, rank, size)
    gangs = distributed.PrefixStore("gangs", store)
    try:
        serve(TrainingProcess(out, settings, engines, world, gangs))
    except Exception as error:
        if TIMED_OUT.search(str(error)) and rank == 0:
            # Sent at once, so that the worker kills all ranks: one that hangs may not react to the launcher.
            out.send(Died(hang(0)))
        if LOST_PEER.search(str(error)):
            time.sleep(END_SECONDS)
        raise


def _join(store: distributed.Store, kind: str, rank: int, size: int) -> None:
    """Create the process group, once all ranks have imported torch, which takes some longer than others."""
    store.set(f"rank {rank}", "")
    store.wait([f"rank {each}" for each in range(size)], START_TIMEOUT)
    distributed.init_process_group(
        "cpu:gloo,cuda:nccl" if kind == "cuda" else "gloo",
        store=distributed.PrefixStore("ranks", store),
        rank=rank,
        world_size=size,
        timeout=datetime.timedelta(seconds=HANG_SECONDS),
    )
