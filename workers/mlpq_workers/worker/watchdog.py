"""A thread that ends the process when something in it hangs; its jobs are then taken over."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Sequence
from typing import NoReturn

LOOK_SECONDS = 5.0
LOOKS = 12  # without a tick, then it hangs: 60 seconds
EXIT_STATUS = 70

log = logging.getLogger("mlpq.worker")


def end(status: int, last_words: str) -> NoReturn:
    """End the process whatever hangs in it, the log too; the kernel takes its training process along."""
    speaking = threading.Thread(target=log.critical if status else log.info, args=(last_words,), daemon=True)
    speaking.start()
    speaking.join(1)
    os._exit(status)


class Pulse:
    """Ticks of something that must go on. While it `rests` nothing is expected of it."""

    def __init__(self, what: str) -> None:
        self.what = what
        self.ticks = 0
        self.rests = False

    def tick(self) -> None:
        self.ticks += 1


class Watchdog:
    """Looks at pulses, and counts its own looks and not the time: a process that was stopped did not hang."""

    def __init__(self, pulses: Sequence[Pulse]) -> None:
        self._pulses = pulses
        self._seen = [(-1, 0)] * len(pulses)

    def start(self) -> None:
        threading.Thread(target=self._run, name="watchdog", daemon=True).start()

    def _run(self) -> None:
        while True:
            time.sleep(LOOK_SECONDS)
            if hanging := self.look():
                end(EXIT_STATUS, f"{hanging.what} has not gone on for {LOOKS * LOOK_SECONDS:.0f} s; the worker ends")

    def look(self) -> Pulse | None:
        """One look; the pulse that hangs, if one does."""
        for i, pulse in enumerate(self._pulses):
            ticks, missed = self._seen[i]
            missed = 0 if pulse.rests or pulse.ticks != ticks else missed + 1
            self._seen[i] = (pulse.ticks, missed)
            if missed >= LOOKS:
                return pulse
        return None
