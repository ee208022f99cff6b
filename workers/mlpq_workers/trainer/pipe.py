"""The pipe of events to the worker, and the exit of this process when its parent exits."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import time
from typing import IO

from mlpq_workers.protocol import Event


class Pipe:
    """Sends events to the worker, from any thread."""

    def __init__(self, out: IO[str]) -> None:
        self._out, self._lock = out, threading.Lock()

    def send(self, event: Event) -> None:
        line = event.dump() + "\n"
        with self._lock:
            self._out.write(line)
            self._out.flush()

    def fileno(self) -> int:
        return self._out.fileno()


def own_output() -> Pipe:
    """Take standard output for events. What libraries print goes to standard error from now on, as logs do."""
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    return Pipe(out)


def die_with_parent(parent: int) -> None:
    """End this process when its parent ends: by a signal of the kernel on Linux, and within a second elsewhere."""
    if sys.platform == "linux":
        import ctypes

        set_parent_death_signal = 1
        ctypes.CDLL(None).prctl(set_parent_death_signal, signal.SIGKILL)
    if os.getppid() != parent:  # it ended before this process could register for the signal
        os._exit(1)
    threading.Thread(target=_exit_with, args=(parent,), daemon=True).start()


def _exit_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)
