"""A thread that exits the process when a part of it hangs; other workers then take its jobs over."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Sequence
from typing import NoReturn

CHECK_SECONDS = 5.0
CHECKS = 12  # without a tick until a pulse counts as hanging: 60 seconds
EXIT_STATUS = 70

log = logging.getLogger("mlpq.worker")


def exit_now(status: int, message: str) -> NoReturn:
    """Log the message and exit, even if logging hangs too. The training process ends with this process."""
    logging_thread = threading.Thread(target=log.critical if status else log.info, args=(message,), daemon=True)
    logging_thread.start()
    logging_thread.join(1)
    os._exit(status)


class Pulse:
    """Counts the ticks of a loop that must not hang. While it is `paused`, no ticks are expected."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.ticks = 0
        self.paused = False

    def tick(self) -> None:
        self.ticks += 1


class Watchdog:
    """Checks pulses. It counts checks and not seconds, because a process that was suspended did not hang."""

    def __init__(self, pulses: Sequence[Pulse]) -> None:
        self._pulses = pulses
        self._seen = [(-1, 0)] * len(pulses)

    def start(self) -> None:
        threading.Thread(target=self._run, name="watchdog", daemon=True).start()

    def _run(self) -> None:
        while True:
            time.sleep(CHECK_SECONDS)
            if hanging := self.check():
                exit_now(EXIT_STATUS, f"{hanging.name} has hung for {CHECKS * CHECK_SECONDS:.0f} s: the worker exits")

    def check(self) -> Pulse | None:
        """Check all pulses once; the first that hangs, or None."""
        for i, pulse in enumerate(self._pulses):
            ticks, missed = self._seen[i]
            missed = 0 if pulse.paused or pulse.ticks != ticks else missed + 1
            self._seen[i] = (pulse.ticks, missed)
            if missed >= CHECKS:
                return pulse
        return None
