"""The main loop of a training process: commands in, one gang after another, events out."""

from __future__ import annotations

import os
import queue
import sys
import threading
import time
from typing import NoReturn

from mlpq_workers.protocol import Alive, Died, Leave, Ready, StopJob, TrainJob, parse_command
from mlpq_workers.trainer import devices
from mlpq_workers.trainer.kernel_choice import available_kernel, has_torch
from mlpq_workers.trainer.process import TrainingProcess
from mlpq_workers.trainer.training import GangTraining, RankGang

ALIVE_SECONDS = 5.0  # between two signs of life; a worker waits for the next one for much longer


def serve(process: TrainingProcess) -> NoReturn:
    """Announce the process, and train one gang after another until standard input ends. Other ranks follow rank 0.

    After an error that leaves the device unusable the process ends, so that the worker starts another one.
    """
    if process.world.rank > 0:
        _follow(process)
    gangs: queue.Queue[tuple[TrainJob, ...]] = queue.Queue()
    threading.Thread(target=_listen, args=(process, gangs), daemon=True).start()
    process.send(_ready(process))
    threading.Thread(target=_report_alive, args=(process,), daemon=True).start()
    while not process.lost:
        GangTraining(process, gangs.get()).run()
    process.send(Died(process.lost))
    os._exit(1)


def _ready(process: TrainingProcess) -> Ready:
    kind = process.engines.kind
    build, _ = available_kernel(process.kernel) if kind == "cpu" else (None, "")
    name, most = devices.device_name(kind), devices.most_ranks(kind)
    modules = process.plugin.modules if process.plugin else ()
    return Ready(kind, name, most, process.facts, build.name if build else None, has_torch(), modules)


def _follow(process: TrainingProcess) -> NoReturn:
    """Train each gang that rank 0 trains, with its jobs, checkpoints and facts."""
    while True:
        gang = RankGang.parse(process.wait_for_rank0())
        process.facts = gang.facts
        GangTraining(process, gang.jobs, gang.checkpoints).run()


def _report_alive(process: TrainingProcess) -> None:
    while True:
        time.sleep(ALIVE_SECONDS)
        process.send(Alive())


def _listen(process: TrainingProcess, gangs: queue.Queue[tuple[TrainJob, ...]]) -> None:
    """Apply commands as they come; end the process with its standard input."""
    for line in sys.stdin:
        command = parse_command(line)
        if isinstance(command, StopJob):
            process.stop_requests.add(command.token)
        elif isinstance(command, Leave):
            process.is_leaving = True
        else:
            gangs.put(command.jobs)
    os._exit(process.world.size > 1)  # the launcher ends the other ranks only where one of them fails
