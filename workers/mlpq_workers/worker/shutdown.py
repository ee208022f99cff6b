"""What SIGTERM and SIGINT do to a worker."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable

from mlpq_workers.worker.watchdog import exit_now


class ShutdownHandler:
    """Shuts the worker down: the first signal releases the running jobs and then exits, the second exits immediately.

    Celery's own shutdown takes seconds and is skipped: messages are only wake-ups, so nothing is lost.
    """

    def __init__(self, stop: Callable[[], None]) -> None:
        """`stop` releases the running jobs; it may take seconds."""
        self._stop, self._signaled = stop, False

    def install(self) -> None:
        """Handle signals from now on. Must be called in the main thread."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._handle)

    def _handle(self, *_: object) -> None:
        if self._signaled:
            exit_now(1, "second stop signal: exiting immediately")
        self._signaled = True
        # In a thread: a signal handler runs in the main thread, between any two instructions.
        threading.Thread(target=self._shut_down).start()

    def _shut_down(self) -> None:
        self._stop()
        exit_now(0, "worker stopped")
