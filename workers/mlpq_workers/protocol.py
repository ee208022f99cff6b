"""The training process's end of what joins it to its worker: what it is told at its start, and the pipe of events."""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import threading
import time
from dataclasses import asdict, dataclass
from typing import IO, Any


@dataclass(frozen=True)
class TrainingSettings:
    """What a training process is told at its start, as one argument of JSON.

    `parent` is the process that starts it. Without a `world_size` there is a rank for each GPU. `checkpoint_seconds` is
    the least time between two checkpoints of a job, `scratch` a folder that is removed with the process.
    """

    parent: int
    device: str
    world_size: int | None
    threads: int
    data_dir: str
    checkpoint_seconds: int
    scratch: str

    def dump(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def parse(cls, text: str) -> TrainingSettings:
        return cls(**json.loads(text))


def die_with_parent(parent: int) -> None:
    """End this process with its parent: by the kernel's signal where there is one, and within a second elsewhere."""
    if sys.platform == "linux":
        import ctypes

        set_parent_death_signal = 1
        ctypes.CDLL(None).prctl(set_parent_death_signal, signal.SIGKILL)
    if os.getppid() != parent:  # it died before
        os._exit(1)
    threading.Thread(target=_watch, args=(parent,), daemon=True).start()


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


class Pipe:
    """The child's end of the pipe of events."""

    def __init__(self, out: IO[str]) -> None:
        self._out, self._writing = out, threading.Lock()

    def tell(self, event: str, token: str = "", **more: Any) -> None:
        """Send an event to the parent."""
        line = json.dumps({"event": event, "token": token, **more}) + "\n"
        with self._writing:
            self._out.write(line)
            self._out.flush()

    def fileno(self) -> int:
        return self._out.fileno()


def own_output() -> Pipe:
    """The pipe of events, that was standard output. What libraries print goes to standard error, as logs do."""
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    return Pipe(out)
